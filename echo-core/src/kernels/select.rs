//! Which device and number format a network gets.
//!
//! [`select`] turns what was asked for into what is there, once, when a model is loaded. A missing
//! GPU is an error that says what is missing, never a silent fall to the processor;
//! [`Device::Auto`] takes the best device that answers.

use super::Backend;
#[cfg(feature = "candle")]
use super::candle::Candle;
use super::cpu::Cpu;
#[cfg(feature = "cuda")]
use super::cuda::Cuda;
use crate::device::{ComputeType, Device};
use crate::error::{Error, Result};

/// A device that is present and a format that it computes in; neither is `Auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// CPU, CUDA or Metal.
    pub(crate) device: Device,
    /// The format of weights and activations.
    pub(crate) compute: ComputeType,
}

/// Finds the device and the format for a request.
///
/// # Errors
/// [`Error::Device`] if the device is not compiled in or does not answer, [`Error::Option`] if it
/// does not compute in the format.
pub(crate) fn select(device: Device, compute: ComputeType) -> Result<Choice> {
    let device = match device {
        Device::Auto => best_present(),
        asked => {
            check_present(asked)?;
            asked
        }
    };
    Ok(Choice { device, compute: resolve(device, compute)? })
}

/// What is done with a backend, whichever it is.
pub(crate) trait Opened {
    /// What comes of it.
    type Output;
    /// Goes on with a backend.
    fn with<B: Backend>(self, backend: B) -> Self::Output;
}

/// Opens the backend for a choice: Echo's own kernels where there are some for the device, the
/// format and attention of `heads` heads in `d_model` columns, else candle's operations.
///
/// `threads` counts on the CPU only; `None` means as many as there are processors.
///
/// # Errors
/// [`Error::Device`] for a device that cannot be opened.
pub(crate) fn open<O: Opened>(
    choice: Choice,
    threads: Option<usize>,
    (d_model, heads): (usize, usize),
    opened: O,
) -> Result<O::Output> {
    if choice.device == Device::Cpu {
        return Ok(opened.with(Cpu::new(choice.compute, threads.unwrap_or_default())?));
    }
    #[cfg(feature = "cuda")]
    if Cuda::has_kernels_for(d_model, heads)
        && let Some(cuda) = Cuda::new(choice)?
    {
        return Ok(opened.with(cuda));
    }
    #[cfg(not(feature = "cuda"))]
    let _ = (d_model, heads);
    #[cfg(feature = "candle")]
    return Ok(opened.with(Candle::new(choice)?));
    #[cfg(not(feature = "candle"))]
    Err(Error::Device {
        device: choice.device.to_string(),
        reason: "this build of Echo computes on the CPU only".to_owned(),
    })
}

/// The GPUs that can be used, as `echo-asr devices` lists them after the CPU.
#[cfg(any(feature = "cli", test))]
pub(crate) fn gpus() -> Vec<Device> {
    const MOST: usize = 16;
    let present = |make: fn(usize) -> Device| {
        (0..MOST).map(make).take_while(|&device| check_present(device).is_ok())
    };
    present(Device::Cuda).chain(present(Device::Metal)).collect()
}

fn best_present() -> Device {
    let candidates = [Device::Cuda(0), Device::Metal(0)];
    let present = candidates.into_iter().find(|&device| check_present(device).is_ok());
    present.unwrap_or(Device::Cpu)
}

/// What `Auto` means and what else the device computes in.
fn resolve(device: Device, compute: ComputeType) -> Result<ComputeType> {
    let wrong = |expected| {
        Err(Error::Option { option: "compute_type", value: compute.to_string(), expected })
    };
    match (device, compute) {
        (Device::Cpu | Device::Auto, ComputeType::Auto) => Ok(Cpu::fastest()),
        (Device::Cpu | Device::Auto, ComputeType::F16) => {
            wrong("auto, f32, bf16 or int8 on the CPU")
        }
        // Whether this processor has instructions for bf16 and int8 is found out when it is opened.
        (Device::Cpu | Device::Auto, asked) => Ok(asked),
        // Published weights are half floats, so half floats lose nothing of them.
        (Device::Cuda(_) | Device::Metal(_), ComputeType::Auto) => Ok(ComputeType::F16),
        (Device::Cuda(_) | Device::Metal(_), ComputeType::Int8) => {
            wrong("auto, f32, f16 or bf16 on a GPU")
        }
        (Device::Cuda(_) | Device::Metal(_), asked) => Ok(asked),
    }
}

