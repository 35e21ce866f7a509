//! Segments as they are decoded, until enough was heard:
//! `cargo run --release -p echo-examples --bin live -- talk.mp3 20`.
#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::error::Error;

use echo_core::Transcriber;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().ok_or("usage: live FILE [SEGMENTS]")?;
    let enough = arguments.next().map_or(Ok(usize::MAX), |count| count.parse())?;

    let transcriber = Transcriber::builder().build()?;
    // Dropping the iterator stops the work.
    for segment in transcriber.request(source).segments()?.take(enough) {
        let segment = segment?;
        println!("[{:7.2} {:7.2}] {}", segment.start, segment.end, segment.text);
    }
    Ok(())
}
