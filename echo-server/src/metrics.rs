//! Counters and histograms in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the histogram of request times, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 600.0];

/// What has been counted since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<BTreeMap<(&'static str, String), f64>>,
    requests: Mutex<BTreeMap<String, Histogram>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    /// Adds to a counter. Labels must be of a small set: never an identifier of a client.
    pub fn add(&self, name: &'static str, labels: &[(&str, &str)], amount: f64) {
        *lock(&self.counters).entry((name, label_text(labels))).or_default() += amount;
    }

    /// Counts a request and its time.
    pub fn request(&self, route: &str, method: &str, status: u16, time: Duration) {
        let labels = [("route", route), ("method", method), ("status", &status.to_string())];
        self.add("http_requests_total", &labels, 1.0);
        let mut requests = lock(&self.requests);
        let histogram = requests.entry(label_text(&[("route", route)])).or_default();
        let seconds = time.as_secs_f64();
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Everything, with gauges of this moment.
    pub fn render(&self, gauges: &[(&str, Vec<(String, f64)>)]) -> String {
        let mut text = String::new();
        let mut last = "";
        for ((name, labels), value) in lock(&self.counters).iter() {
            if *name != last {
                let _ = writeln!(text, "# TYPE echo_{name} counter");
                last = name;
            }
            let _ = writeln!(text, "echo_{name}{} {value}", braces(labels));
        }
        let _ = writeln!(text, "# TYPE echo_http_request_duration_seconds histogram");
        for (labels, histogram) in lock(&self.requests).iter() {
            render_histogram(&mut text, labels, histogram);
        }
        for (name, values) in gauges {
            let _ = writeln!(text, "# TYPE echo_{name} gauge");
            for (labels, value) in values {
                let _ = writeln!(text, "echo_{name}{} {value}", braces(labels));
            }
        }
        text
    }
}

fn render_histogram(text: &mut String, labels: &str, histogram: &Histogram) {
    let name = "echo_http_request_duration_seconds";
    for (count, bound) in histogram.buckets.iter().zip(BUCKETS) {
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count);
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", histogram.sum);
    let _ = writeln!(text, "{name}_count{{{labels}}} {}", histogram.count);
}

/// `a="1",b="2"`.
pub fn label_text(labels: &[(&str, &str)]) -> String {
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    pairs.join(",")
}

fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_written() {
        let metrics = Metrics::default();
        metrics.add("jobs_total", &[("state", "a\"b")], 2.0);
        metrics.request("/health", "GET", 200, Duration::from_millis(7));
        let text = metrics.render(&[("depth", vec![(String::new(), 3.0)])]);
        assert!(text.contains("echo_jobs_total{state=\"a\\\"b\"} 2\n"), "{text}");
        assert!(text.contains("route=\"/health\",le=\"0.005\"} 0\n"), "{text}");
        assert!(text.contains("route=\"/health\",le=\"0.01\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE echo_depth gauge\necho_depth 3\n"), "{text}");
    }
}
