//! Products with weights: `y = x·Wᵀ` for few rows and for many, `dx = dy·W`, from weights that may be in bf16.
//!
//! Every number of `y` is the same chain of sums whatever way it takes: over blocks of `K_BLOCK` inputs in order, in
//! each one fused multiplication and addition after the other. So a row has the same bits in any company, and bf16
//! weights give the bits of the same numbers in full (tested below).

use std::ops::Range;

use rayon::prelude::*;

use crate::matmul::{K_BLOCK, Mat, MatMut, Store, matmul};
use crate::real::{Real, fit, vectorize_op};
use crate::weights::Matrix;

/// Rows that are one vector of the processor.
const LANES: usize = 16;
/// Outputs computed at once, so that their sums do not wait for each other.
const TILE: usize = 8;
/// Up to this many rows, memory is what a product waits for, and weights are best read once and not packed.
pub const FEW_ROWS: usize = 32;
/// Columns below which the library of matrix products sums in another order.
const MIN_COLUMNS: usize = 17;
/// Weights that are widened at once, where `K_BLOCK` rows of them are not more already.
pub(crate) const WIDE: usize = 1 << 21;

/// Buffers, reused from product to product.
#[derive(Debug, Default)]
pub struct Scratch<T> {
    /// Widened weights.
    wide: Vec<T>,
    /// `[n/16][d_in][16]`
    x_t: Vec<T>,
    /// `[d_out][n]`
    y_t: Vec<T>,
}

impl<T> Scratch<T> {
    /// Bytes of it.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of::<T>() * (self.wide.capacity() + self.x_t.capacity() + self.y_t.capacity())
    }
}

/// Columns of a row-major matrix.
pub struct Columns<'a, T> {
    /// The whole matrix.
    pub data: &'a mut [T],
    /// Its width.
    pub width: usize,
    /// Which of its columns.
    pub range: Range<usize>,
}

/// `y = x·Wᵀ` or `y += x·Wᵀ`. `x`: `[n, d_in]`; `w`: `[range.len(), d_in]`.
pub fn forward<T: Real>(
    y: Columns<'_, T>,
    store: Store,
    x: &[T],
    n: usize,
    w: Matrix<'_, T>,
    threads: usize,
    scratch: &mut Scratch<T>,
) {
    let d_out = y.range.len();
    if n == 0 || d_out == 0 {
        return;
    }
    let d_in = w.len() / d_out;
    if n <= FEW_ROWS || d_out < MIN_COLUMNS {
        for start in (0..n).step_by(FEW_ROWS) {
            let n = FEW_ROWS.min(n - start);
            let rows = &mut y.data[start * y.width..][..(n - 1) * y.width + y.range.end];
            few_rows(rows, y.width, &y.range, store, &x[start * d_in..][..n * d_in], n, w, scratch);
        }
        return;
    }
    for rows in tiles(d_out, d_in, w) {
        let part = w.part(rows.start * d_in..rows.end * d_in).wide(&mut scratch.wide);
        let out = MatMut::strided(&mut y.data[y.range.start + rows.start..], n, rows.len(), y.width);
        matmul(out, store, Mat::new(x, n, d_in), Mat::new(part, rows.len(), d_in).t(), threads);
    }
}

/// `dx = dy·W`. `dy`: `[n, d_out]`; `w`: `[d_out, d_in]`; `dx`: `[n, d_in]`.
pub fn backward<T: Real>(
    dx: &mut [T],
    dy: &[T],
    n: usize,
    w: Matrix<'_, T>,
    d_out: usize,
    threads: usize,
    scratch: &mut Scratch<T>,
) {
    let d_in = w.len() / d_out;
    for rows in tiles(d_out, d_in, w) {
        let part = w.part(rows.start * d_in..rows.end * d_in).wide(&mut scratch.wide);
        let store = if rows.start == 0 { Store::Replace } else { Store::Add };
        let dy = Mat::strided(dy.get(rows.start..).unwrap_or_default(), n, rows.len(), d_out);
        matmul(MatMut::new(dx, n, d_in), store, dy, Mat::new(part, rows.len(), d_in), threads);
    }
}

/// Rows of weights that are widened together: all of them where nothing has to be widened. A multiple of `K_BLOCK`,
/// so that sums over them have the order of the whole, and never a remainder of less than [`MIN_COLUMNS`].
fn tiles<T: Real>(d_out: usize, d_in: usize, w: Matrix<'_, T>) -> impl Iterator<Item = Range<usize>> + use<T> {
    let tile = match w {
        Matrix::Full(_) => d_out,
        Matrix::Bf16(_) => (WIDE / d_in.max(1) / K_BLOCK).max(1) * K_BLOCK,
    };
    let mut start = 0;
    std::iter::from_fn(move || {
        let end = if start + tile + MIN_COLUMNS > d_out { d_out } else { start + tile };
        let range = start..end;
        start = end;
        (!range.is_empty()).then_some(range)
    })
}

