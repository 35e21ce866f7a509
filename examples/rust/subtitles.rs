//! A recording to subtitles: `cargo run --release -p echo-examples --bin subtitles -- talk.mp4`.
#![expect(clippy::print_stderr, reason = "a program talks to its user")]

use std::error::Error;
use std::path::PathBuf;

use echo_core::Transcriber;
use echo_core::formats::Srt;

fn main() -> Result<(), Box<dyn Error>> {
    let source = std::env::args().nth(1).ok_or("usage: subtitles FILE")?;
    let target = PathBuf::from(&source).with_extension("srt");

    let transcriber = Transcriber::builder()
        .model("base")
        .on_download(|download| eprint!("\r{}: {} bytes", download.file, download.done_bytes))
        .build()?;
    let transcript = transcriber
        .request(source)
        .on_progress(|progress| eprint!("\r{:3.0} %", progress.fraction * 100.0))
        .run()?;

    transcript.save_as(&target, Srt::default().max_line_chars(42).max_lines(2))?;
    eprintln!("\rwrote {}", target.display());
    Ok(())
}
