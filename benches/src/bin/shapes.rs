//! How fast a device is: `shapes [--shapes large-v2,turbo] [--batches 1,16] [--beams 1] [--tokens 128]
//! [--compute auto] [--runs 5] [--device auto] [--threads 0]`
//!
//! Networks of the published shapes with random weights, so that nothing is downloaded; each window
//! of 30 s gets as many tokens as are asked for. One JSON line for each combination: the medians of
//! some runs after one that warms up. `encode_ms` goes from the features on the host to the first
//! token, `ms_per_step` is a step of the decoder with the choice of its tokens, and `x_realtime` is
//! `batch * 30 s / (encode + decode)`. Threads are those of a CPU, zero all there are.
#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use echo_benches::arguments::Arguments;
use echo_benches::{Result, median};
use echo_core::bench::{RandomNetwork, Shape};
use echo_core::{ComputeType, Device};

const WINDOW_SECONDS: f64 = 30.0;

fn main() -> Result<()> {
    let names = ["shapes", "batches", "beams", "tokens", "compute", "runs", "device", "threads"];
    let arguments = Arguments::parse(std::env::args().skip(1), &names, &[])?;
    let device: Device = arguments.value("device", Device::Auto)?;
    let compute: ComputeType = arguments.value("compute", ComputeType::Auto)?;
    let tokens: usize = arguments.value("tokens", 128)?;
    let runs: usize = arguments.value("runs", 5)?;
    let threads: usize = arguments.value("threads", 0)?;
    let threads = (threads > 0).then_some(threads);
    let list = |name: &str, default: &str| -> Result<Vec<String>> {
        let given: String = arguments.value(name, default.to_owned())?;
        Ok(given.split(',').map(str::to_owned).collect())
    };
    for name in list("shapes", "large-v2,turbo")? {
        let shape = match name.as_str() {
            "base" => Shape::Base,
            "small" => Shape::Small,
            "large-v2" => Shape::LargeV2,
            "turbo" => Shape::Turbo,
            other => {
                return Err(format!("no shape `{other}`: base, small, large-v2 or turbo").into());
            }
        };
        let network = RandomNetwork::new(shape, device, compute, threads)?;
        for batch in list("batches", "1,16")? {
            let batch: usize = batch.parse()?;
            for beams in list("beams", "1")? {
                let beams: usize = beams.parse()?;
                network.run(batch, beams, tokens)?;
                let (mut encode, mut step, mut total) = (Vec::new(), Vec::new(), Vec::new());
                for _ in 0..runs {
                    let timing = network.run(batch, beams, tokens)?;
                    let (first, rest) = (timing.encode.as_secs_f64(), timing.decode.as_secs_f64());
                    encode.push(first * 1e3);
                    step.push(rest * 1e3 / timing.steps.max(1) as f64);
                    total.push(first + rest);
                }
                let seconds = median(&total);
                let line = serde_json::json!({
                    "engine": "echo", "model": name, "compute": compute.to_string(),
                    "device": device.to_string(), "batch": batch, "beams": beams, "tokens": tokens,
                    "encode_ms": median(&encode), "ms_per_step": median(&step),
                    "total_ms": seconds * 1e3,
                    "x_realtime": batch as f64 * WINDOW_SECONDS / seconds,
                });
                println!("{line}");
            }
        }
    }
    Ok(())
}
