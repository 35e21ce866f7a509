//! Matrix products of plain f32 slices on the CPU, for networks too small for a [`Backend`].
//!
//! Rows may overlap or lie apart: a convolution over frames that follow each other in memory is a
//! product whose left rows are longer than the step between them, and needs no copy. The product
//! itself is the `gemm` crate's, which candle brings along and which takes AVX2, AVX-512 or NEON as
//! it finds them.
//!
//! [`Backend`]: super::Backend
#![allow(unsafe_code)]

use gemm::Parallelism;

/// A matrix read from a slice: row `r` is the `columns` values from `r * row_step` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
}

impl<'a> Rows<'a> {
    /// The rows of `values`, which must hold the last one whole.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize, row_step: usize) -> Self {
        assert!(rows == 0 || last_value(rows, columns, row_step) <= values.len(), "rows fit");
        Self { values, rows, columns, row_step }
    }

    pub(crate) fn values(&self) -> &'a [f32] {
        self.values
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn row_step(&self) -> usize {
        self.row_step
    }
}

fn last_value(rows: usize, columns: usize, row_step: usize) -> usize {
    (rows - 1).checked_mul(row_step).and_then(|at| at.checked_add(columns)).unwrap_or(usize::MAX)
}

/// `out = left * right^T` on one thread: row `r` of the result lies from `r * out_step` on, as many
/// values as `right` has rows; what lies between the rows is left alone.
pub(crate) fn multiply_transposed(
    left: Rows<'_>,
    right: Rows<'_>,
    out: &mut [f32],
    out_step: usize,
) {
    let (rows, columns, inner) = (left.rows, right.rows, left.columns);
    assert_eq!(inner, right.columns, "both sides have rows of one length");
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= out_step || rows == 1, "rows of the result do not overlap");
    assert!(last_value(rows, columns, out_step) <= out.len(), "the result fits");
    // SAFETY: `Rows::new` checked that every value of `left` (row step `left.row_step`, column step
    // 1) and of `right` lies in its slice, and the assertions above that every value of the result
    // lies in `out`, which nothing else borrows. A slice is at most `isize::MAX` bytes long, so the
    // steps fit an `isize`.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            out_step as isize,
            false,
            left.values.as_ptr(),
            1,
            left.row_step as isize,
            right.values.as_ptr(),
            right.row_step as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_sizes_equal_the_plain_loop() {
        for (rows, columns, inner) in
            [(1, 1, 1), (1, 5, 3), (7, 1, 9), (33, 17, 65), (5, 4, 0), (0, 3, 2), (2, 0, 2)]
        {
            // Left rows overlap by half; the result has a gap of 2 after each row.
            let left_step = inner / 2 + 1;
            let fill =
                |count: usize| -> Vec<f32> { (0..count).map(|i| (i % 7) as f32 - 3.0).collect() };
            let left = fill(rows * left_step + inner);
            let right = fill(columns * inner);
            let mut out = vec![-1.0; rows * (columns + 2)];
            multiply_transposed(
                Rows::new(&left, rows, inner, left_step),
                Rows::new(&right, columns, inner, inner),
                &mut out,
                columns + 2,
            );
            for (row, found) in out.chunks(columns + 2).enumerate() {
                for (column, &found) in found.iter().enumerate() {
                    let product = |i: usize| left[row * left_step + i] * right[column * inner + i];
                    // Small integers: sums are exact in any order.
                    let expected =
                        if column < columns { (0..inner).map(product).sum() } else { -1.0 };
                    assert_eq!(found, expected, "({rows}, {columns}, {inner}) at {row}, {column}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "rows fit")]
    fn rows_beyond_the_slice_are_refused() {
        Rows::new(&[0.0; 9], 2, 5, 5);
    }
}
