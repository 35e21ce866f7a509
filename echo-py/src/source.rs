//! Where sound comes from, as Python names it: a path, bytes, a file object, samples.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use echo_core::{Audio, AudioSource, Result};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyMemoryView, PySlice};

use crate::error::OrRaise;

/// Bytes of samples that are copied out of Python at a time.
const COPY_BYTES: isize = 1 << 20;

/// A source that has not been read yet; it is read once.
#[pyclass(frozen, module = "echo._echo")]
#[derive(Debug)]
pub(crate) struct Source(Mutex<Option<Input>>);

#[derive(Debug)]
pub(crate) enum Input {
    Path(PathBuf),
    Bytes(Vec<u8>),
    Samples(Vec<f32>, u32),
    File(PythonFile),
}

impl Input {
    /// What the core takes. Samples are resampled here, so this belongs on a worker.
    pub(crate) fn open(self) -> Result<AudioSource> {
        Ok(match self {
            Self::Path(path) => path.into(),
            Self::Bytes(bytes) => bytes.into(),
            Self::Samples(samples, rate_hz) => Audio::from_samples(samples, rate_hz)?.into(),
            Self::File(file) => AudioSource::reader(file),
        })
    }
}

impl Source {
    fn new(input: Input) -> Self {
        Self(Mutex::new(Some(input)))
    }

    /// Takes what is in it.
    pub(crate) fn take(&self) -> PyResult<Input> {
        let input = self.0.lock().ok().and_then(|mut input| input.take());
        input.ok_or_else(|| PyValueError::new_err("the source was read before"))
    }
}

#[pymethods]
impl Source {
    /// A file by its name.
    #[staticmethod]
    fn path(path: PathBuf) -> Self {
        Self::new(Input::Path(path))
    }

    /// The bytes of an encoded file.
    #[staticmethod]
    fn bytes(bytes: Vec<u8>) -> Self {
        Self::new(Input::Bytes(bytes))
    }

    /// A binary file object that can seek.
    #[staticmethod]
    fn file(file: Py<PyAny>) -> Self {
        Self::new(Input::File(PythonFile(file)))
    }

    /// A contiguous one-dimensional view of 32-bit floats. They are copied once: Python may change
    /// them while the work goes on.
    #[staticmethod]
    fn samples(view: &Bound<'_, PyMemoryView>, sample_rate_hz: u32) -> PyResult<Self> {
        let py = view.py();
        let bytes = view.call_method1("cast", ("B",))?;
        let size_bytes = isize::try_from(bytes.len()?).unwrap_or(isize::MAX);
        let mut samples = Vec::with_capacity(size_bytes.unsigned_abs() / size_of::<f32>());
        let mut start = 0;
        while start < size_bytes {
            let end = size_bytes.min(start + COPY_BYTES);
            let part = bytes.get_item(PySlice::new(py, start, end, 1))?.call_method0("tobytes")?;
            let part = part.cast_into::<PyBytes>()?;
            let (quads, _) = part.as_bytes().as_chunks::<{ size_of::<f32>() }>();
            samples.extend(quads.iter().map(|quad| f32::from_ne_bytes(*quad)));
            start = end;
        }
        Ok(Self::new(Input::Samples(samples, sample_rate_hz)))
    }
}

/// A file object, read from a worker's thread.
#[derive(Debug)]
pub(crate) struct PythonFile(Py<PyAny>);

impl PythonFile {
    /// Calls a method; an exception becomes an error that says what it said.
    fn call<T>(
        &self,
        work: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> io::Result<T> {
        let answer = Python::try_attach(|py| work(self.0.bind(py)));
        let answer = answer.ok_or_else(|| io::Error::other("the interpreter is shutting down"))?;
        answer.map_err(|error| io::Error::other(error.to_string()))
    }
}

impl Read for PythonFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(|file| {
            let answer = file.call_method1("read", (buffer.len(),))?.cast_into::<PyBytes>()?;
            let bytes = answer.as_bytes();
            // A file object that gives more than it was asked for is broken.
            let target = buffer
                .get_mut(..bytes.len())
                .ok_or_else(|| PyValueError::new_err("read() gave more than it was asked for"))?;
            target.copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }
}

impl Seek for PythonFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.call(|file| {
            let position = match to {
                SeekFrom::Start(offset) => file.call_method1("seek", (offset, 0))?,
                SeekFrom::Current(offset) => file.call_method1("seek", (offset, 1))?,
                SeekFrom::End(offset) => file.call_method1("seek", (offset, 2))?,
            };
            position.extract()
        })
    }
}

/// Takes sources from a Python iterator, on a worker's thread, until it ends or fails.
pub(crate) struct Sources {
    iterator: Py<PyAny>,
    failure: Failure,
}

/// What an iterator of sources raised, for the reader of the results before it.
pub(crate) type Failure = Arc<Mutex<Option<PyErr>>>;

impl Sources {
    /// `iterator` yields [`Source`]s; what it raises is left in `failure`.
    pub(crate) fn new(iterator: Py<PyAny>, failure: Failure) -> Self {
        Self { iterator, failure }
    }

    fn take_next(&self, py: Python<'_>) -> PyResult<Option<AudioSource>> {
        let Some(item) = self.iterator.bind(py).try_iter()?.next() else { return Ok(None) };
        let input = item?.cast::<Source>()?.get().take()?;
        py.detach(|| input.open()).map(Some).or_raise(py)
    }
}

impl Iterator for Sources {
    type Item = AudioSource;

    fn next(&mut self) -> Option<AudioSource> {
        match Python::try_attach(|py| self.take_next(py))? {
            Ok(source) => source,
            Err(error) => {
                if let Ok(mut failure) = self.failure.lock() {
                    *failure = Some(error);
                }
                None
            }
        }
    }
}
