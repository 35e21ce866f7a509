//! Checkpoints for the tests of other modules.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device};

use super::{Tensor, Weights};
use crate::error::{Error, Result};

/// The tensors of a `SafeTensors` file, all as f32.
pub(crate) struct TestWeights(pub(crate) HashMap<String, Tensor<'static>>);

impl TestWeights {
    pub(crate) fn read(path: &Path) -> Self {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let convert = |tensor: candle_core::Tensor| {
            let shape = tensor.dims().to_vec();
            let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
            Tensor::from_f32(&shape, &values.to_vec1::<f32>().unwrap())
        };
        Self(tensors.into_iter().map(|(name, tensor)| (name, convert(tensor))).collect())
    }

    pub(crate) fn values(&self, name: &str) -> Vec<f32> {
        self.0[name].to_f32().unwrap()
    }
}

impl Weights for TestWeights {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        match self.0.get(name) {
            Some(tensor) if tensor.shape == shape => Ok(tensor.clone()),
            Some(tensor) => {
                let found = format!("`{name}` is {:?}, expected {shape:?}", tensor.shape);
                Err(Error::model("test", found))
            }
            None => Err(Error::model("test", format!("no tensor `{name}`"))),
        }
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.shape.clone())
    }
}