/// At most [`FEW_ROWS`] rows, sixteen to a vector.
#[allow(clippy::too_many_arguments)]
fn few_rows<T: Real>(
    y: &mut [T],
    width: usize,
    columns: &Range<usize>,
    store: Store,
    x: &[T],
    n: usize,
    w: Matrix<'_, T>,
    scratch: &mut Scratch<T>,
) {
    let d_in = w.len() / columns.len();
    let n_blocks = n.div_ceil(LANES);
    let (x_t, y_t) = (&mut scratch.x_t, &mut scratch.y_t);
    fit(x_t, n_blocks * d_in * LANES);
    x_t.fill(T::ZERO);
    for (i, row) in x.chunks_exact(d_in.max(1)).enumerate() {
        let block = &mut x_t[i / LANES * d_in * LANES..][..d_in * LANES];
        for (to, &x) in block[i % LANES..].iter_mut().step_by(LANES).zip(row) {
            *to = x;
        }
    }
    let y_width = n_blocks * LANES;
    fit(y_t, columns.len() * y_width);
    y_t.fill(T::ZERO);
    if store == Store::Add {
        for (part, y_t) in blocks(columns).zip(y_t.chunks_mut(BLOCK * y_width)) {
            for (i, row) in y.chunks(width).enumerate() {
                for (to, &y) in y_t[i..].iter_mut().step_by(y_width).zip(&row[part.clone()]) {
                    *to = y;
                }
            }
        }
    }
    let x_t = &*x_t;
    y_t.par_chunks_mut(TILE * y_width).enumerate().with_min_len(8).for_each_init(Vec::new, |wide, (i, y)| {
        let first = i * TILE;
        let n_rows = y.len() / y_width;
        vectorize_op(Tile { y, x_t, w: w.part(first * d_in..(first + n_rows) * d_in), n_rows, d_in, wide });
    });
    for (part, y_t) in blocks(columns).zip(y_t.chunks(BLOCK * y_width)) {
        for (i, row) in y.chunks_mut(width).enumerate() {
            for (y, &from) in row[part.clone()].iter_mut().zip(y_t[i..].iter().step_by(y_width)) {
                *y = from;
            }
        }
    }
}

/// Columns that are transposed while they are near.
const BLOCK: usize = 64;

fn blocks(columns: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = columns.end;
    columns.clone().step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
}

/// Adds the products of up to [`TILE`] rows of weights to `y`.
struct Tile<'a, T> {
    /// `[n_rows][n]`
    y: &'a mut [T],
    /// `[n/16][d_in][16]`
    x_t: &'a [T],
    /// `[n_rows, d_in]`
    w: Matrix<'a, T>,
    n_rows: usize,
    d_in: usize,
    wide: &'a mut Vec<T>,
}

impl<T: Real> pulp::NullaryFnOnce for Tile<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Tile { y, x_t, w, n_rows, d_in, wide } = self;
        let width = y.len() / n_rows;
        if matches!(w, Matrix::Bf16(_)) {
            wide.resize(TILE * K_BLOCK, T::ZERO);
        }
        for start in (0..d_in).step_by(K_BLOCK) {
            let depth = K_BLOCK.min(d_in - start);
            if let Matrix::Bf16(w) = w {
                for (wide, w) in wide.chunks_exact_mut(K_BLOCK).zip(w.chunks_exact(d_in)) {
                    for (to, &x) in wide.iter_mut().zip(&w[start..start + depth]) {
                        *to = T::from_bf16(x);
                    }
                }
            }
            let rows: [&[T]; TILE] = std::array::from_fn(|j| {
                // Where there are fewer rows than a tile has, the last one stands for those behind it too.
                let j = j.min(n_rows - 1);
                match w {
                    Matrix::Full(w) => &w[j * d_in + start..][..depth],
                    Matrix::Bf16(_) => &wide[j * K_BLOCK..][..depth],
                }
            });
            for (block, x) in x_t.chunks_exact(d_in * LANES).enumerate() {
                let (x, _) = x[start * LANES..][..depth * LANES].as_chunks::<LANES>();
                let sums = sums(x, rows);
                for (y, sums) in y.chunks_exact_mut(width).zip(&sums) {
                    for (y, &sum) in y[block * LANES..].iter_mut().zip(sums) {
                        *y += sum;
                    }
                }
            }
        }
    }
}

