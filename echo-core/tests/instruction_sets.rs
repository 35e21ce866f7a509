//! Every instruction set that the CPU's kernels are written for gives the same text, in one and the
//! same format.

mod support;

use std::process::Command;

use support::dialogue;

#[test]
fn every_instruction_set_writes_the_same_text() {
    let Some(program) = option_env!("CARGO_BIN_EXE_echo-asr") else {
        return eprintln!("skipped: the command line needs the feature `cli`");
    };
    let Some(store) = std::env::var_os("ECHO_TEST_STORE") else {
        return eprintln!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
    };
    // One that the machine lacks is the best it has.
    let texts = ["avx512", "avx2", "portable"].map(|cap| {
        let output = Command::new(program)
            .args(["transcribe", "--offline", "--quiet", "--device", "cpu"])
            .args(["--compute-type", "f32", "--beam-size", "1", "-f", "srt"])
            .arg(dialogue())
            .env("ECHO_CPU", cap)
            .env("ECHO_CACHE", &store)
            .output()
            .unwrap();
        assert!(output.status.success(), "{cap}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(texts[0].contains("bees"), "{}", texts[0]);
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
}
