//! Matrix products by cuBLASLt, for many rows.
//!
//! `y (rows, outputs) = x (rows, inputs) W^T + b`, all row-major, `W (outputs, inputs)`. The library
//! counts by columns, so it is told `y^T = W x^T`: a bias of outputs is then one of its rows, which
//! it adds by itself. Sums are f32. How to multiply is asked of the library's heuristics once for
//! each shape.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::context::{Format, Gpu};
use super::memory::{Block, Memory};
use crate::error::{Error, Result};

/// What NVIDIA advises for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// The library, with what it has been asked for.
#[derive(Debug)]
pub(super) struct Products {
    gpu: Arc<Gpu>,
    library: Library,
    workspace: Block,
    plans: Mutex<HashMap<Shape, Plan>>,
}

#[derive(Debug)]
struct Library(sys::cublasLtHandle_t);

// SAFETY: the library's documentation lets threads share a handle.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// What a product looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) ending: Ending,
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    /// Stored with its bias.
    Store,
    /// Added, with its bias, to what is there.
    Add,
    /// The same for sums and a bias in f32.
    AddWide,
    /// Stored without a bias as f32.
    Logits,
}

/// Where a product's parts lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) x: u64,
    pub(super) weight: u64,
    /// Unused by [`Ending::Logits`].
    pub(super) bias: u64,
    pub(super) y: u64,
}

/// How the library multiplies one shape.
#[derive(Debug)]
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: descriptions are plain memory of the library, used under a lock.
unsafe impl Send for Plan {}

impl Products {
    pub(super) fn new(gpu: Arc<Gpu>, memory: &Memory) -> Result<Self> {
        let handle = result::create_handle().map_err(|error| Error::Device {
            device: gpu.device.to_string(),
            reason: format!("cuBLASLt does not start: {error}"),
        })?;
        let workspace = memory.take(WORKSPACE_BYTES)?;
        Ok(Self { gpu, library: Library(handle), workspace, plans: Mutex::default() })
    }

    /// Multiplies.
    ///
    /// # Safety
    /// The addresses are of device memory as large as the shape says, 16-byte aligned.
    pub(super) unsafe fn run(&self, shape: Shape, at: Addresses) -> Result<()> {
        if shape.rows == 0 || shape.outputs == 0 {
            return Ok(());
        }
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = match plans.entry(shape) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Plan::new(&self.library, shape, self.gpu.format).map_err(failed)?)
            }
        };
        if shape.ending != Ending::Logits {
            // SAFETY: the description lives as long as the plan; the attribute is an address.
            unsafe { set(plan.product, BIAS_POINTER, &at.bias) }.map_err(failed)?;
        }
        let alpha = 1.0_f32;
        let is_added = matches!(shape.ending, Ending::Add | Ending::AddWide);
        let beta = if is_added { 1.0_f32 } else { 0.0 };
        let (weight, x, y) = (at.weight as *const c_void, at.x as *const c_void, at.y);
        // SAFETY: the plan's descriptions are alive, the caller answers for the addresses, and the
        // workspace is as long as is said; the stream keeps products from using it at once.
        let multiplied = unsafe {
            result::matmul(
                self.library.0,
                plan.product,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                weight,
                plan.weight,
                x,
                plan.x,
                y as *const c_void,
                plan.y,
                y as *mut c_void,
                plan.y,
                &raw const plan.algorithm,
                self.workspace.address() as *mut c_void,
                WORKSPACE_BYTES,
                self.gpu.stream.cu_stream().cast(),
            )
        };
        multiplied.map_err(failed)
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // The library may still be reading what it was given.
        let _ = self.gpu.bind().and_then(|()| self.gpu.synchronize());
        let plans = self.plans.get_mut().unwrap_or_else(PoisonError::into_inner);
        for plan in plans.values() {
            // SAFETY: nobody else has these, and they are destroyed once; so with the handle below.
            unsafe {
                let _ = result::destroy_matmul_desc(plan.product);
                for layout in [plan.weight, plan.x, plan.y] {
                    let _ = result::destroy_matrix_layout(layout);
                }
            }
        }
        // SAFETY: as above.
        let _ = unsafe { result::destroy_handle(self.library.0) };
    }
}

use sys::cublasLtMatmulDescAttributes_t as Attribute;

const BIAS_POINTER: Attribute = Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER;

impl Plan {
    fn new(library: &Library, shape: Shape, format: Format) -> Result<Self, CublasError> {
        let narrow = match format {
            Format::F16 => sys::cudaDataType::CUDA_R_16F,
            Format::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        };
        let wide = sys::cudaDataType::CUDA_R_32F;
        let is_logits = shape.ending == Ending::Logits;
        let (rows, inputs, outputs) =
            (shape.rows as u64, shape.inputs as u64, shape.outputs as u64);
        let product =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, wide)?;
        let weight = result::create_matrix_layout(narrow, inputs, outputs, inputs as i64)?;
        let x = result::create_matrix_layout(narrow, inputs, rows, inputs as i64)?;
        let is_wide = is_logits || shape.ending == Ending::AddWide;
        let y_type = if is_wide { wide } else { narrow };
        let y = result::create_matrix_layout(y_type, outputs, rows, outputs as i64)?;
        // CUBLAS_OP_T.
        let transposed = 1_i32;
        // SAFETY: the descriptions were just made; the attributes have the types that the library
        // documents for them, and the address of the bias is replaced before it is used.
        unsafe {
            set(product, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &transposed)?;
            if !is_logits {
                let bias = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
                set(product, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &bias)?;
                let bias_type = y_type as i32;
                set(product, Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type)?;
                let aligned = 256_u64;
                set(product, BIAS_POINTER, &aligned)?;
            }
        }
        let preference = result::create_matmul_pref()?;
        let most =
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let workspace_bytes = WORKSPACE_BYTES;
        // SAFETY: all descriptions were just made; the preference is a size, as documented.
        let found = unsafe {
            result::set_matmul_pref_attribute(
                preference,
                most,
                (&raw const workspace_bytes).cast(),
                size_of::<usize>(),
            )?;
            let found =
                result::get_matmul_algo_heuristic(library.0, product, weight, x, y, y, preference);
            result::destroy_matmul_pref(preference)?;
            found?
        };
        Ok(Self { product, weight, x, y, algorithm: found.algo })
    }
}

/// Sets one attribute of a product.
///
/// # Safety
/// `product` is alive, and the library documents the attribute with the type `V`.
unsafe fn set<V>(
    product: sys::cublasLtMatmulDesc_t,
    attribute: Attribute,
    value: &V,
) -> Result<(), CublasError> {
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the caller answers for the description; the size is the value's own.
    unsafe { result::set_matmul_desc_attribute(product, attribute, value, size_of::<V>()) }
}

fn failed(error: CublasError) -> Error {
    Error::inference("matrix product", format!("cuBLASLt: {error}"))
}
