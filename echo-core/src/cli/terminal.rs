//! Progress on standard error: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::models::Download;
use crate::progress::Progress;

/// Steps of the bar for a run.
const STEPS: u64 = 1000;

/// Whether bars are drawn: on a terminal, unless the user wants quiet.
pub(super) fn draws(quiet: bool) -> bool {
    !quiet && std::io::stderr().is_terminal()
}

/// The bar of one run.
pub(super) fn run_bar(name: &str, is_drawn: bool) -> ProgressBar {
    let bar = new_bar(Some(STEPS), is_drawn);
    bar.set_style(style("{prefix} {bar:30} {percent:>3} % {msg} {elapsed} (eta {eta})"));
    bar.set_prefix(name.to_owned());
    bar
}

/// Moves the bar of a run.
pub(super) fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_position((progress.fraction * STEPS as f64) as u64);
    bar.set_message(progress.stage.as_str());
}

/// Draws downloads: a bar with bytes and time left; without a terminal, a line for each source.
#[derive(Debug)]
pub(super) struct DownloadBars {
    is_drawn: bool,
    is_quiet: bool,
    current: Option<(String, ProgressBar)>,
}

impl DownloadBars {
    pub(super) fn new(quiet: bool) -> Self {
        Self { is_drawn: draws(quiet), is_quiet: quiet, current: None }
    }

    pub(super) fn show(&mut self, download: &Download) {
        let is_new = self.current.as_ref().is_none_or(|(source, _)| *source != download.source);
        if is_new {
            self.finish();
            if !self.is_quiet {
                eprintln!("downloading {} from {}", download.model, download.source);
            }
            let bar = new_bar(download.total_bytes, self.is_drawn);
            bar.set_style(style(match download.total_bytes {
                Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} (eta {eta}) {msg}",
                None => "{spinner} {bytes} {bytes_per_sec} {msg}",
            }));
            self.current = Some((download.source.clone(), bar));
        }
        if let Some((_, bar)) = &self.current {
            bar.set_position(download.done_bytes);
            bar.set_message(download.file.clone());
        }
    }

    pub(super) fn finish(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for DownloadBars {
    fn drop(&mut self) {
        self.finish();
    }
}

fn new_bar(length: Option<u64>, is_drawn: bool) -> ProgressBar {
    let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    ProgressBar::with_draw_target(length, target)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
