//! Products with weights: `y = x·Wᵀ` and `dx = dy·W`, from weights that may be in bf16 or packed before.
//!
//! Every number of either is summed in one order whatever way it takes (see [`gemm`]), so a row has the same bits in any
//! company, and bf16 weights give the bits of the same numbers in full (tested below).

use std::borrow::Cow;
use std::ops::Range;

use crate::gemm::{self, Along, Buffers, Factor, Numbers, Packed, Right, Target};
use crate::matmul::{How, Mat, MatMut, Store, multiply};
use crate::real::Real;
use crate::weights::Matrix;

/// Columns of a row-major matrix.
pub struct Columns<'a, T> {
    /// The whole matrix.
    pub data: &'a mut [T],
    /// Its width.
    pub width: usize,
    /// Which of its columns.
    pub range: Range<usize>,
}

/// Weights, and the same packed where somebody has done that.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a, T> {
    /// `[d_out, d_in]`
    pub matrix: Matrix<'a, T>,
    /// In panels, as the product that follows reads them.
    pub packed: Option<&'a Packed>,
}

impl<'a, T> From<Matrix<'a, T>> for Weight<'a, T> {
    fn from(matrix: Matrix<'a, T>) -> Self {
        Weight { matrix, packed: None }
    }
}

/// `y = x·Wᵀ` or `y += x·Wᵀ`. `x`: `[n, d_in]`; `w`: `[range.len(), d_in]`.
pub fn forward<T: Real>(
    y: Columns<'_, T>,
    store: Store,
    x: &[T],
    n: usize,
    w: Weight<'_, T>,
    how: How<'_>,
    buffers: &mut Buffers,
) {
    let d_out = y.range.len();
    if n == 0 || d_out == 0 {
        return;
    }
    let d_in = w.matrix.len() / d_out;
    let add = store == Store::Add;
    let out = &mut y.data[y.range.start..];
    if let (Some(x), Some(numbers)) = (T::as_f32(x), numbers(w.matrix))
        && let Some(data) = T::as_f32_mut(out)
    {
        let right = match w.packed {
            Some(packed) => Right::Packed(packed),
            None => Right::Plain(Factor::new(numbers, d_out, d_in, d_in, Along::Inner)),
        };
        let left = Factor::new(Numbers::F32(x), n, d_in, d_in, Along::Inner);
        gemm::multiply(Target { data, stride: y.width, add }, left, right, how.arithmetic, how.team, buffers);
        return;
    }
    let (weights, x) = (widened(w.matrix), Mat::new(x, n, d_in));
    multiply(MatMut::strided(out, n, d_out, y.width), store, x, Mat::new(&weights, d_out, d_in).t(), how, buffers);
}

/// `dx = dy·W`. `dy`: `[n, d_out]`; `w`: `[d_out, d_in]`; `dx`: `[n, d_in]`.
pub fn backward<T: Real>(
    dx: &mut [T],
    dy: &[T],
    n: usize,
    w: Weight<'_, T>,
    d_out: usize,
    how: How<'_>,
    buffers: &mut Buffers,
) {
    let d_in = w.matrix.len() / d_out;
    if let (Some(dy), Some(numbers)) = (T::as_f32(dy), numbers(w.matrix))
        && let Some(data) = T::as_f32_mut(dx)
    {
        let left = Factor::new(Numbers::F32(dy), n, d_out, d_out, Along::Inner);
        let right = match w.packed {
            Some(packed) => Right::Packed(packed),
            None => Right::Plain(Factor::new(numbers, d_in, d_out, d_in, Along::Outer)),
        };
        gemm::multiply(Target { data, stride: d_in, add: false }, left, right, how.arithmetic, how.team, buffers);
        return;
    }
    let (weights, dy) = (widened(w.matrix), Mat::new(dy, n, d_out));
    multiply(MatMut::new(dx, n, d_in), Store::Replace, dy, Mat::new(&weights, d_out, d_in), how, buffers);
}

