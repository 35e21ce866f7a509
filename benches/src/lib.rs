//! What the measuring programs share: arguments, spectra and the one JSON line they print.

pub mod arguments;
pub mod spectrum;

use std::error::Error;

/// The result of a measuring program.
pub type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The median of some seconds; 0 of none.
///
/// ```
/// assert_eq!(echo_benches::median(&[3.0, 1.0, 2.0]), 2.0);
/// ```
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// CPU seconds of this process so far, user and system, all threads (Linux; 0 elsewhere).
pub fn process_cpu_s() -> f64 {
    // Ticks of 1/100 s on every Linux of the last twenty years.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in parentheses, may hold spaces; fields count from after it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_S
}

/// Peak resident memory of this process in megabytes of 2^20 bytes (Linux; 0 elsewhere).
pub fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let before = process_cpu_s();
        while process_cpu_s() < before + 0.02 {
            std::hint::black_box((0..100_000).map(f64::from).sum::<f64>());
        }
        assert!(peak_rss_mb() > 0);
    }
}
