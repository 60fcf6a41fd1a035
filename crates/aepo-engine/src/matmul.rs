//! How are matrices multiplied? By the `gemm` crate, behind a checked interface; the one door to its unsafe call.

use std::any::TypeId;

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

/// `out = a·b` or `out += a·b`. Each number is one chain of sums over the inner dimension; see [`gemm`].
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
        1 => Factor::new(numbers, m.rows, m.cols, m.row_stride, Along::Inner),
        stride => Factor::new(numbers, m.rows, m.cols, stride, Along::Outer),
    }
}

/// `out = a·b` or `out += a·b` on `threads` threads of the current rayon pool.
///
/// With [`MIN_ROWS`] rows or more, every output element is one sequential sum over the inner dimension, so it does not
/// depend on how many other rows there are (tested below): that is what makes a sampled path independent of its
/// company.
pub fn matmul<T: Real>(out: MatMut<'_, T>, store: Store, a: Mat<'_, T>, b: Mat<'_, T>, threads: usize) {
    assert_eq!((out.rows, out.cols, a.cols), (a.rows, b.cols, b.rows), "matrix shapes");
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    assert!(TypeId::of::<T>() == TypeId::of::<f32>() || TypeId::of::<T>() == TypeId::of::<f64>());
    let parallelism = match threads {
        0 | 1 => ::gemm::Parallelism::None,
        n => ::gemm::Parallelism::Rayon(n),
    };
    let mut done = 0;
    while done < a.cols || (done == 0 && store == Store::Replace) {
        let depth = K_BLOCK.min(a.cols - done);
        // SAFETY: the constructors checked that every index of the three views lies in its slice, and this block's
        // inner indices `done..done + depth` are among them; the output is borrowed mutably and so does not overlap
        // the inputs; `T` is one of the types `gemm` knows.
        unsafe {
            ::gemm::gemm(
                out.rows,
                out.cols,
                depth,
                out.data.as_mut_ptr(),
                1,
                out.row_stride as isize,
                store == Store::Add || done > 0,
                a.data.as_ptr().add(done * a.col_stride),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr().add(done * b.row_stride),
                b.col_stride as isize,
                b.row_stride as isize,
                T::ONE,
                T::ONE,
                false,
                false,
                false,
                parallelism,
            );
        }
        if depth == 0 {
            break;
        }
        done += depth;
    }
}

/// From this many rows on (and 17 columns), the library takes its general route; below, it has special kernels that
/// sum in another order. Whoever needs a row to be independent of its company goes by [`crate::kernels::product`].
pub const MIN_ROWS: usize = 16;

/// Inner dimension handed to the library at once. The library would choose its own blocks by the shape of the whole
/// product, and with them the order of summation; up to this depth it always uses one block.
pub(crate) const K_BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use aepo::seed::Seed;

    fn random(seed: u64, n: usize) -> Vec<f32> {
        (0..n).map(|i| Seed(seed).uniform(i as u64) as f32 - 0.5).collect()
    }

    #[test]
    fn equals_the_definition_in_every_orientation() {
        let (m, n, k) = (7, 5, 9);
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
            matmul(MatMut::new(&mut out, m, n), Store::Add, x, y, 1);
            for i in 0..m {
                for j in 0..n {
                    let exact: f32 = (0..k).map(|l| at(&x, i, l) * at(&y, l, j)).sum();
                    assert!((out[i * n + j] - 1.0 - exact).abs() < 1e-5);
                }
            }
        }
    }

    /// The promise behind `Policy`: a row's product has the same bits whatever rows stand beside it.
    #[test]
    fn a_row_does_not_depend_on_its_company() {
        for (n, k) in [(576, 192), (1024, 192), (192, 512), (2048, 256), (96, 1536), (17, 40)] {
            let most = 300;
            let a = random(1, most * k);
            let w = random(2, n * k);
            let mut all = vec![0.0; most * n];
            let wt = Mat::new(&w, n, k).t();
            matmul(MatMut::new(&mut all, most, n), Store::Replace, Mat::new(&a, most, k), wt, 2);
            for m in [MIN_ROWS, 17, 64, 129] {
                let first = most - m;
                for threads in [1, 2] {
                    let mut some = vec![0.0; m * n];
                    let rows = Mat::new(&a[first * k..], m, k);
                    matmul(MatMut::new(&mut some, m, n), Store::Replace, rows, wt, threads);
                    assert!(some == all[first * n..], "m={m} n={n} k={k} threads={threads}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "matrix shapes")]
    fn refuses_shapes_that_do_not_fit() {
        let a = [0.0f32; 6];
        let mut out = [0.0f32; 4];
        matmul(MatMut::new(&mut out, 2, 2), Store::Replace, Mat::new(&a, 2, 3), Mat::new(&a, 2, 3), 1);
    }
}
