//! The fields of OpenAI's forms as options of ours.

use echo_core::Task;
use serde_json::Map;

use crate::error::{Fault, Problem};
use crate::job::{Submission, TextField};

/// Names under which OpenAI's clients know the model of this server.
const ALIASES: [&str; 4] =
    ["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize"];

/// Fields of ours that go through as they are.
const OURS: [&str; 9] = [
    "language",
    "diarize",
    "num_speakers",
    "min_speakers",
    "max_speakers",
    "hotwords",
    "beam_size",
    "external_id",
    "word_timestamps",
];

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Text,
    Srt,
    Vtt,
    VerboseJson,
    DiarizedJson,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) submission: Submission,
    pub(super) format: Format,
    pub(super) has_words: bool,
    pub(super) has_segments: bool,
    pub(super) is_streamed: bool,
    /// Fields that meant nothing here.
    pub(super) ignored: Vec<String>,
}

/// Every name of the model.
pub(in crate::routes) fn names(model: &str) -> Vec<String> {
    let aliases = ALIASES.iter().map(|alias| (*alias).to_owned());
    std::iter::once(model.to_owned()).chain(aliases).collect()
}

/// There is no such model.
pub(super) fn no_model(name: &str) -> Problem {
    let mut problem = Problem::new(404, "model_not_found", format!("there is no model `{name}`"));
    problem.faults = vec![Fault::option("model", "out_of_range", "a model of /v1/models")];
    problem
}

impl Asked {
    /// Reads a form, in any order and with either spelling of lists.
    pub(super) fn read(form: Vec<TextField>, model: &str, task: Task) -> Result<Self, Problem> {
        let (mut ours, mut granularities, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
        let (mut format, mut is_streamed, mut asks_speakers) = (Format::Json, false, false);
        for (name, text) in form {
            let name = name.trim_end_matches("[]");
            match name {
                "model" => {
                    if !text.is_empty() && !names(model).contains(&text) {
                        return Err(no_model(&text));
                    }
                    asks_speakers |= text.ends_with("-diarize");
                }
                "prompt" => {
                    ours.push(("initial_prompt".to_owned(), text.chars().take(896).collect()))
                }
                "temperature" => ours.push(("temperature".to_owned(), text)),
                "keywords" => ours.push(("hotwords".to_owned(), text)),
                "response_format" => format = read_format(&text)?,
                "timestamp_granularities" => {
                    granularities.extend(text.split(',').map(|item| item.trim().to_owned()))
                }
                "stream" => {
                    is_streamed = match text.as_str() {
                        "true" | "True" => true,
                        "" | "false" | "False" => false,
                        _ => return Err(bad("stream", "true or false")),
                    }
                }
                name if OURS.contains(&name) => ours.push((name.to_owned(), text)),
                other => ignored.push(other.to_owned()),
            }
        }
        for item in &granularities {
            if item != "word" && item != "segment" {
                return Err(bad("timestamp_granularities", "word or segment"));
            }
        }
        if !granularities.is_empty() && format != Format::VerboseJson {
            return Err(bad("timestamp_granularities", "response_format must be verbose_json"));
        }
        if is_streamed && !matches!(format, Format::Json | Format::Text | Format::DiarizedJson) {
            return Err(bad("stream", "response_format must be json, text or diarized_json"));
        }
        let has_words = granularities.iter().any(|item| item == "word");
        let has_segments =
            granularities.is_empty() || granularities.iter().any(|item| item == "segment");
        if format == Format::DiarizedJson {
            asks_speakers = true;
        }
        if asks_speakers && !ours.iter().any(|(name, _)| name == "diarize") {
            ours.push(("diarize".to_owned(), "true".to_owned()));
        }
        let mut submission = Submission::from_fields(Map::new(), ours, model)?;
        submission.options.task = task;
        submission.options.word_timestamps = has_words;
        Ok(Self { submission, format, has_words, has_segments, is_streamed, ignored })
    }
}

fn read_format(text: &str) -> Result<Format, Problem> {
    match text {
        "" | "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        "srt" => Ok(Format::Srt),
        "vtt" => Ok(Format::Vtt),
        "verbose_json" => Ok(Format::VerboseJson),
        "diarized_json" => Ok(Format::DiarizedJson),
        _ => Err(bad("response_format", "json, text, srt, vtt, verbose_json or diarized_json")),
    }
}

fn bad(name: &str, expected: &str) -> Problem {
    let mut problem = Problem::new(400, "invalid_option", format!("{name}: {expected}"));
    problem.faults = vec![Fault::option(name, "out_of_range", expected)];
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &[(&str, &str)]) -> Result<Asked, Problem> {
        let form = form.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        Asked::read(form, "base", Task::Transcribe)
    }

    #[test]
    fn forms_of_both_clients_are_understood() {
        let asked = read(&[
            ("model", "whisper-1"),
            ("response_format", "verbose_json"),
            ("timestamp_granularities[]", "word"),
            ("include[]", "logprobs"),
        ])
        .unwrap();
        assert!(asked.has_words && !asked.has_segments && !asked.is_streamed);
        assert_eq!(asked.ignored, ["include"]);
        assert_eq!(asked.submission.options.model, "base");
        let asked = read(&[("model", "gpt-4o-transcribe-diarize"), ("stream", "true")]).unwrap();
        assert!(asked.submission.options.diarize && asked.is_streamed);
        let asked = read(&[("response_format", "verbose_json")]).unwrap();
        assert!(asked.has_segments && !asked.has_words);
    }

    #[test]
    fn what_openai_refuses_is_refused() {
        let code = |form: &[(&str, &str)]| {
            read(form).map_err(|problem| (problem.status.as_u16(), problem.code)).err()
        };
        assert_eq!(code(&[("model", "gpt-9")]), Some((404, "model_not_found")));
        assert_eq!(code(&[("timestamp_granularities[]", "word")]), Some((400, "invalid_option")));
        assert_eq!(code(&[("response_format", "xml")]), Some((400, "invalid_option")));
        assert_eq!(
            code(&[("stream", "true"), ("response_format", "srt")]),
            Some((400, "invalid_option"))
        );
    }
}
