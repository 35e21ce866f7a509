//! How fast each kernel of the CPU is, beside what the processor can do: `cargo bench`
//!
//! Criterion measures each kernel, format and shape and compares it with the last run; a table follows
//! with what was reached, the ceiling as measured on the same core, and their ratio. `ECHO_CPU=avx2` or
//! `portable` measures other instruction sets. One thread; the table takes the fastest sample, since
//! whatever else the machine does only slows one down.
#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use echo_benches::Result;
use echo_core::bench::{KernelRun, kernel_runs};

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut rows = Vec::new();
    kernel_runs(&mut |kernel| rows.extend(measure(&mut criterion, kernel)))?;
    println!("| kernel | shape | ms | reached | ceiling | share |\n|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    criterion.final_summary();
    Ok(())
}

/// A row of the table, unless the command line names other kernels.
fn measure(criterion: &mut Criterion, kernel: KernelRun<'_>) -> Option<String> {
    let mut fastest_s = None;
    let mut group = criterion.benchmark_group(&kernel.kernel);
    group.throughput(match kernel.unit {
        "B" => Throughput::BytesDecimal(kernel.amount),
        _ => Throughput::Elements(kernel.amount),
    });
    group.bench_function(&kernel.shape, |bencher| {
        bencher.iter_custom(|times| {
            let start = Instant::now();
            (0..times).for_each(|_| (kernel.run)());
            let took = start.elapsed();
            let each_s = took.as_secs_f64() / times as f64;
            fastest_s = Some(fastest_s.map_or(each_s, |fastest: f64| fastest.min(each_s)));
            took
        });
    });
    group.finish();
    let fastest_s = fastest_s?;
    let (rate, unit) = (kernel.amount as f64 / fastest_s, kernel.unit);
    Some(format!(
        "| {} | {} | {:.2} | {:.0} G{unit}/s | {:.0} G{unit}/s | {:.0} % |",
        kernel.kernel,
        kernel.shape,
        fastest_s * 1e3,
        rate / 1e9,
        kernel.ceiling / 1e9,
        100.0 * rate / kernel.ceiling
    ))
}
