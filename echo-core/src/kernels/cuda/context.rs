//! The device: its context, one stream that all work goes through, the kernels and the library of
//! products.
//!
//! Everything is in order of launch on the one stream; threads share it. Kernels of compute
//! capability 9.0 may overlap with the one before ("programmatic dependent launch"): their sources
//! say what they do before they wait.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::result::{DriverError, function, module};
use cudarc::driver::{CudaContext, CudaStream, sys};

use crate::device::Device;
use crate::error::{Error, Result};

/// Fat binaries of all sources, for half and for brain floats.
macro_rules! binaries {
    ($format:literal) => {
        [
            include_bytes!(concat!(env!("OUT_DIR"), "/cross_attention.", $format, ".fatbin")),
            include_bytes!(concat!(env!("OUT_DIR"), "/encoder_attention.", $format, ".fatbin")),
            include_bytes!(concat!(env!("OUT_DIR"), "/rank.", $format, ".fatbin")),
            include_bytes!(concat!(env!("OUT_DIR"), "/rows.", $format, ".fatbin")),
            include_bytes!(concat!(env!("OUT_DIR"), "/self_attention.", $format, ".fatbin")),
            include_bytes!(concat!(env!("OUT_DIR"), "/skinny.", $format, ".fatbin")),
        ] as [&[u8]; 6]
    };
}

/// Which kernels each source holds, in the order of the binaries.
const KERNELS: [&[&str]; 6] = [
    &["cross_attention_32", "cross_attention_64", "cross_weights"],
    &["encoder_attention_32", "encoder_attention_64"],
    &["rank"],
    &[
        "layer_norm",
        "layer_norm_wide",
        "gelu_in_place",
        "embed",
        "mel_columns",
        "gelu_columns",
        "gelu_positions",
        "split_cross",
    ],
    &["self_attention_32", "self_attention_64"],
    SKINNY,
];

/// Linear layers over few rows; they need more shared memory than is given without asking.
const SKINNY: &[&str] = &[
    "norm_linear_1_1",
    "norm_linear_1_2",
    "norm_linear_1_4",
    "norm_linear_2_1",
    "norm_linear_2_2",
    "norm_linear_2_4",
    "norm_linear_3_1",
    "norm_linear_3_2",
    "norm_linear_gelu_1_1",
    "norm_linear_gelu_1_2",
    "norm_linear_gelu_1_4",
    "norm_linear_gelu_2_1",
    "norm_linear_gelu_2_2",
    "norm_linear_gelu_2_4",
    "norm_linear_gelu_3_1",
    "norm_linear_gelu_3_2",
    "linear_add_1_1",
    "linear_add_1_2",
    "linear_add_1_4",
    "logits_3_1",
    "logits_3_2",
    "logits_2_4",
];

/// Shared memory that these ask for at most: what a block can have on every device from compute
/// capability 8.0 on.
pub(super) const MAX_SHARED_BYTES: usize = 99 * 1024;

/// The number format of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Half floats.
    F16,
    /// Brain floats.
    Bf16,
}

/// An open device.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) device: Device,
    pub(super) context: Arc<CudaContext>,
    pub(super) stream: Arc<CudaStream>,
    pub(super) format: Format,
    /// Multiprocessors: how many blocks it takes to keep the device busy.
    pub(super) processors: usize,
    kernels: HashMap<&'static str, Kernel>,
    can_overlap: bool,
}

#[derive(Debug, Clone, Copy)]
struct Kernel(sys::CUfunction);

// SAFETY: a function handle is a name for code on the device; the driver lets any thread use it.
unsafe impl Send for Kernel {}
// SAFETY: as above; it is never changed.
unsafe impl Sync for Kernel {}

/// How a kernel is laid out over the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) blocks: (usize, usize, usize),
    pub(super) threads: usize,
    /// Dynamic shared memory.
    pub(super) shared_bytes: usize,
}

impl Gpu {
    /// Opens the device and puts the kernels on it.
    pub(super) fn new(ordinal: usize, format: Format) -> Result<Self> {
        let device = Device::Cuda(ordinal);
        let refuse = |reason| Error::Device { device: device.to_string(), reason };
        let failed = |error: DriverError| refuse(describe(error));
        let context = CudaContext::new(ordinal).map_err(failed)?;
        let capability = context.compute_capability().map_err(failed)?;
        let kind = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = context.attribute(kind).map_err(failed)?;
        let stream = context.new_stream().map_err(failed)?;
        let binaries = match format {
            Format::F16 => binaries!("f16"),
            Format::Bf16 => binaries!("bf16"),
        };
        let mut kernels = HashMap::new();
        for (binary, names) in binaries.into_iter().zip(KERNELS) {
            load(binary, names, &mut kernels).map_err(failed)?;
        }
        for name in SKINNY {
            let Some(kernel) = kernels.get(name) else { continue };
            let what = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function was just found in a module that is never unloaded.
            unsafe { function::set_function_attribute(kernel.0, what, MAX_SHARED_BYTES as i32) }
                .map_err(failed)?;
        }
        Ok(Self {
            device,
            context,
            stream,
            format,
            processors: usize::try_from(processors).unwrap_or(1).max(1),
            kernels,
            can_overlap: capability.0 >= 9,
        })
    }

