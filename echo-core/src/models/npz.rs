//! NumPy's `.npz`: a zip archive that holds an array in each `NAME.npy`.
//!
//! An array is a header, a Python dictionary in a fixed spelling, and its values in the order of rows
//! (C) or columns (Fortran). Little-endian floats of 32 and 64 bits are read, all as f64 and in the
//! order of rows. Source: `numpy/lib/format.py`. Other types, and pickles above all, are refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use zip::ZipArchive;

use super::table::Parsed;
use crate::error::{Error, Result};

/// Most arrays of a file, and most bytes of all of them: the larger file of a PLDA has 265 kB as doubles.
const MAX_ARRAYS: usize = 64;
const MAX_BYTES: u64 = 64 << 20;

/// Most dimensions of an array.
const MAX_RANK: usize = 8;

/// The arrays of a file.
#[derive(Debug)]
pub(crate) struct Npz {
    /// What the file is called in messages.
    name: String,
    arrays: HashMap<String, Array>,
}

/// An array, its values row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Npz {
    /// Reads all arrays of a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, [`Error::Model`] if it is no such file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let name = path.display().to_string();
        match read(file) {
            Ok(arrays) => Ok(Self { name, arrays }),
            Err(reason) => Err(Error::model(name, reason)),
        }
    }

    /// The array called `name`, if it has `rank` dimensions.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file and the array.
    pub(crate) fn get(&self, name: &str, rank: usize) -> Result<&Array> {
        match self.arrays.get(name) {
            Some(array) if array.shape.len() == rank => Ok(array),
            Some(array) => {
                let shape = &array.shape;
                Err(self.wrong(format!("array `{name}` is {shape:?}, expected {rank} dimensions")))
            }
            None => Err(self.wrong(format!("has no array `{name}`"))),
        }
    }

    /// The array called `name` of one shape.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file and the array.
    pub(crate) fn shaped(&self, name: &str, shape: &[usize]) -> Result<&Array> {
        let array = self.get(name, shape.len())?;
        if array.shape == shape {
            return Ok(array);
        }
        Err(self.wrong(format!("array `{name}` is {:?}, expected {shape:?}", array.shape)))
    }

    /// The arrays of a file in memory.
    #[cfg(test)]
    pub(crate) fn from_bytes(name: &str, bytes: Vec<u8>) -> Parsed<Self> {
        Ok(Self { name: name.to_owned(), arrays: read(std::io::Cursor::new(bytes))? })
    }

    /// An error that names the file.
    pub(crate) fn wrong(&self, reason: String) -> Error {
        Error::model(self.name.clone(), reason)
    }
}

/// The arrays of an archive.
pub(crate) fn read(file: impl Read + Seek) -> Parsed<HashMap<String, Array>> {
    let invalid = |error: zip::result::ZipError| format!("is no valid npz archive: {error}");
    let mut archive = ZipArchive::new(file).map_err(invalid)?;
    if archive.len() > MAX_ARRAYS {
        let count = archive.len();
        return Err(format!("is an archive of {count} entries, expected at most {MAX_ARRAYS}"));
    }
    let (mut arrays, mut left) = (HashMap::new(), MAX_BYTES);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(invalid)?;
        let name = entry.name().map_err(invalid)?.into_owned();
        let Some(name) = name.strip_suffix(".npy") else { continue };
        let mut bytes = Vec::new();
        let read = entry.by_ref().take(left + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("array `{name}` cannot be read: {error}"))?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            format!("arrays up to `{name}` have more than {MAX_BYTES} bytes, expected fewer")
        })?;
        let array = parse(&bytes).map_err(|reason| format!("array `{name}` {reason}"))?;
        arrays.insert(name.to_owned(), array);
    }
    Ok(arrays)
}

