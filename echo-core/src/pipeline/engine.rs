//! Everything that stays loaded between runs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::networks::Networks;
use crate::align::acoustic::Acoustic;
use crate::device::{ComputeType, Device};
use crate::error::{Error, Result};
use crate::kernels::cpu::Cpu;
use crate::kernels::cpu::trim::Trim;
use crate::kernels::select::{Choice, select};
use crate::language::Language;
use crate::models::{self, ModelStore};
use crate::threads::{Threads, check_threads};
use crate::vad::silero::Silero;
use crate::whisper::Recognizer;

/// What costs load time or memory.
#[derive(Debug, Clone)]
pub(crate) struct EngineOptions {
    pub(crate) device: Device,
    pub(crate) compute_type: ComputeType,
    /// Threads for work on the CPU; `None` leaves it to the machine.
    pub(crate) threads: Option<usize>,
    /// Windows decoded at once.
    pub(crate) batch_size: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { device: Device::Auto, compute_type: ComputeType::Auto, threads: None, batch_size: 8 }
    }
}

impl EngineOptions {
    /// Checks every value.
    pub(crate) fn validate(&self) -> Result<()> {
        check_threads(self.threads)?;
        match self.batch_size {
            batch_size @ (0 | 257..) => Err(Error::Option {
                option: "batch_size",
                value: batch_size.to_string(),
                expected: "1 to 256",
            }),
            _ => Ok(()),
        }
    }
}

/// A loaded model with all that runs around it; shared by threads.
pub(crate) struct Engine {
    pub(super) recognizer: Recognizer,
    pub(super) vad: Silero,
    pub(crate) networks: Networks,
    model: String,
    /// What decides the bits of a run, of all that is loaded.
    pub(super) print: String,
    choice: Choice,
    batch_size: usize,
    threads: usize,
    /// Where the acoustic models of languages are looked for.
    store: ModelStore,
    /// The acoustic model that was named.
    aligner: Option<Arc<Acoustic>>,
    /// The last acoustic model that a language was found to have, by its repository.
    stored_aligner: Mutex<Option<(String, Arc<Acoustic>)>>,
    /// The last field: fields are dropped in this order.
    _trim: Trim,
}

impl Engine {
    /// Loads the model at `path`, called `model` in messages.
    pub(crate) fn load(
        model: &str,
        path: &Path,
        store: ModelStore,
        options: &EngineOptions,
    ) -> Result<Self> {
        let choice = select(options.device, options.compute_type)?;
        let checkpoint = models::open(path)?;
        let stages = Threads::new(options.threads)?;
        let recognizer = Recognizer::load(&checkpoint, choice, options.threads, &stages)?;
        Ok(Self {
            recognizer,
            vad: Silero::new()?.on(&stages),
            networks: Networks::new(store.clone(), choice.compute, stages),
            model: model.to_owned(),
            print: print(path, choice, options.batch_size)?,
            choice,
            batch_size: options.batch_size,
            threads: options.threads.unwrap_or_else(processors),
            store,
            aligner: None,
            stored_aligner: Mutex::default(),
            _trim: Trim,
        })
    }

    /// Loads an acoustic model that places the words of every run that asks for it.
    pub(crate) fn load_aligner(&mut self, name: &str, path: &Path) -> Result<()> {
        self.aligner = Some(Arc::new(Acoustic::load(name, path, self.threads)?));
        Ok(())
    }

    /// The acoustic model that was named.
    pub(super) fn aligner(&self) -> Option<Arc<Acoustic>> {
        self.aligner.clone()
    }

    /// The acoustic model of a repository, if the store has it; nothing is downloaded.
    pub(super) fn stored_aligner(&self, repository: &str) -> Result<Option<Arc<Acoustic>>> {
        // Whoever panicked while it loaded left nothing half done behind.
        let mut last = self.stored_aligner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, aligner)) = last.as_ref().filter(|(name, _)| name == repository) {
            return Ok(Some(Arc::clone(aligner)));
        }
        let Ok(path) = self.store.path(repository) else { return Ok(None) };
        let aligner = Arc::new(Acoustic::load(repository, &path, self.threads)?);
        *last = Some((repository.to_owned(), Arc::clone(&aligner)));
        Ok(Some(aligner))
    }

    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    pub(crate) fn device(&self) -> Device {
        self.choice.device
    }

    pub(crate) fn compute_type(&self) -> ComputeType {
        self.choice.compute
    }

    pub(crate) fn is_multilingual(&self) -> bool {
        self.recognizer.tokenizer.is_multilingual
    }

    pub(super) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// A model for English knows no other language.
    pub(super) fn check_language(&self, language: Language) -> Result<()> {
        if self.recognizer.tokenizer.special.language(language).is_some() || language.code() == "en"
        {
            return Ok(());
        }
        Err(Error::Option {
            option: "language",
            value: format!("`{language}`"),
            expected: "a language that the model knows",
        })
    }
}

/// Which weights are computed with, where, and how many windows at once.
fn print(path: &Path, choice: Choice, batch_size: usize) -> Result<String> {
    let weights: String =
        models::identity(path)?.iter().map(|byte| format!("{byte:02x}")).collect();
    let instructions = match choice.device {
        Device::Cpu => Cpu::instructions(),
        _ => "",
    };
    // One GPU of a machine is as good as another.
    let device = choice.device.to_string();
    let device = device.split(':').next().unwrap_or_default();
    Ok(format!("{weights} {device} {instructions} {} {batch_size}", choice.compute))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