/// `Σ_k w[j][k]·x[k][i]`, one after the other. Each row's sums are a variable of their own, so that they stay in a
/// vector of the processor.
#[inline(always)]
fn sums<T: Real>(x: &[[T; LANES]], w: [&[T]; TILE]) -> [[T; LANES]; TILE] {
    let n = x.len();
    let zeros = [T::ZERO; LANES];
    let [w0, w1, w2, w3, w4, w5, w6, w7] = w;
    let (w0, w1, w2, w3) = (&w0[..n], &w1[..n], &w2[..n], &w3[..n]);
    let (w4, w5, w6, w7) = (&w4[..n], &w5[..n], &w6[..n], &w7[..n]);
    let (mut s0, mut s1, mut s2, mut s3) = (zeros, zeros, zeros, zeros);
    let (mut s4, mut s5, mut s6, mut s7) = (zeros, zeros, zeros, zeros);
    for k in 0..n {
        let x = &x[k];
        add(&mut s0, w0[k], x);
        add(&mut s1, w1[k], x);
        add(&mut s2, w2[k], x);
        add(&mut s3, w3[k], x);
        add(&mut s4, w4[k], x);
        add(&mut s5, w5[k], x);
        add(&mut s6, w6[k], x);
        add(&mut s7, w7[k], x);
    }
    [s0, s1, s2, s3, s4, s5, s6, s7]
}

#[inline(always)]
fn add<T: Real>(sums: &mut [T; LANES], w: T, x: &[T; LANES]) {
    for i in 0..LANES {
        sums[i] = w.mul_add(x[i], sums[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        crate::testing::random(seed, n).into_iter().map(|x| x as f32).collect()
    }

    fn product(x: &[f32], n: usize, w: Matrix<'_, f32>, d_out: usize, store: Store) -> Vec<f32> {
        let mut y = numbers(7, n * (d_out + 3));
        let columns = Columns { data: &mut y, width: d_out + 3, range: 2..d_out + 2 };
        forward(columns, store, x, n, w, 2, &mut Scratch::default());
        y
    }

    /// What `Policy` promises: a row's product has the same bits in any company, by whichever way it is computed, and
    /// bf16 weights give the bits of the same numbers in full.
    #[test]
    fn every_way_gives_the_same_bits() {
        for (d_out, d_in) in [(576, 192), (40, 1536), (1100, 600), (8, 700), (3, 5), (17, 512), (530, 4100)] {
            let most = FEW_ROWS + 40;
            let (x, narrow) = (numbers(1, most * d_in), numbers(2, d_out * d_in));
            let narrow: Vec<bf16> = narrow.into_iter().map(bf16::from_f32).collect();
            let full: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
            for store in [Store::Replace, Store::Add] {
                let all = product(&x, most, Matrix::Full(&full), d_out, store);
                for (i, row) in all.chunks_exact(d_out + 3).enumerate() {
                    for (j, &y) in row[2..d_out + 2].iter().enumerate() {
                        let sum: f64 =
                            (0..d_in).map(|k| f64::from(x[i * d_in + k]) * f64::from(full[j * d_in + k])).sum();
                        let before = numbers(7, most * (d_out + 3))[i * (d_out + 3) + 2 + j];
                        let exact = sum + if store == Store::Add { f64::from(before) } else { 0.0 };
                        assert!((f64::from(y) - exact).abs() < 2e-4, "{y} {exact}");
                        if i > 1 {
                            break;
                        }
                    }
                }
                for n in [1, 15, 16, 17, FEW_ROWS, FEW_ROWS + 1, most] {
                    for w in [Matrix::Full(&full[..]), Matrix::Bf16(&narrow)] {
                        let some = product(&x[..n * d_in], n, w, d_out, store);
                        assert!(some == all[..n * (d_out + 3)], "{n} rows of {d_out} x {d_in}");
                    }
                }
            }
        }
    }

    #[test]
    fn backward_products_of_bf16_weights_have_the_same_bits() {
        for (d_out, d_in) in [(1600, 700), (9000, 600), (40, 24)] {
            let n = 21;
            let (dy, narrow) = (numbers(1, n * d_out), numbers(2, d_out * d_in));
            let narrow: Vec<bf16> = narrow.into_iter().map(bf16::from_f32).collect();
            let full: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
            let of = |w| {
                let mut dx = vec![9.0; n * d_in];
                backward(&mut dx, &dy, n, w, d_out, 1, &mut Scratch::default());
                dx
            };
            assert!(of(Matrix::Full(&full)) == of(Matrix::Bf16(&narrow)), "{d_out} x {d_in}");
        }
    }
}