/// One `.npy` file.
pub(super) fn parse(bytes: &[u8]) -> Parsed<Array> {
    let cut = || "is cut short".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("is no npy file")?;
    let (&[major, _], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(format!("is of version {other}, expected 1 to 3")),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| "has a header that is no text")?;
    let missing = |key: &str| format!("has no `{key}` in its header");
    let value = |key: &str| {
        let (_, value) = header.split_once(&format!("'{key}':")).ok_or_else(|| missing(key))?;
        Ok::<&str, String>(value.trim_start())
    };
    let item_bytes = match value("descr")? {
        kind if kind.starts_with("'<f8'") => 8,
        kind if kind.starts_with("'<f4'") => 4,
        kind => {
            let kind: String = kind.chars().take(12).collect();
            return Err(format!("is of type {kind}, expected '<f4' or '<f8'"));
        }
    };
    let by_columns = value("fortran_order")?.starts_with("True");
    let shape = value("shape")?.strip_prefix('(').and_then(|shape| shape.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| missing("shape"))?;
    let dims = shape.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    let shape: Vec<usize> =
        dims.map(str::parse).collect::<Result<_, _>>().map_err(|_| missing("shape"))?;
    let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let size_bytes = count.and_then(|count| count.checked_mul(item_bytes));
    if shape.len() > MAX_RANK || size_bytes != Some(data.len()) {
        return Err(format!("is {shape:?}, which does not fit its {} bytes", data.len()));
    }
    let values: Vec<f64> = match item_bytes {
        4 => data.as_chunks().0.iter().map(|&four| f64::from(f32::from_le_bytes(four))).collect(),
        _ => data.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect(),
    };
    let values = if by_columns { by_rows(&values, &shape) } else { values };
    Ok(Array { shape, values })
}

/// Values that were stored with the first dimension fastest, with the last one fastest.
fn by_rows(values: &[f64], shape: &[usize]) -> Vec<f64> {
    let place = |at: usize| {
        let (mut rest, mut place, mut step) = (at, 0, values.len());
        for &dim in shape.iter().rev() {
            step /= dim;
            place += rest % dim * step;
            rest /= dim;
        }
        place
    };
    (0..values.len()).map(|at| values[place(at)]).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Writes what the reader reads.

    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    /// The bytes of an array with a header of its own.
    pub(crate) fn npy(kind: &str, by_columns: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
        let shape: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
        let order = if by_columns { "True" } else { "False" };
        let header =
            format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({shape}), }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), data].concat()
    }

    /// An archive of arrays of doubles.
    pub(crate) fn npz(arrays: &[(&str, &[usize], &[f64])]) -> Vec<u8> {
        let bytes =
            |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let entries = arrays
            .iter()
            .map(|(name, shape, values)| (*name, npy("<f8", false, shape, &bytes(values))));
        archive(&entries.collect::<Vec<_>>())
    }

    /// An archive of `.npy` files.
    pub(crate) fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (at, (name, bytes)) in entries.iter().enumerate() {
            // As `savez` and as `savez_compressed`.
            let method = [CompressionMethod::Stored, CompressionMethod::Deflated][at % 2];
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(format!("{name}.npy"), options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::testing::{archive, npy, npz};
    use super::*;

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn rows_and_columns_doubles_and_floats_are_one_array() {
        let rows = npy("<f4", false, &[2, 3], &floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let columns = npy("<f4", true, &[2, 3], &floats(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        let found = read(Cursor::new(archive(&[("a", rows), ("b", columns)]))).unwrap();
        assert_eq!(found["a"], found["b"]);
        assert_eq!(found["a"].shape, [2, 3]);
        assert_eq!(found["a"].values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let one = read(Cursor::new(npz(&[("psi", &[2], &[0.5, 0.25])]))).unwrap();
        assert_eq!(one["psi"], Array { shape: vec![2], values: vec![0.5, 0.25] });
    }

    #[test]
    fn what_is_no_array_is_named() {
        let reason = |bytes: Vec<u8>| read(Cursor::new(archive(&[("mu", bytes)]))).unwrap_err();
        assert_eq!(reason(b"PK".to_vec()), "array `mu` is no npy file");
        let wrong = reason(npy("|O", false, &[1], &[0; 8]));
        assert!(wrong.contains("is of type '|O'"), "{wrong}");
        let wrong = reason(npy("<f8", false, &[usize::MAX, 2], &[0; 8]));
        assert!(wrong.contains("does not fit its 8 bytes"), "{wrong}");
        let whole = npy("<f8", true, &[0, 3], &[]);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(parse(&whole).unwrap().values, [0.0; 0]);
        let half = npy("<f4", false, &[MAX_BYTES as usize / 8], &vec![0; MAX_BYTES as usize / 2]);
        let none = npy("<f4", false, &[0], &[]);
        let wrong = archive(&[("a", none.clone()), ("b", half.clone()), ("c", none), ("d", half)]);
        let wrong = read(Cursor::new(wrong)).unwrap_err();
        assert_eq!(wrong, "arrays up to `d` have more than 67108864 bytes, expected fewer");
        assert!(read(Cursor::new(b"no zip".to_vec())).unwrap_err().contains("npz"));
    }
}
