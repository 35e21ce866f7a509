//! Every instruction set that the CPU's kernels are written for gives the same text in f32, and in int8 one
//! that means the same.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests too")]

mod support;

use std::process::Command;

use support::dialogue;

const IS_ARM: bool = cfg!(target_arch = "aarch64");

/// Subtitles of the dialogue by a format and an instruction set; the best there is where the machine lacks it.
/// Nothing where there is no program or no model to run.
fn text_by(cap: &str, compute_type: &str) -> Option<String> {
    let Some(program) = option_env!("CARGO_BIN_EXE_echo-asr") else {
        eprintln!("skipped: the command line needs the feature `cli`");
        return None;
    };
    let Some(store) = std::env::var_os("ECHO_TEST_STORE") else {
        eprintln!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
        return None;
    };
    let output = Command::new(program)
        .args(["transcribe", "--offline", "--quiet", "--device", "cpu"])
        .args(["--compute-type", compute_type, "--beam-size", "1", "-f", "srt"])
        .arg(dialogue())
        .env("ECHO_CPU", cap)
        .env("ECHO_CACHE", &store)
        .output()
        .unwrap();
    let refused = compute_type != "f32" && output.status.code() == Some(2);
    if refused {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    assert!(output.status.success(), "{cap}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_instruction_set_writes_the_same_text() {
    let fast: &[&str] = if IS_ARM { &["neon"] } else { &["avx512", "avx2"] };
    let texts =
        fast.iter().chain(&["portable"]).filter_map(|cap| text_by(cap, "f32")).collect::<Vec<_>>();
    for text in &texts {
        assert!(text.contains("bees"), "{text}");
        assert_eq!(text, &texts[0]);
    }
}

#[test]
fn every_instruction_set_understands_in_int8() {
    let x86 = ["amx", "avx512", "avx512-2017", "avx-vnni", "avx2"];
    for cap in if IS_ARM { &["neon"][..] } else { &x86 } {
        let Some(text) = text_by(cap, "int8") else { continue };
        for word in ["bees", "roof", "flowers", "gardens", "honey", "winter"] {
            assert!(text.contains(word), "{word} by {cap}: {text}");
        }
    }
}