/// Weights as the definition of a product reads them.
fn widened<T: Real>(w: Matrix<'_, T>) -> Cow<'_, [T]> {
    match w {
        Matrix::Full(numbers) => Cow::Borrowed(numbers),
        Matrix::Bf16(numbers) => numbers.iter().map(|&x| T::from_bf16(x)).collect(),
    }
}

/// Weights as the fast products read them.
pub(crate) fn numbers<T: Real>(w: Matrix<'_, T>) -> Option<Numbers<'_>> {
    match w {
        Matrix::Full(x) => T::as_f32(x).map(Numbers::F32),
        Matrix::Bf16(x) => Some(Numbers::Bf16(x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Arithmetic;
    use crate::team::Team;
    use half::bf16;

    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        crate::testing::random(seed, n).into_iter().map(|x| x as f32).collect()
    }

    fn product(how: How<'_>, x: &[f32], n: usize, w: Weight<'_, f32>, d_out: usize, store: Store) -> Vec<f32> {
        let mut y = numbers(7, n * (d_out + 3));
        let columns = Columns { data: &mut y, width: d_out + 3, range: 2..d_out + 2 };
        forward(columns, store, x, n, w, how, &mut Buffers::default());
        y
    }

    /// What `Policy` promises: a row's product has the same bits in any company, by whichever way it is computed, and
    /// bf16 weights give the bits of the same numbers in full.
    #[test]
    fn every_way_gives_the_same_bits() {
        let team = Team::new(2).unwrap();
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            let how = How { arithmetic, team: &team };
            let tolerance = if arithmetic == Arithmetic::F32 { 2e-4 } else { 0.3 };
            for (d_out, d_in) in [(576, 192), (40, 1536), (1100, 600), (8, 700), (3, 5), (17, 512), (530, 4100)] {
                let most = 72;
                let (x, narrow) = (numbers(1, most * d_in), numbers(2, d_out * d_in));
                let narrow: Vec<bf16> = narrow.into_iter().map(bf16::from_f32).collect();
                let full: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
                let factor = Factor::new(Numbers::Bf16(&narrow), d_out, d_in, d_in, Along::Inner);
                let packed = Packed::new(factor, arithmetic, &team);
                for store in [Store::Replace, Store::Add] {
                    let all = product(how, &x, most, Matrix::Full(&full[..]).into(), d_out, store);
                    for (i, row) in all.chunks_exact(d_out + 3).enumerate().take(2) {
                        for (j, &y) in row[2..d_out + 2].iter().enumerate() {
                            let sum: f64 =
                                (0..d_in).map(|k| f64::from(x[i * d_in + k]) * f64::from(full[j * d_in + k])).sum();
                            let before = numbers(7, most * (d_out + 3))[i * (d_out + 3) + 2 + j];
                            let exact = sum + if store == Store::Add { f64::from(before) } else { 0.0 };
                            assert!((f64::from(y) - exact).abs() < tolerance, "{y} {exact}");
                        }
                    }
                    for n in [1, 15, 16, 17, 32, 33, most] {
                        let of_packed = Weight { matrix: Matrix::Full(&full[..]), packed: Some(&packed) };
                        for w in [Matrix::Full(&full[..]).into(), Matrix::Bf16(&narrow).into(), of_packed] {
                            let some = product(how, &x[..n * d_in], n, w, d_out, store);
                            assert!(some == all[..n * (d_out + 3)], "{n} rows of {d_out} x {d_in}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn backward_products_of_bf16_weights_have_the_same_bits() {
        let team = Team::new(2).unwrap();
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            for (d_out, d_in) in [(1600, 700), (9000, 600), (40, 24)] {
                let n = 21;
                let (dy, narrow) = (numbers(1, n * d_out), numbers(2, d_out * d_in));
                let narrow: Vec<bf16> = narrow.into_iter().map(bf16::from_f32).collect();
                let full: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
                let of = |matrix, packed| {
                    let (mut dx, w) = (vec![9.0; n * d_in], Weight { matrix, packed });
                    backward(&mut dx, &dy, n, w, d_out, How { arithmetic, team: &team }, &mut Buffers::default());
                    dx
                };
                let full = of(Matrix::Full(&full), None);
                assert!(full == of(Matrix::Bf16(&narrow), None), "{d_out} x {d_in}");
                let factor = Factor::new(Numbers::Bf16(&narrow), d_in, d_out, d_in, Along::Outer);
                let packed = Packed::new(factor, arithmetic, &team);
                assert!(full == of(Matrix::Bf16(&narrow), Some(&packed)), "{d_out} x {d_in}, packed");
            }
        }
    }
}
