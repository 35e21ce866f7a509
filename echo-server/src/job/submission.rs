//! What a client may ask for, read from JSON, form fields or a query and checked in one place.
//!
//! Every way in is first made a map of JSON values, so that a typo, a conflict or a value out of range
//! is found by one function, which reports all of them at once.

use echo_core::Task;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::options::{ChannelUse, JobOptions, Subtitle, Vad};
use crate::error::{Fault, Problem};

/// An end of a job that a callback may be told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackEvent {
    /// There is a transcript.
    Completed,
    /// There will be none.
    Failed,
    /// Nobody wants one any more.
    Cancelled,
}

/// All that a submission may say: options, and what is no matter of the recogniser.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// What is asked of the recogniser.
    pub options: JobOptions,
    /// `low` -1, `normal` 0, `interactive` 1.
    pub priority: i64,
    /// Where the end is reported.
    pub callback_url: Option<String>,
    /// The secret of those reports.
    pub callback_secret: Option<String>,
    /// Which ends are reported.
    pub callback_events: Vec<CallbackEvent>,
    /// Whether the text goes along.
    pub callback_include_result: bool,
    /// The client's own notes.
    pub metadata: Map<String, Value>,
    /// The client's own identifier.
    pub external_id: Option<String>,
}

/// A field as forms and queries have it: text, whose meaning depends on the option.
pub type TextField = (String, String);

/// Options whose text is itself JSON or a list.
const STRUCTURED: &[&str] = &["vad", "subtitle", "metadata"];
const LISTS: &[&str] = &["hotwords", "callback_events"];
/// Options that stay text even where they look like a number or a boolean.
const TEXTS: &[&str] = &[
    "language",
    "task",
    "model",
    "initial_prompt",
    "channels",
    "priority",
    "callback_url",
    "callback_secret",
    "external_id",
];
/// Those of them that may say anything.
const FREE_TEXTS: &[&str] = &["initial_prompt", "callback_secret", "external_id"];
const BOOLEANS: &[&str] =
    &["word_timestamps", "diarize", "condition_on_previous_text", "callback_include_result"];

impl Submission {
    /// Reads text fields as forms and queries have them, beside a JSON object of options.
    ///
    /// # Errors
    /// Every unknown, conflicting or faulty field.
    pub fn from_fields(
        options: Map<String, Value>,
        fields: Vec<TextField>,
        default_model: &str,
    ) -> Result<Self, Problem> {
        let mut faults = Vec::new();
        let mut values = options;
        for (name, text) in fields {
            let name = name.trim_end_matches("[]");
            // Forms made by Swagger UI and browsers send every field, empty where nothing was entered;
            // those made by scripts write `null`.
            if text.is_empty() || name.starts_with("x-") {
                continue;
            }
            if LISTS.contains(&name) {
                let items = text_list(&text);
                match values.entry(name.to_owned()).or_insert_with(|| json!([])) {
                    Value::Array(list) => list.extend(items),
                    _ => faults.push(Fault::option(name, "conflicting_field", "given twice")),
                }
                continue;
            }
            match text_value(name, &text) {
                Ok(value) => {
                    if values.insert(name.to_owned(), value).is_some() {
                        faults.push(Fault::option(name, "conflicting_field", "given twice"));
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            Self::from_map(values, default_model)
        } else {
            Err(Problem::options(faults))
        }
    }

    /// Reads a JSON object of options.
    ///
    /// # Errors
    /// Every unknown or faulty field.
    pub fn from_map(values: Map<String, Value>, default_model: &str) -> Result<Self, Problem> {
        let mut reader = Reader { values, faults: Vec::new() };
        let submission = reader.submission(default_model);
        let unknown: Vec<String> = reader.values.keys().cloned().collect();
        for name in unknown {
            reader.faults.push(Fault::option(&name, "unknown_field", "there is no such option"));
        }
        if reader.faults.is_empty() { Ok(submission) } else { Err(Problem::options(reader.faults)) }
    }
}

fn text_list(text: &str) -> Vec<Value> {
    match serde_json::from_str(text) {
        Ok(Value::Array(items)) => items,
        _ => text.split(',').map(|item| json!(item.trim())).collect(),
    }
}

fn text_value(name: &str, text: &str) -> Result<Value, Fault> {
    if text == "null" && !FREE_TEXTS.contains(&name) {
        return Ok(Value::Null);
    }
    if TEXTS.contains(&name) {
        return Ok(json!(text));
    }
    if BOOLEANS.contains(&name) {
        // Python's clients write their booleans with a capital.
        return match text {
            "true" | "True" | "1" => Ok(json!(true)),
            "false" | "False" | "0" => Ok(json!(false)),
            _ => Err(Fault::option(name, "out_of_range", "true or false")),
        };
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if STRUCTURED.contains(&name) => {
            Err(Fault::option(name, "out_of_range", "a JSON object"))
        }
        Err(_) => Ok(json!(text)),
    }
}

/// The value with its whole numbers written as such: 7.0 is 7, says JSON Schema.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e9 => {
                json!(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, field)| (name, whole(field))).collect())
        }
        other => other,
    }
}