fn check_present(device: Device) -> Result<()> {
    match device {
        Device::Auto | Device::Cpu => Ok(()),
        Device::Cuda(ordinal) => check_cuda(ordinal),
        Device::Metal(ordinal) => check_metal(ordinal),
    }
    .map_err(|reason| Error::Device { device: device.to_string(), reason })
}

#[cfg(not(feature = "cuda"))]
fn check_cuda(_ordinal: usize) -> Result<(), String> {
    Err("this build of Echo has no CUDA support; build it with the feature `cuda`".to_owned())
}

#[cfg(feature = "cuda")]
fn check_cuda(ordinal: usize) -> Result<(), String> {
    // Builds whose CUDA libraries are bound late abort at the first call into one that is absent, so
    // all are looked for before the first call.
    const DRIVER: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1"] };
    const LIBRARIES: &[&[&str]] = if cfg!(windows) {
        &[&["cublas64_13.dll", "cublas64_12.dll"], &["cublasLt64_13.dll", "cublasLt64_12.dll"]]
    } else {
        &[
            &["libcublas.so.13", "libcublas.so.12"],
            &["libcublasLt.so.13", "libcublasLt.so.12"],
            &["libcurand.so.10"],
        ]
    };
    if !is_loadable(DRIVER) {
        return Err(format!("no NVIDIA driver: {} cannot be loaded", DRIVER.join(" or ")));
    }
    if let Some(missing) = LIBRARIES.iter().find(|names| !is_loadable(names)) {
        let names = missing.join(" or ");
        return Err(format!("a library of the CUDA toolkit cannot be loaded: {names}"));
    }
    let count = || -> Result<i32, cudarc::driver::DriverError> {
        cudarc::driver::result::init()?;
        cudarc::driver::result::device::get_count()
    };
    let count = count().map_err(|error| error.to_string())?;
    if usize::try_from(count).is_ok_and(|count| ordinal < count) {
        return Ok(());
    }
    Err(format!("there is no such GPU; {count} are there"))
}

/// Whether one of the libraries can be loaded. It then stays: every CUDA program loads these.
#[cfg(feature = "cuda")]
fn is_loadable(names: &[&str]) -> bool {
    names.iter().any(|name| {
        // SAFETY: NVIDIA's libraries may be loaded at any time; nothing is called through this
        // handle.
        #[expect(unsafe_code, reason = "loading a library is unsafe by nature")]
        let library = unsafe { libloading::Library::new(*name) };
        library.map(std::mem::forget).is_ok()
    })
}

#[cfg(not(feature = "metal"))]
fn check_metal(_ordinal: usize) -> Result<(), String> {
    Err("this build of Echo has no Metal support; build it with the feature `metal`".to_owned())
}

#[cfg(feature = "metal")]
fn check_metal(ordinal: usize) -> Result<(), String> {
    candle_core::Device::new_metal(ordinal).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_always_finds_a_device() {
        let choice = select(Device::Auto, ComputeType::Auto).unwrap();
        assert!(choice.device != Device::Auto && choice.compute != ComputeType::Auto);
    }

    #[test]
    fn the_processor_computes_in_what_suits_it_and_in_f32_if_asked() {
        let choice = select(Device::Cpu, ComputeType::Auto).unwrap();
        assert_eq!(choice, Choice { device: Device::Cpu, compute: Cpu::fastest() });
        assert!(Cpu::new(choice.compute, 1).is_ok(), "{choice:?}");
        let choice = select(Device::Cpu, ComputeType::F32).unwrap();
        assert_eq!(choice, Choice { device: Device::Cpu, compute: ComputeType::F32 });
        let error = select(Device::Cpu, ComputeType::F16).unwrap_err();
        assert!(error.to_string().contains("compute_type"), "{error}");
    }

    #[test]
    fn a_missing_gpu_is_named_with_its_reason() {
        for device in [Device::Cuda(99), Device::Metal(99)] {
            let error = select(device, ComputeType::Auto).unwrap_err();
            assert!(matches!(&error, Error::Device { .. }), "{error:?}");
            assert!(error.to_string().contains(&device.to_string()), "{error}");
        }
    }
}
