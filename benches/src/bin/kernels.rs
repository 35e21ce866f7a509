//! How fast each kernel of the CPU is, beside what the processor can do: `kernels`
//!
//! One line for each kernel, format and shape: milliseconds, what was reached, the ceiling as measured
//! on the same core, and their ratio. `ECHO_CPU=avx2` or `portable` measures other instruction sets.
//! One thread, the fastest of some runs.
#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use echo_benches::Result;
use echo_core::bench::kernel_speeds;

fn main() -> Result<()> {
    println!("| kernel | shape | ms | reached | ceiling | share |\n|---|---|---|---|---|---|");
    kernel_speeds(&mut |speed| {
        let (unit, share) = (speed.unit, 100.0 * speed.rate / speed.ceiling);
        println!(
            "| {} | {} | {:.2} | {:.0} {unit} | {:.0} {unit} | {share:.0} % |",
            speed.kernel, speed.shape, speed.ms, speed.rate, speed.ceiling
        );
    })?;
    Ok(())
}