    /// Makes the device current for calls of this thread.
    pub(super) fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(self.failed("device"))
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// The arguments are those that the kernel's source declares, in order, and every address among
    /// them is of device memory as large as the kernel reads or writes for this grid, alive until
    /// work launched later on the same stream may reuse it.
    pub(super) unsafe fn launch(
        &self,
        name: &'static str,
        grid: Grid,
        arguments: &mut [Argument],
    ) -> Result<()> {
        let Some(kernel) = self.kernels.get(name) else {
            return Err(Error::inference("device", format!("there is no kernel {name}")));
        };
        let mut pointers = [std::ptr::null_mut::<c_void>(); MOST_ARGUMENTS];
        for (pointer, argument) in pointers.iter_mut().zip(arguments.iter_mut()) {
            *pointer = argument.address();
        }
        // SAFETY: all bits zero are a valid value of this plain union of numbers.
        let mut value: sys::CUlaunchAttributeValue = unsafe { std::mem::zeroed() };
        value.programmaticStreamSerializationAllowed = 1;
        let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        let mut overlap = sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let (x, y, z) = grid.blocks;
        let config = sys::CUlaunchConfig {
            gridDimX: x as u32,
            gridDimY: y as u32,
            gridDimZ: z as u32,
            blockDimX: grid.threads as u32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: grid.shared_bytes as u32,
            hStream: self.stream.cu_stream(),
            attrs: &raw mut overlap,
            numAttrs: u32::from(self.can_overlap),
        };
        // SAFETY: the configuration and the arguments live until the call returns, which copies
        // them; the caller answers for what they say.
        let launched = unsafe {
            let extra = std::ptr::null_mut();
            sys::cuLaunchKernelEx(&raw const config, kernel.0, pointers.as_mut_ptr(), extra)
        };
        launched.result().map_err(self.failed(name))
    }

    /// Waits until all work launched so far is done.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(self.failed("device"))
    }

    /// Turns the driver's error into ours: a full device is the user's to solve.
    pub(super) fn failed(&self, context: &'static str) -> impl Fn(DriverError) -> Error {
        let device = self.device;
        move |error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::Device {
                device: device.to_string(),
                reason: "out of memory: take a smaller batch or model".to_owned(),
            },
            _ => Error::inference(context, describe(error)),
        }
    }
}

/// Whether these kernels run on the device.
pub(super) fn is_supported(ordinal: usize) -> Result<bool> {
    let device = Device::Cuda(ordinal);
    let capability = CudaContext::new(ordinal).and_then(|context| context.compute_capability());
    let (major, _) = capability
        .map_err(|error| Error::Device { device: device.to_string(), reason: describe(error) })?;
    Ok(major >= 8)
}

/// The driver's words for an error.
fn describe(error: DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| format!("CUDA error {:?}", error.0))
}

fn load(
    binary: &[u8],
    names: &[&'static str],
    into: &mut HashMap<&'static str, Kernel>,
) -> Result<(), DriverError> {
    // SAFETY: the bytes are a fat binary made by nvcc when this crate was built, which says its own
    // length.
    let module = unsafe { module::load_data(binary.as_ptr().cast()) }?;
    for &name in names {
        let symbol = CString::new(name).unwrap_or_default();
        // SAFETY: the module was just loaded; it stays loaded as long as the context lives.
        let function = unsafe { module::get_function(module, symbol) }?;
        into.insert(name, Kernel(function));
    }
    Ok(())
}

const MOST_ARGUMENTS: usize = 12;

/// One argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Argument {
    /// An address of device memory.
    Address(u64),
    /// A 32-bit integer.
    Int(i32),
    /// A `size_t`.
    Size(u64),
    /// A 32-bit float.
    Float(f32),
}

impl Argument {
    fn address(&mut self) -> *mut c_void {
        match self {
            Self::Address(value) | Self::Size(value) => std::ptr::from_mut(value).cast(),
            Self::Int(value) => std::ptr::from_mut(value).cast(),
            Self::Float(value) => std::ptr::from_mut(value).cast(),
        }
    }
}

impl From<usize> for Argument {
    fn from(value: usize) -> Self {
        // Sizes of a network and a batch: far below two thousand millions.
        Self::Int(value as i32)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}
