//! With the feature `cuda`: compiles the CUDA kernels into fat binaries that the crate carries.
//!
//! Machine code for compute capability 8.0 (which 8.6 and 8.9 run too) and 9.0, and PTX of 9.0 that
//! drivers translate for what comes later, so that nothing is compiled when a model is loaded.
//! `NVCC` names the compiler, else `CUDA_HOME`, else the path.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const FOLDER: &str = "src/kernels/cuda/source";
const SOURCES: &[&str] =
    &["cross_attention", "encoder_attention", "rank", "rows", "self_attention", "skinny"];
const CODE: &[&str] = &["arch=compute_80,code=sm_80", "arch=compute_90,code=[sm_90,compute_90]"];
/// The name of a format's binaries, and what asks the sources for it.
const FORMATS: &[(&str, Option<&str>)] = &[("f16", None), ("bf16", Some("-DECHO_BF16"))];

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return ExitCode::SUCCESS;
    }
    println!("cargo::rerun-if-changed={FOLDER}");
    for name in ["NVCC", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("cargo::error=the feature `cuda` needs NVIDIA's compiler: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let compiler = compiler();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for source in SOURCES {
        // As many at a time as there are formats.
        let mut running = Vec::new();
        for (format, define) in FORMATS {
            let mut command = Command::new(&compiler);
            command.args(["-O3", "-std=c++17", "--use_fast_math", "-fatbin"]);
            command.args(CODE.iter().flat_map(|code| ["-gencode", code]));
            command.args(define.iter());
            command.arg("-o").arg(out.join(format!("{source}.{format}.fatbin")));
            command.arg(format!("{FOLDER}/{source}.cu"));
            let child = command.spawn();
            running.push(
                child.map_err(|error| format!("{} does not run: {error}", compiler.display()))?,
            );
        }
        for mut child in running {
            match child.wait() {
                Ok(status) if status.success() => {}
                outcome => return Err(format!("nvcc did not compile {source}.cu: {outcome:?}")),
            }
        }
    }
    Ok(())
}

fn compiler() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NVCC")
        .or_else(|| set("CUDA_HOME").map(|home| home.join("bin/nvcc")))
        .unwrap_or_else(|| PathBuf::from("nvcc"))
}