/// Takes fields out of a map and notes what is wrong with them.
struct Reader {
    values: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Reader {
    /// The field, its default where it is absent or null, and a fault where it does not fit.
    fn take<T: for<'de> Deserialize<'de>>(
        &mut self,
        name: &str,
        default: T,
        expected: &str,
        fits: impl Fn(&T) -> bool,
    ) -> T {
        match self.values.remove(name) {
            None | Some(Value::Null) => default,
            Some(value) => match serde_json::from_value(whole(value)) {
                Ok(value) if fits(&value) => value,
                _ => {
                    self.faults.push(Fault::option(name, "out_of_range", expected));
                    default
                }
            },
        }
    }

    fn submission(&mut self, default_model: &str) -> Submission {
        let speakers = |count: &Option<usize>| count.is_none_or(|n| (1..=32).contains(&n));
        let at_most = |limit: usize| {
            move |text: &Option<String>| text.as_ref().is_none_or(|t| t.chars().count() <= limit)
        };
        let vad_fits = |v: &Vad| {
            let is_probability = |p: f32| (0.01..=0.99).contains(&p);
            is_probability(v.onset)
                && is_probability(v.offset)
                && v.offset <= v.onset
                && (5.0..=30.0).contains(&v.chunk_seconds)
        };
        let defaults = JobOptions::default();
        let options = JobOptions {
            language: self.take("language", None, "a language code such as pt, or null", |_| true),
            task: self.take("task", Task::Transcribe, "transcribe or translate", |_| true),
            model: self.take(
                "model",
                default_model.to_owned(),
                "the name of a model",
                |m: &String| !m.is_empty() && m.len() <= 200,
            ),
            initial_prompt: self.take(
                "initial_prompt",
                None,
                "at most 896 characters",
                at_most(896),
            ),
            hotwords: self.take(
                "hotwords",
                Vec::new(),
                "at most 100 words of 64 characters",
                |words: &Vec<String>| {
                    words.len() <= 100 && words.iter().all(|word| word.chars().count() <= 64)
                },
            ),
            temperature: self.take("temperature", 0.0, "0 to 1", |t| (0.0..=1.0).contains(t)),
            beam_size: self.take("beam_size", 5, "1 to 10", |n| (1..=10).contains(n)),
            word_timestamps: self.take("word_timestamps", true, "true or false", |_| true),
            diarize: self.take("diarize", false, "true or false", |_| true),
            num_speakers: self.take("num_speakers", None, "1 to 32", speakers),
            min_speakers: self.take("min_speakers", None, "1 to 32", speakers),
            max_speakers: self.take("max_speakers", None, "1 to 32", speakers),
            channels: self.take("channels", ChannelUse::Mix, "mix or split", |_| true),
            vad: self.take(
                "vad",
                defaults.vad,
                "{enabled, onset, offset: 0.01 to 0.99, offset at most onset, chunk_seconds: 5 to 30}",
                vad_fits,
            ),
            condition_on_previous_text: self.take(
                "condition_on_previous_text",
                false,
                "true or false",
                |_| true,
            ),
            subtitle: self.take(
                "subtitle",
                defaults.subtitle,
                "{max_line_width: 8 to 200, max_lines: 1 to 4, highlight_words}",
                Subtitle::fits,
            ),
        };
        self.check_speakers(&options);
        Submission {
            priority: self.priority(),
            callback_url: self.take("callback_url", None, "at most 2048 characters", at_most(2048)),
            callback_secret: self.take(
                "callback_secret",
                None,
                "at most 256 characters",
                at_most(256),
            ),
            callback_events: self.take(
                "callback_events",
                all_ends(),
                "completed, failed, cancelled",
                |events: &Vec<_>| events.len() <= 3,
            ),
            callback_include_result: self.take(
                "callback_include_result",
                false,
                "true or false",
                |_| true,
            ),
            metadata: self.take(
                "metadata",
                Map::new(),
                "16 keys of 64 characters with values of 512",
                metadata_fits,
            ),
            external_id: self.take(
                "external_id",
                None,
                "at most 128 characters, none of them NUL",
                // A text that not every database keeps.
                |id: &Option<String>| {
                    at_most(128)(id) && id.as_ref().is_none_or(|t| !t.contains('\0'))
                },
            ),
            options,
        }
    }

    fn priority(&mut self) -> i64 {
        let name: String = self.take(
            "priority",
            "normal".into(),
            "low, normal or interactive",
            |name: &String| matches!(name.as_str(), "low" | "normal" | "interactive"),
        );
        match name.as_str() {
            "low" => -1,
            "interactive" => 1,
            _ => 0,
        }
    }

    fn check_speakers(&mut self, options: &JobOptions) {
        let (least, most) = (options.min_speakers, options.max_speakers);
        if options.num_speakers.is_some() && (least.is_some() || most.is_some()) {
            let detail = "excludes min_speakers and max_speakers";
            self.faults.push(Fault::option("num_speakers", "out_of_range", detail));
        }
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            self.faults.push(Fault::option("min_speakers", "out_of_range", "at most max_speakers"));
        }
    }
}

