//! JSON as YAML 1.2, for people to read: blocks instead of brackets, and nothing that JSON has not.
//!
//! Texts keep their quotes and escapes, which mean the same in both.

use std::fmt::Write;

use serde_json::Value;

/// Writes a document.
pub(super) fn of(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => block(value, 0, &mut text),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut text),
        scalar => {
            let _ = writeln!(text, "{scalar}");
        }
    }
    text
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// Writes lines, each of them so many spaces in.
fn block(value: &Value, indent: usize, text: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = key(name);
                if is_block(field) {
                    let _ = writeln!(text, "{margin}{name}:");
                    block(field, indent + 2, text);
                } else {
                    // Empty ones and scalars are the same in JSON.
                    let _ = writeln!(text, "{margin}{name}: {field}");
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if is_block(item) {
                    let mut lines = String::new();
                    block(item, indent + 2, &mut lines);
                    // The first line of an item stands behind its dash.
                    let _ =
                        write!(text, "{margin}- {}", lines.get(indent + 2..).unwrap_or_default());
                } else {
                    let _ = writeln!(text, "{margin}- {item}");
                }
            }
        }
        _ => {}
    }
}

/// A name, in quotes unless it is a word that means nothing else to any version of YAML.
fn key(name: &str) -> String {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let known = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    if is_word && !known.contains(&name.to_ascii_lowercase().as_str()) {
        return name.to_owned();
    }
    Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_stand_for_brackets() {
        let value = json!({
            "a": {"on": 1, "200": null, "$ref": "#/x: y"},
            "list": [1, "no", {"b": [], "c": {"d": "é\n\"q\""}}, [true, {}], {}],
        });
        let expected = "\
a:
  \"$ref\": \"#/x: y\"
  \"200\": null
  \"on\": 1
list:
  - 1
  - \"no\"
  - b: []
    c:
      d: \"é\\n\\\"q\\\"\"
  - - true
    - {}
  - {}
";
        let text = of(&value);
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
            lines.sort();
            lines
        };
        // Whether maps keep their order is a feature of the crate that others may turn on.
        assert_eq!(sorted(&text), sorted(expected), "{text}");
        assert_eq!((of(&json!(3)), of(&json!({}))), ("3\n".to_owned(), "{}\n".to_owned()));
    }
}
