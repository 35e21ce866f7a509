//! Which device and number format a network gets.
//!
//! [`select`] turns what was asked for into what is there, once, when a model is loaded. A missing
//! GPU is an error that says what is missing, never a silent fall to the processor;
//! [`Device::Auto`] takes the best device that answers.

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

/// The GPUs that can be used, as `echo-asr devices` lists them after the CPU.
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
        (Device::Cpu | Device::Auto, ComputeType::Auto | ComputeType::F32) => Ok(ComputeType::F32),
        (Device::Cpu | Device::Auto, _) => wrong("auto or f32 on the CPU"),
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
    // Builds whose CUDA libraries are bound late abort at the first call without a driver, so the
    // driver is looked for before candle makes that call.
    const DRIVER: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    // SAFETY: the driver's library runs no code of ours when loaded, and it is loaded for good:
    // every CUDA program loads it, and it is not used through this handle.
    #[expect(unsafe_code, reason = "loading a library is unsafe by nature")]
    let driver = unsafe { libloading::Library::new(DRIVER) };
    match driver {
        Ok(driver) => std::mem::forget(driver),
        Err(_) => return Err(format!("no NVIDIA driver: {DRIVER} cannot be loaded")),
    }
    candle_core::Device::new_cuda(ordinal).map(drop).map_err(|error| error.to_string())
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
    fn the_processor_computes_in_f32() {
        let choice = select(Device::Cpu, ComputeType::Auto).unwrap();
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
