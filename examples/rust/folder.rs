//! Many files with one model, short ones sharing a batch:
//! `cargo run --release -p echo-examples --bin folder -- recordings/`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::error::Error;
use std::path::PathBuf;

use echo_core::{TranscribeOptions, Transcriber};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: folder FOLDER")?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.retain(|path| path.is_file());
    files.sort();

    let transcriber = Transcriber::builder().build()?;
    let options = TranscribeOptions::default();
    for (index, result) in transcriber.transcribe_many(files.clone(), options)? {
        let name = files[index].display();
        match result {
            Ok(transcript) => println!("{name}: {}", transcript.text()),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    Ok(())
}
