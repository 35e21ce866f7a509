//! A Whisper checkpoint on disk, in whichever format: sizes, weights, vocabulary.

use std::path::Path;

use super::config::{Hints, WhisperConfig};
use super::folder::{self, Format};
use super::table::{FileBytes, Parsed, TensorTable};
use super::vocabulary::Vocabulary;
use super::weights::Weights;
use super::{ctranslate2, ggml, gguf, names, pytorch, safetensors};
use crate::error::{Error, Result};

/// A Whisper model, ready to be packed for a device.
pub(crate) struct Checkpoint {
    /// What was asked for, as errors call it.
    pub(crate) name: String,
    /// What the file is.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look which reader was taken"))]
    pub(crate) format: Format,
    /// Sizes and special tables.
    pub(crate) config: WhisperConfig,
    /// The tensors, under Hugging Face's names.
    pub(crate) weights: Box<dyn Weights>,
    vocabulary: Option<Vocabulary>,
}

/// What one file says beside its tensors.
#[derive(Default)]
struct Extras {
    hints: Hints,
    vocabulary: Option<Vocabulary>,
}

/// Opens a checkpoint: a file, an index of shards, or a folder. The format is told by the content.
///
/// ```text
/// open("base/model.bin")?.config.d_model == 512
/// ```
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, [`Error::Model`] if it is no Whisper checkpoint.
pub(crate) fn open(path: &Path) -> Result<Checkpoint> {
    let name = path.display().to_string();
    let files = folder::weight_files(path)?;
    let mut table = TensorTable::new(&name);
    let mut extras = Extras::default();
    let mut formats = Vec::new();
    for file in &files {
        let failed = |reason: String| {
            let place = if file == path { String::new() } else { format!("{}: ", file.display()) };
            Error::model(&name, format!("{place}{reason}"))
        };
        let bytes = FileBytes::map(file)?;
        let head = &bytes[..bytes.len().min(64)];
        let format = Format::of(head).ok_or_else(|| failed(unknown_format(head)))?;
        add_file(&mut table, bytes, format, &mut extras).map_err(failed)?;
        formats.push(format);
    }
    let format = formats.first().copied().unwrap_or(Format::Safetensors);
    if formats.iter().any(|other| *other != format) {
        return Err(Error::model(&name, "has shards of different formats, expected one"));
    }
    let mut table = match format {
        Format::CTranslate2 => table.rename(ctranslate2::whisper_names)?,
        _ => table.rename(|name| vec![(names::canonical(name), (0, 1))])?,
    };
    table.flatten_biases();

    let beside = files.first().and_then(|file| file.parent()).unwrap_or(Path::new("."));
    // ggml and OpenAI's files say all there is; what lies beside them may belong to another model.
    let is_complete = extras.hints.encoder_heads.is_some() && format != Format::CTranslate2;
    if !is_complete {
        add_config_files(&name, beside, &mut extras.hints)?;
    }
    let config = WhisperConfig::from_weights(&name, &table, &extras.hints)?;
    let vocabulary = match extras.vocabulary {
        Some(vocabulary) => Some(vocabulary),
        None => find_vocabulary(&name, beside, config.vocab)?,
    };
    Ok(Checkpoint { name, format, config, weights: Box::new(table), vocabulary })
}

impl Checkpoint {
    /// The plain tokens.
    ///
    /// # Errors
    /// [`Error::Model`] if neither the checkpoint nor its folder has a vocabulary.
    pub(crate) fn vocabulary(&self) -> Result<&Vocabulary> {
        self.vocabulary.as_ref().ok_or_else(|| {
            let reason = format!(
                "has {} tokens but no vocabulary, expected {} beside the weights",
                self.config.vocab,
                VOCABULARY_FILES.map(|(name, _)| name).join(", ")
            );
            Error::model(&self.name, reason)
        })
    }
}

fn add_file(
    table: &mut TensorTable,
    bytes: FileBytes,
    format: Format,
    extras: &mut Extras,
) -> Parsed<()> {
    let tensors = match format {
        Format::Safetensors => safetensors::parse(&bytes)?,
        Format::Gguf => gguf::parse(&bytes)?,
        Format::CTranslate2 => {
            let model = ctranslate2::parse(&bytes)?;
            let number = |name| model.numbers.get(name).and_then(|&n| usize::try_from(n).ok());
            extras.hints.encoder_heads = number("encoder/num_heads");
            extras.hints.decoder_heads = number("decoder/num_heads");
            model.tensors
        }
        Format::Ggml => {
            let model = ggml::parse(&bytes)?;
            extras.hints.encoder_heads = Some(model.heads[0]);
            extras.hints.decoder_heads = Some(model.heads[1]);
            extras.vocabulary = Some(Vocabulary::from_tokens(model.tokens));
            model.tensors
        }
        Format::PyTorch => {
            let model = pytorch::parse(&bytes)?;
            let number = |name| model.numbers.get(name).and_then(|&n| usize::try_from(n).ok());
            extras.hints.encoder_heads = number("dims/n_audio_head");
            extras.hints.decoder_heads = number("dims/n_text_head");
            table.add(FileBytes::Owned(model.ordered_bytes), model.ordered)?;
            model.tensors
        }
    };
    table.add(bytes, tensors)
}

fn unknown_format(head: &[u8]) -> String {
    if pytorch::is_legacy(head) {
        return "is a PyTorch file from before version 1.6; load and save it with a newer one"
            .to_owned();
    }
    if head.starts_with(b"version https://git-lfs") {
        return "is a Git LFS pointer and not the weights; fetch them with `git lfs pull`"
            .to_owned();
    }
    format!(
        "begins with {:02x?}, which is no known format: safetensors, CTranslate2, ggml, GGUF or \
         PyTorch",
        &head[..head.len().min(8)]
    )
}

fn add_config_files(name: &str, folder: &Path, hints: &mut Hints) -> Result<()> {
    for file in ["generation_config.json", "config.json"] {
        if let Some(json) = folder::read_text(&folder.join(file))? {
            let failed = |reason| Error::model(name, format!("{file}: {reason}"));
            hints.add_json(&json).map_err(failed)?;
        }
    }
    Ok(())
}

type Reader = fn(&[u8]) -> Parsed<Vocabulary>;

const VOCABULARY_FILES: [(&str, Reader); 4] = [
    ("tokenizer.json", Vocabulary::from_tokenizer_json),
    ("vocabulary.json", Vocabulary::from_vocab_json),
    ("vocabulary.txt", Vocabulary::from_lines),
    ("vocab.json", Vocabulary::from_vocab_json),
];

/// The vocabulary beside the weights, else the one of OpenAI's models of this size.
fn find_vocabulary(name: &str, folder: &Path, vocab: usize) -> Result<Option<Vocabulary>> {
    let embedded = Vocabulary::embedded(vocab);
    for (file, read) in VOCABULARY_FILES {
        let Some(bytes) = folder::read_text(&folder.join(file))? else { continue };
        let failed = |reason| Error::model(name, format!("{file}: {reason}"));
        let vocabulary = read(&bytes).map_err(failed)?;
        // Another size belongs to another model in the same folder.
        let fits = match &embedded {
            Some(embedded) => vocabulary.len() == embedded.len(),
            None => vocabulary.len() < vocab,
        };
        if fits {
            return Ok(Some(vocabulary));
        }
    }
    Ok(embedded)
}
