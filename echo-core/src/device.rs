//! Where networks run and in which number format.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where networks run.
///
/// ```
/// use echo_core::Device;
///
/// assert_eq!("cuda:1".parse::<Device>()?, Device::Cuda(1));
/// assert_eq!(Device::Cuda(0).to_string(), "cuda:0");
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Device {
    /// The fastest one that is compiled in and present: CUDA, Metal, then the CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by its ordinal (feature `cuda`).
    Cuda(usize),
    /// An Apple GPU by its ordinal (feature `metal`).
    Metal(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal(ordinal) => write!(f, "metal:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Option {
            option: "device",
            value: format!("`{text}`"),
            expected: "auto, cpu, cuda, cuda:N, metal or metal:N",
        };
        let (name, ordinal) = match text.split_once(':') {
            Some((name, ordinal)) => (name, ordinal.parse().map_err(|_| wrong())?),
            None => (text, 0),
        };
        match (name, text.contains(':')) {
            ("auto", false) => Ok(Self::Auto),
            ("cpu", false) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(ordinal)),
            ("metal", _) => Ok(Self::Metal(ordinal)),
            _ => Err(wrong()),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// The number format that networks compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ComputeType {
    /// What loses no accuracy worth measuring on the device at hand.
    #[default]
    Auto,
    /// 32-bit floats: the reference.
    F32,
    /// Brain floats: 8 bits of exponent, 7 of fraction.
    Bf16,
    /// Half floats.
    F16,
    /// 8-bit integers with scales.
    Int8,
}

impl ComputeType {
    /// Its name, as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for ComputeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ComputeType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Auto, Self::F32, Self::Bf16, Self::F16, Self::Int8]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Error::Option {
                option: "compute_type",
                value: format!("`{text}`"),
                expected: "auto, f32, bf16, f16 or int8",
            })
    }
}
