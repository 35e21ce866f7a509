//! House rules that no compiler knows: layers point down, files stay small and say what they do.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer, lowest first; a module uses only what lies below it.
const LAYERS: &[&[&str]] = &[
    &["error", "options", "transcript", "timeline", "progress", "language", "device", "words"],
    &["audio", "models", "kernels", "threads"],
    &["features", "nn", "stages"],
    &["vad", "whisper", "align", "diarize", "segmentation", "formats"],
    &["pipeline"],
    &["transcriber", "request", "diarizer", "cli", "fuzzing", "lib", "bin"],
];

/// Arrows inside a layer that are meant.
const FRIENDS: &[(&str, &str)] = &[
    ("kernels", "models"), // kernels pack the tensors of a checkpoint
    ("diarize", "segmentation"),
    ("vad", "segmentation"),
    ("request", "transcriber"),
    ("transcriber", "request"),
    ("cli", "transcriber"),
    ("cli", "request"),
    ("cli", "diarizer"),
];

/// Files over the limit, with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

const MAX_CODE_LINES: usize = 400;

#[test]
fn layers_point_down() {
    let mut breaches = Vec::new();
    for file in sources() {
        let name = relative(&file);
        let module = module_of(&name);
        if module == "lib" {
            continue;
        }
        let Some(layer) = layer_of(&module) else {
            breaches.push(format!("{name}: module `{module}` has no layer"));
            continue;
        };
        for (number, line) in code_lines(&read(&file)) {
            for used in used_modules(&line) {
                let is_meant = used == module
                    || FRIENDS.contains(&(module.as_str(), used.as_str()))
                    || layer_of(&used).is_none_or(|other| other < layer || other == 0);
                if !is_meant {
                    breaches.push(format!("{name}:{number} uses crate::{used}"));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "layers must point down:\n{}", breaches.join("\n"));
}

#[test]
fn files_are_small() {
    let mut breaches = Vec::new();
    for file in sources() {
        let name = relative(&file);
        let count = code_lines(&read(&file))
            .filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with("//"))
            .count();
        if count > MAX_CODE_LINES && !LONG_FILES.iter().any(|(long, _)| *long == name) {
            breaches.push(format!("{name}: {count} code lines, at most {MAX_CODE_LINES}"));
        }
    }
    assert!(breaches.is_empty(), "find the second idea in:\n{}", breaches.join("\n"));
}

#[test]
fn every_file_says_what_it_does() {
    let silent: Vec<_> =
        sources().into_iter().filter(|file| !read(file).starts_with("//! ")).collect();
    assert!(silent.is_empty(), "no `//!` line in {silent:?}");
}

#[test]
fn nothing_is_left_unfinished_or_printed() {
    let words = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME", "XXX"];
    let mut breaches = Vec::new();
    for file in sources() {
        let name = relative(&file);
        let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
        let may_print = is_test || name.starts_with("cli") || name.starts_with("bin");
        for (number, line) in code_lines(&read(&file)) {
            if line.trim_start().starts_with("//") {
                continue;
            }
            let prints = line.contains("println!(") || line.contains("eprint!(");
            if words.iter().any(|word| line.contains(word)) || (prints && !may_print) {
                breaches.push(format!("{name}:{number} {}", line.trim()));
            }
        }
    }
    assert!(breaches.is_empty(), "unfinished or printing:\n{}", breaches.join("\n"));
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 10, "sources were found");
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("source folder is readable") {
        let path = entry.expect("entry is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
            files.push(path);
        }
    }
}

/// Files and folders that only tests include.
fn is_test(path: &Path) -> bool {
    let names = ["tests", "tests.rs", "testing.rs", "golden.rs", "fake.rs"];
    path.iter().any(|part| names.iter().any(|name| part == *name))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("source is readable")
}

fn relative(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    file.strip_prefix(root).expect("file lies in src").to_string_lossy().replace('\\', "/")
}

/// The first component: `audio` for `audio/decode.rs`, `error` for `error.rs`.
fn module_of(name: &str) -> String {
    let first = name.split('/').next().unwrap_or(name);
    first.trim_end_matches(".rs").to_owned()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Numbered lines up to the unit tests; a file of tests has none.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .enumerate()
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Modules named by `crate::module` on a line that is not a comment.
fn used_modules(line: &str) -> Vec<String> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    line.split("crate::")
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            layer_of(&rest[..end]).map(|_| rest[..end].to_owned())
        })
        .collect()
}
