//! `--name value` arguments of the measuring programs.

use std::collections::HashMap;
use std::str::FromStr;

use crate::Result;

/// The arguments of a program: options with a value, switches without, and the rest.
///
/// ```
/// use echo_benches::arguments::Arguments;
///
/// let given = ["--runs", "3", "--quiet", "a.wav"].map(String::from);
/// let arguments = Arguments::parse(given, &["runs"], &["quiet"])?;
/// assert_eq!(arguments.value("runs", 1)?, 3);
/// assert!(arguments.has("quiet"));
/// assert_eq!(arguments.rest, ["a.wav"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Arguments {
    values: HashMap<String, String>,
    switches: Vec<String>,
    /// What is neither an option nor a switch.
    pub rest: Vec<String>,
}

impl Arguments {
    /// Reads arguments, the program's name not included.
    ///
    /// # Errors
    /// An option that is not in `options` or `switches`, or one without its value.
    pub fn parse(
        given: impl IntoIterator<Item = String>,
        options: &[&str],
        switches: &[&str],
    ) -> Result<Self> {
        let mut arguments = Self::default();
        let mut given = given.into_iter();
        while let Some(argument) = given.next() {
            match argument.strip_prefix("--") {
                None => arguments.rest.push(argument),
                Some(name) if switches.contains(&name) => arguments.switches.push(name.to_owned()),
                Some(name) if options.contains(&name) => {
                    let value = given.next().ok_or_else(|| format!("--{name} has no value"))?;
                    arguments.values.insert(name.to_owned(), value);
                }
                Some(_) => {
                    let known = [options, switches].concat().join(", --");
                    return Err(format!("`{argument}` is not known, expected --{known}").into());
                }
            }
        }
        Ok(arguments)
    }

    /// The value of an option, or `default` without it.
    ///
    /// # Errors
    /// A value that cannot be read.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.values.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} is `{text}`").into()),
        }
    }

    /// The value of an option that must be given.
    ///
    /// # Errors
    /// An option that was not given.
    pub fn required(&self, name: &str) -> Result<&str> {
        Ok(self.values.get(name).ok_or_else(|| format!("--{name} is missing"))?)
    }

    /// Whether a switch was given.
    pub fn has(&self, name: &str) -> bool {
        self.switches.iter().any(|switch| switch == name)
    }
}
