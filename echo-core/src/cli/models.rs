//! `echo-asr models`: the catalogue and the store.

use super::arguments::ModelsCommand;
use super::terminal::DownloadBars;
use super::{DONE, FAILED, complain, interrupt};
use crate::error::{Error, Result};
use crate::models::{ModelKind, ModelStore, StoredModel, catalog};

pub(super) fn run(command: &ModelsCommand) -> u8 {
    let cancel = interrupt::token();
    let store = ModelStore::default().cancel_with(&cancel);
    let outcome = match command {
        ModelsCommand::List => list(&store),
        ModelsCommand::Pull(arguments) => pull(&store, &arguments.model, arguments.quiet),
        ModelsCommand::Path(arguments) => store.path(&arguments.model).map(|path| {
            println!("{}", path.display());
            DONE
        }),
        ModelsCommand::Verify(arguments) => store.verify(&arguments.model).map(|()| {
            println!("{}: every file has its hash", arguments.model);
            DONE
        }),
        ModelsCommand::Remove(arguments) => store.remove(&arguments.model).map(|was_there| {
            if was_there {
                println!("removed {}", arguments.model);
                return DONE;
            }
            eprintln!("error: {} is not in {}", arguments.model, store.root().display());
            FAILED
        }),
    };
    match outcome {
        Ok(code) => code,
        Err(Error::Cancelled) => interrupt::INTERRUPTED,
        Err(error) => complain("", &error),
    }
}

fn pull(store: &ModelStore, name: &str, quiet: bool) -> Result<u8> {
    let mut bars = DownloadBars::new(quiet);
    let model = store.pull(name, |download| bars.show(download))?;
    bars.finish();
    println!("{} from {}", model.path.display(), model.source);
    Ok(DONE)
}

fn list(store: &ModelStore) -> Result<u8> {
    let stored = store.list()?;
    println!("{:<20} {:>9}  {:<12} {:<12} on disk", "name", "size", "languages", "licence");
    for entry in catalog() {
        let languages = match entry.kind {
            ModelKind::Recognizer if !entry.is_multilingual => "English",
            ModelKind::Recognizer => "100",
            _ => "any",
        };
        let here = stored.iter().find(|model| model.name == entry.name);
        println!(
            "{:<20} {:>9}  {languages:<12} {:<12} {}",
            entry.name,
            megabytes(entry.size_bytes),
            entry.licence,
            here.map_or("", |model| model.source.as_str()),
        );
    }
    let is_known = |model: &&StoredModel| catalog().iter().any(|entry| entry.name == model.name);
    for model in stored.iter().filter(|model| !is_known(model)) {
        println!("{:<20} {:>9}  {}", model.name, megabytes(model.size_bytes), model.source);
    }
    println!("\nstore: {}", store.root().display());
    Ok(DONE)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