fn all_ends() -> Vec<CallbackEvent> {
    vec![CallbackEvent::Completed, CallbackEvent::Failed, CallbackEvent::Cancelled]
}

fn metadata_fits(metadata: &Map<String, Value>) -> bool {
    let value_fits = |value: &Value| match value {
        Value::String(text) => text.chars().count() <= 512,
        Value::Object(_) | Value::Array(_) => false,
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    };
    let fits = |(key, value): (&String, &Value)| key.chars().count() <= 64 && value_fits(value);
    metadata.len() <= 16 && metadata.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Vec<TextField> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn fields_of_a_form_mean_what_their_option_says() {
        let given = fields(&[
            ("language", "pt"),
            ("beam_size", "2"),
            ("diarize", "1"),
            ("hotwords[]", "Echo"),
            ("hotwords[]", "Kühn"),
            ("initial_prompt", "42"),
            ("temperature", ""),
            ("max_speakers", "null"),
            ("external_id", "null"),
            ("vad", r#"{"onset": 0.6}"#),
            ("x-trace", "7"),
        ]);
        let read = Submission::from_fields(Map::new(), given, "base").unwrap();
        assert_eq!(read.options.language.unwrap().code(), "pt");
        assert_eq!((read.options.beam_size, read.options.diarize), (2, true));
        assert_eq!(read.options.hotwords, ["Echo", "Kühn"]);
        assert_eq!(read.options.initial_prompt.as_deref(), Some("42"));
        assert_eq!((read.options.vad.onset, read.options.vad.enabled), (0.6, true));
        assert_eq!(read.options.model, "base");
        assert_eq!((read.options.max_speakers, read.external_id), (None, Some("null".to_owned())));
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        let given = json!({"beam_size": 7.0, "subtitle": {"max_lines": 3.0}, "temperature": 1.0});
        let Value::Object(given) = given else { unreachable!() };
        let options = Submission::from_map(given, "base").unwrap().options;
        assert_eq!(
            (options.beam_size, options.subtitle.max_lines, options.temperature),
            (7, 3, 1.0)
        );
        let Value::Object(given) = json!({"beam_size": 7.5}) else { unreachable!() };
        assert!(Submission::from_map(given, "base").is_err());
    }

    #[test]
    fn notes_of_the_client_are_short_and_flat() {
        let read = |metadata: Value| {
            let given = [("metadata".to_owned(), metadata)].into_iter().collect();
            Submission::from_map(given, "base").is_ok()
        };
        assert!(read(json!({"é": "é".repeat(512), "n": 1.5, "b": true, "none": null})));
        assert!(!read(json!({"long": "é".repeat(513)})));
        assert!(!read(json!({"é".repeat(65): 1})));
        assert!(!read(json!({"nested": {"a": 1}})));
    }

    #[test]
    fn an_identifier_of_the_client_is_a_text_that_every_database_keeps() {
        let read =
            |id: &str| Submission::from_fields(Map::new(), fields(&[("external_id", id)]), "base");
        assert_eq!(read("a\u{1}é").unwrap().external_id.as_deref(), Some("a\u{1}é"));
        assert_eq!(read("a\0b").unwrap_err().status, 422);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let given = fields(&[("beam_size", "99"), ("langauge", "pt"), ("diarize", "maybe")]);
        let problem = Submission::from_fields(Map::new(), given, "base").unwrap_err();
        assert_eq!(problem.code, "invalid_option");
        let given = fields(&[("beam_size", "99"), ("langauge", "pt"), ("num_speakers", "0")]);
        let problem = Submission::from_fields(Map::new(), given, "base").unwrap_err();
        let pointers: Vec<&str> = problem.faults.iter().map(|f| f.pointer.as_str()).collect();
        assert_eq!(pointers, ["/options/beam_size", "/options/num_speakers", "/options/langauge"]);
    }

    #[test]
    fn an_option_given_twice_is_a_conflict() {
        let options = serde_json::from_str(r#"{"beam_size": 2}"#).unwrap();
        let problem =
            Submission::from_fields(options, fields(&[("beam_size", "2")]), "base").unwrap_err();
        assert_eq!(problem.code, "conflicting_field");
    }

    #[test]
    fn options_survive_the_database() {
        let given = fields(&[("language", "de"), ("channels", "split"), ("num_speakers", "2")]);
        let options = Submission::from_fields(Map::new(), given, "base").unwrap().options;
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<JobOptions>(&text).unwrap(), options);
        assert!(!options.canonical().contains("max_line_width"));
    }
}
