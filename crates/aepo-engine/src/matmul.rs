//! How are matrices multiplied? As views into slices: in `f32` by [`gemm`], else by the definition.

use crate::gemm::{self, Along, Arithmetic, Buffers, Factor, Numbers, Right, Target};
use crate::real::Real;
use crate::team::Team;

/// In which numbers products are made, and by whom.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// Numbers of the factors.
    pub arithmetic: Arithmetic,
    /// Threads.
    pub team: &'a Team,
}

/// A read-only view of a matrix inside a slice.
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A dense row-major `rows × cols` matrix at the start of `data`.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Mat::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows lie `row_stride` apart.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(cols <= row_stride && fits(data.len(), rows, cols, row_stride));
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose; nothing moves.
    #[must_use]
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A writable row-major matrix inside a slice.
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A dense row-major `rows × cols` matrix at the start of `data`.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        MatMut::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows lie `row_stride` apart.
    pub fn strided(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(cols <= row_stride && fits(data.len(), rows, cols, row_stride));
        MatMut { data, rows, cols, row_stride }
    }
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= len
}

/// How a product meets what the output holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// `out = a·b`; what `out` held is not read.
    Replace,
    /// `out += a·b`.
    Add,
}

/// `out = a·b` or `out += a·b`. Each number is summed in one order; see [`gemm`].
pub fn multiply<T: Real>(
    out: MatMut<'_, T>,
    store: Store,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    how: How<'_>,
    buffers: &mut Buffers,
) {
    assert_eq!((out.rows, out.cols, a.cols), (a.rows, b.cols, b.rows), "matrix shapes");
    let add = store == Store::Add;
    if let (Some(x), Some(y)) = (T::as_f32(a.data), T::as_f32(b.data)) {
        let left = factor(Numbers::F32(x), a);
        let right = Right::Plain(factor(Numbers::F32(y), b.t()));
        if let Some(data) = T::as_f32_mut(out.data) {
            let target = Target { data, stride: out.row_stride, add };
            gemm::multiply(target, left, right, how.arithmetic, how.team, buffers);
            return;
        }
    }
    let at = |m: &Mat<'_, T>, i: usize, j: usize| m.data[i * m.row_stride + j * m.col_stride];
    for i in 0..out.rows {
        for j in 0..out.cols {
            let y = &mut out.data[i * out.row_stride + j];
            let start = if add { *y } else { T::ZERO };
            *y = (0..a.cols).fold(start, |sum, k| at(&a, i, k).mul_add(at(&b, k, j), sum));
        }
    }
}

/// A matrix as a factor whose outer dimension are its rows.
fn factor<'a, T>(numbers: Numbers<'a>, m: Mat<'_, T>) -> Factor<'a> {
    match m.col_stride {
        // A single row has no next one; where it is a column that was turned, its stride says 1.
        1 if m.rows == 1 => Factor::new(numbers, 1, m.cols, m.cols, Along::Inner),
        1 => Factor::new(numbers, m.rows, m.cols, m.row_stride, Along::Inner),
        stride => Factor::new(numbers, m.rows, m.cols, stride, Along::Outer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aepo::seed::Seed;

    fn random(seed: u64, n: usize) -> Vec<f32> {
        (0..n).map(|i| Seed(seed).uniform(i as u64) as f32 - 0.5).collect()
    }

    #[test]
    fn equals_the_definition_in_every_orientation() {
        let team = Team::new(1).unwrap();
        let how = How { arithmetic: Arithmetic::F32, team: &team };
        // A dimension of 1, as LoRA of rank 1 has, makes strides that say nothing.
        for (m, n, k) in [(7, 5, 9), (1, 5, 9), (7, 1, 9), (7, 5, 1), (1, 1, 9), (1, 1, 1)] {
            orientations(m, n, k, how);
        }
    }

    fn orientations(m: usize, n: usize, k: usize, how: How<'_>) {
        let (a, at) = (random(1, m * k), random(2, k * m));
        let (b, bt) = (random(3, k * n), random(4, n * k));
        let pairs = [
            (Mat::new(&a, m, k), Mat::new(&b, k, n)),
            (Mat::new(&at, k, m).t(), Mat::new(&b, k, n)),
            (Mat::new(&a, m, k), Mat::new(&bt, n, k).t()),
        ];
        for (x, y) in pairs {
            let at = |v: &Mat<'_, f32>, i: usize, j: usize| v.data[i * v.row_stride + j * v.col_stride];
            let mut out = vec![1.0; m * n];
            multiply(MatMut::new(&mut out, m, n), Store::Add, x, y, how, &mut Buffers::default());
            for i in 0..m {
                for j in 0..n {
                    let exact: f32 = (0..k).map(|l| at(&x, i, l) * at(&y, l, j)).sum();
                    assert!((out[i * n + j] - 1.0 - exact).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "matrix shapes")]
    fn refuses_shapes_that_do_not_fit() {
        let a = [0.0f32; 6];
        let mut out = [0.0f32; 4];
        let team = Team::new(1).unwrap();
        let how = How { arithmetic: Arithmetic::F32, team: &team };
        multiply(
            MatMut::new(&mut out, 2, 2),
            Store::Replace,
            Mat::new(&a, 2, 3),
            Mat::new(&a, 2, 3),
            how,
            &mut Buffers::default(),
        );
    }
}
