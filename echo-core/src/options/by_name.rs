//! Options by name, for callers that have names and values instead of types: bindings, forms, files.
//!
//! Names and types are read off the derived `Deserialize` of the options, so that an option added to
//! them can be set here at once. What does not fit is an [`Error::Option`] in the same words as any
//! other wrong value.

use serde::Serialize;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde_json::{Map, Value};

use super::{DecodeOptions, TranscribeOptions};
use crate::error::{Error, Result};

impl TranscribeOptions {
    /// Sets one option by its name; those of [`DecodeOptions`] go by their own names, too.
    ///
    /// An object for `decode` or `vad` sets the options it names and leaves the others alone.
    ///
    /// ```
    /// use echo_core::TranscribeOptions;
    ///
    /// let mut options = TranscribeOptions::default();
    /// options.set("language", "de")?;
    /// options.set("beam_size", 1)?;
    /// assert_eq!(options.decode.beam_size, 1);
    /// let error = options.set("beam_size", "one").unwrap_err();
    /// assert_eq!(error.to_string(), "option `beam_size` is \"one\", expected a whole number, 0 or more");
    /// # Ok::<(), echo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Option`] for a name that is none, and for a value of another type than the option's.
    /// Whether a number is in range is [`validate`](Self::validate)'s to say.
    pub fn set(&mut self, name: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        match (name, value) {
            ("decode", Value::Object(values)) => set_all(&mut self.decode, values),
            ("vad", Value::Object(values)) => set_all(&mut self.vad, values),
            (_, value) if fields::<DecodeOptions>().contains(&name) => {
                set(&mut self.decode, name, value)
            }
            (_, value) => set(self, name, value),
        }
    }

    /// Every name that [`set`](Self::set) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        fields::<Self>().iter().chain(fields::<DecodeOptions>()).copied()
    }
}

fn set_all<T: Serialize + DeserializeOwned>(
    target: &mut T,
    values: Map<String, Value>,
) -> Result<()> {
    values.into_iter().try_for_each(|(name, value)| set(target, &name, value))
}

/// Replaces one field by way of JSON, which checks its type.
fn set<T: Serialize + DeserializeOwned>(target: &mut T, name: &str, value: Value) -> Result<()> {
    let Some(&option) = fields::<T>().iter().find(|field| **field == name) else {
        let value = format!("`{name}`");
        return Err(Error::Option { option: "options", value, expected: "the name of an option" });
    };
    let shown = value.to_string();
    let is_list = value.is_array();
    let mut all = serde_json::to_value(&*target).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut all {
        fields.insert(option.to_owned(), value);
    }
    *target = serde_json::from_value(all).map_err(|error| {
        let reason = error.to_string();
        match expectation(option, is_list, &reason) {
            Some(expected) => Error::Option { option, value: shown, expected },
            None => {
                let value = format!("{shown} ({reason})");
                Error::Option { option, value, expected: "a value of its type" }
            }
        }
    })?;
    Ok(())
}

/// What would have been accepted, in words: by the option where its type says little, else by the
/// type that the deserialiser missed.
fn expectation(option: &str, is_list: bool, reason: &str) -> Option<&'static str> {
    match option {
        "language" => return Some("a code such as en, de or yue, or an English name"),
        "task" => return Some("transcribe or translate"),
        "mode" => return Some("batched or sequential"),
        "align" => return Some("auto, ctc, attention or none"),
        "channels" => return Some(r#"mix, each or {"one": N}"#),
        "clips" => return Some(r#"a list of {"start": seconds, "end": seconds}"#),
        _ => {}
    }
    let (_, missed) = reason.rsplit_once("expected ")?;
    match (missed, is_list) {
        ("usize" | "u64" | "u32" | "u16", false) => Some("a whole number, 0 or more"),
        ("i64" | "i32", false) => Some("a whole number"),
        ("f32" | "f64", false) => Some("a number"),
        ("usize" | "u64" | "u32" | "u16" | "i64" | "i32", true) => Some("a list of whole numbers"),
        ("f32" | "f64", true) => Some("a list of numbers"),
        ("a boolean", _) => Some("true or false"),
        ("a string", _) => Some("a string"),
        ("a sequence", _) => Some("a list"),
        _ => None,
    }
}

/// The names of a struct's fields, as its `Deserialize` asks for them.
fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It always answers with an error: nothing is read, only the names are wanted.
    let _ = T::deserialize(Names(&mut names));
    names
}

struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(_visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only names are read"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::{Channels, Mode};

    #[test]
    fn every_option_can_be_set_by_its_name_to_its_own_value() {
        let defaults = TranscribeOptions::default();
        let json = serde_json::to_value(&defaults).unwrap();
        let mut options = defaults.clone();
        let mut count = 0;
        for name in TranscribeOptions::names() {
            let value = json.get(name).or_else(|| json["decode"].get(name)).unwrap().clone();
            // Floats are written as doubles, which a single-precision option takes back exactly.
            options.set(name, value).unwrap();
            count += 1;
        }
        assert_eq!(options, defaults);
        assert!(count > 20);
    }

    #[test]
    fn values_reach_their_places() {
        let mut options = TranscribeOptions::default();
        options.set("mode", "sequential").unwrap();
        options.set("channels", json!({"one": 1})).unwrap();
        options.set("temperatures", [0.0, 0.5]).unwrap();
        options.set("length_penalty", None::<f32>).unwrap();
        options.set("vad", json!({"onset": 0.25})).unwrap();
        assert_eq!(options.mode, Mode::Sequential);
        assert_eq!(options.channels, Channels::One(1));
        assert_eq!(options.decode.temperatures, [0.0, 0.5]);
        assert_eq!(options.decode.length_penalty, None);
        assert_eq!((options.vad.onset, options.vad.offset), (0.25, 0.35));
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        let mut options = TranscribeOptions::default();
        let cases = [
            (
                "beam_size",
                json!(-1),
                "option `beam_size` is -1, expected a whole number, 0 or more",
            ),
            ("patience", json!("p"), "option `patience` is \"p\", expected a number"),
            (
                "temperatures",
                json!(["a"]),
                "option `temperatures` is [\"a\"], expected a list of numbers",
            ),
            ("suppress_blank", json!(1), "option `suppress_blank` is 1, expected true or false"),
            ("task", json!("sing"), "option `task` is \"sing\", expected transcribe or translate"),
            (
                "vad",
                json!({"loud": 1}),
                "option `options` is `loud`, expected the name of an option",
            ),
            ("beam", json!(1), "option `options` is `beam`, expected the name of an option"),
        ];
        for (name, value, message) in cases {
            assert_eq!(options.set(name, value).unwrap_err().to_string(), message);
        }
        let error = options.set("language", "klingon").unwrap_err().to_string();
        assert!(error.contains("klingon") && error.contains("yue"), "{error}");
        assert_eq!(options, TranscribeOptions::default());
    }
}
