//! How does attention use a vector? Each lane is a query: keys and values are read as they lie, number by number, and
//! every number meets sixteen queries at once.
//!
//! Scores stand as `[keys][queries]`, so a softmax goes down columns and nothing is summed across lanes; what a query
//! gets does not depend on the queries beside it. The functions here are the definition, over any [`Real`]; on a
//! processor with AVX-512 those over `f32` are done by [`avx512`] with the same operations in the same order.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::real::{Real, vectorize_op};

/// Queries in a vector.
pub const LANES: usize = 16;
/// Keys that a softmax meets at once, at most.
pub const MAX_KEYS: usize = 64;

/// The left side of a product: `a(i, t) = data[i·row + t·step]`.
#[derive(Clone, Copy)]
pub struct Scalars<'a, T> {
    /// The numbers.
    pub data: &'a [T],
    /// Distance of rows.
    pub row: usize,
    /// Distance of the numbers of a row.
    pub step: usize,
}

/// The right side of a product, row-major.
#[derive(Clone, Copy)]
pub struct Vectors<'a, T> {
    /// The numbers.
    pub data: &'a [T],
    /// Distance of rows.
    pub stride: usize,
}

/// Where a product goes: `n_rows` rows of `width` numbers, a multiple of [`LANES`].
pub struct Output<'a, T> {
    /// The numbers.
    pub data: &'a mut [T],
    /// Distance of rows.
    pub stride: usize,
    /// Rows.
    pub n_rows: usize,
    /// Numbers of a row.
    pub width: usize,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub enum Start<'a, T> {
    /// Nothing: what the output holds is not read.
    Zero,
    /// What the output holds.
    Add,
    /// What the output holds, each column times its own number. `[width]`
    Scaled(&'a [T]),
}

/// Which queries see which keys.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// All see all.
    Full,
    /// Key `k` is seen by the lanes whose row's bit of `bits[k]` is set; lane `i` belongs to row `i % n_rows`, and
    /// `n_rows` is a multiple of [`LANES`] up to 64.
    Rows {
        /// `[keys]`
        bits: &'a [u64],
        /// Rows of a head.
        n_rows: usize,
    },
    /// Key `k` stands at position `start + k`, and lane `i` sees the positions from `first[i]` to `last[i]`.
    Between {
        /// Position of the first key.
        start: i32,
        /// `[lanes]`
        first: &'a [i32],
        /// `[lanes]`, inclusive.
        last: &'a [i32],
    },
}

/// `out(i, j) = start + Σ_t a(i, t)·b(t, j)`, one fused multiplication and addition after the other in the order of `t`.
#[inline]
pub fn product<T: Real>(out: Output<'_, T>, start: Start<'_, T>, a: Scalars<'_, T>, b: Vectors<'_, T>, depth: usize) {
    if out.n_rows == 0 || out.width == 0 {
        return;
    }
    assert!(out.width.is_multiple_of(LANES), "a product of {} columns", out.width);
    assert!((out.n_rows - 1) * out.stride + out.width <= out.data.len(), "a product leaves its output");
    assert!(depth > 0 && (out.n_rows - 1) * a.row + (depth - 1) * a.step < a.data.len(), "a product's left side");
    assert!((depth - 1) * b.stride + out.width <= b.data.len(), "a product's right side");
    assert!(!matches!(start, Start::Scaled(s) if s.len() < out.width), "a product's start");
    #[cfg(target_arch = "x86_64")]
    let Some((out, start, a, b)) = avx512::product(out, start, a, b, depth) else { return };
    vectorize_op(Product { out, start, a, b, depth });
}

/// Meets a block of scores (`[n_keys][lanes]`): they become `exp(s − top)` with the new `top`, 0 where a query does not
/// see a key; `sum ← sum·shrink + Σ`, where `shrink = exp(top before − top)` is what older sums have to be multiplied
/// with. `top`, `sum` and `shrink`: `[lanes]`.
#[inline]
pub fn softmax<T: Real>(
    scores: &mut [T],
    stride: usize,
    n_keys: usize,
    mask: Mask<'_>,
    top: &mut [T],
    sum: &mut [T],
    shrink: &mut [T],
) {
    let lanes = top.len();
    check(scores.len(), stride, n_keys, lanes, mask);
    assert!(sum.len() == lanes && shrink.len() == lanes, "sums of {lanes} lanes");
    #[cfg(target_arch = "x86_64")]
    if avx512::softmax(scores, stride, n_keys, mask, top, sum, shrink) {
        return;
    }
    vectorize_op(Softmax { scores, stride, n_keys, mask, top, sum, shrink });
}

/// From scores to probabilities `p = exp(s − lse)`, and from `dp` to `ds = p·(dp − delta)`; both 0 where a query does
/// not see a key. `scores`, `dscores`: `[n_keys][lanes]`; `lse`, `delta`: `[lanes]`.
#[inline]
pub fn softmax_backward<T: Real>(
    scores: &mut [T],
    dscores: &mut [T],
    n_keys: usize,
    mask: Mask<'_>,
    lse: &[T],
    delta: &[T],
) {
    let lanes = lse.len();
    check(scores.len().min(dscores.len()), lanes, n_keys, lanes, mask);
    assert_eq!(delta.len(), lanes, "lanes");
    #[cfg(target_arch = "x86_64")]
    if avx512::softmax_backward(scores, dscores, n_keys, mask, lse, delta) {
        return;
    }
    vectorize_op(SoftmaxBackward { scores, dscores, n_keys, mask, lse, delta });
}

/// `to[j·to_stride + i] = scale·from[i·from_stride + j]` for `n_rows` rows of `width` numbers.
#[inline]
pub fn transpose<T: Real>(
    from: &[T],
    from_stride: usize,
    (n_rows, width): (usize, usize),
    scale: T,
    to: &mut [T],
    to_stride: usize,
) {
    if n_rows == 0 || width == 0 {
        return;
    }
    assert!((n_rows - 1) * from_stride + width <= from.len() && (width - 1) * to_stride + n_rows <= to.len());
    #[cfg(target_arch = "x86_64")]
    let done = avx512::transpose(from, from_stride, (n_rows, width), scale, to, to_stride);
    #[cfg(not(target_arch = "x86_64"))]
    let done = (0, 0);
    // What is no whole square of vectors.
    for i in 0..n_rows {
        for j in if i < done.0 { done.1 } else { 0 }..width {
            to[j * to_stride + i] = from[i * from_stride + j] * scale;
        }
    }
}

fn check(len: usize, stride: usize, n_keys: usize, lanes: usize, mask: Mask<'_>) {
    assert!(lanes.is_multiple_of(LANES) && lanes > 0 && lanes <= stride, "{lanes} lanes");
    assert!((1..=MAX_KEYS).contains(&n_keys) && (n_keys - 1) * stride + lanes <= len, "{n_keys} keys");
    match mask {
        Mask::Full => {}
        Mask::Rows { bits, n_rows } => {
            assert!(bits.len() == n_keys && n_rows.is_multiple_of(LANES) && (1..=64).contains(&n_rows), "a mask");
        }
        Mask::Between { first, last, .. } => assert!(first.len() == lanes && last.len() == lanes, "a mask"),
    }
}

/// Bit `i` of each key's number: whether lane `lane + i` sees it.
#[inline(always)]
fn bits(mask: Mask<'_>, lane: usize, n_keys: usize) -> [u16; MAX_KEYS] {
    let mut seen = [u16::MAX; MAX_KEYS];
    match mask {
        Mask::Full => {}
        Mask::Rows { bits, n_rows } => {
            for (to, &bits) in seen.iter_mut().zip(bits) {
                *to = (bits >> (lane % n_rows)) as u16;
            }
        }
        Mask::Between { start, first, last } => {
            let (first, last) = (&first[lane..lane + LANES], &last[lane..lane + LANES]);
            for (position, to) in (start..).zip(&mut seen[..n_keys]) {
                let sees = |i: usize| u16::from(first[i] <= position && position <= last[i]) << i;
                *to = (0..LANES).map(sees).sum();
            }
        }
    }
    seen
}

struct Product<'a, T> {
    out: Output<'a, T>,
    start: Start<'a, T>,
    a: Scalars<'a, T>,
    b: Vectors<'a, T>,
    depth: usize,
}

impl<T: Real> pulp::NullaryFnOnce for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        for column in (0..self.out.width).step_by(LANES) {
            let mut row = 0;
            while row + 4 <= self.out.n_rows {
                self.rows::<4>(row, column);
                row += 4;
            }
            for row in row..self.out.n_rows {
                self.rows::<1>(row, column);
            }
        }
    }
}

impl<T: Real> Product<'_, T> {
    // Constant bounds and plain indices are what keeps the sums in registers.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn rows<const N: usize>(&mut self, row: usize, column: usize) {
        let mut sums = [[T::ZERO; LANES]; N];
        let at = |i: usize| (row + i) * self.out.stride + column;
        for i in 0..N {
            let held = &self.out.data[at(i)..][..LANES];
            match self.start {
                Start::Zero => {}
                Start::Add => sums[i].copy_from_slice(held),
                Start::Scaled(scale) => {
                    for j in 0..LANES {
                        sums[i][j] = held[j] * scale[column + j];
                    }
                }
            }
        }
        for t in 0..self.depth {
            let b = &self.b.data[t * self.b.stride + column..][..LANES];
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = self.a.data[(row + i) * self.a.row + t * self.a.step];
                for j in 0..LANES {
                    sums[j] = a.mul_add(b[j], sums[j]);
                }
            }
        }
        for i in 0..N {
            let at = at(i);
            self.out.data[at..][..LANES].copy_from_slice(&sums[i]);
        }
    }
}

struct Softmax<'a, T> {
    scores: &'a mut [T],
    stride: usize,
    n_keys: usize,
    mask: Mask<'a>,
    top: &'a mut [T],
    sum: &'a mut [T],
    shrink: &'a mut [T],
}

impl<T: Real> pulp::NullaryFnOnce for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for lane in (0..self.top.len()).step_by(LANES) {
            let seen = bits(self.mask, lane, self.n_keys);
            let mut top = [T::ZERO; LANES];
            top.copy_from_slice(&self.top[lane..lane + LANES]);
            for (k, seen) in seen[..self.n_keys].iter().enumerate() {
                let row = &self.scores[k * self.stride + lane..][..LANES];
                for i in 0..LANES {
                    top[i] = top[i].max(if seen >> i & 1 == 1 { row[i] } else { T::NEG_INFINITY });
                }
            }
            // Four sums in turn, as decoding adds them: see `attend`.
            let mut sums = [[T::ZERO; LANES]; 4];
            for (k, seen) in seen[..self.n_keys].iter().enumerate() {
                let row = &mut self.scores[k * self.stride + lane..][..LANES];
                for i in 0..LANES {
                    let p = (row[i] - top[i]).exp();
                    row[i] = if seen >> i & 1 == 1 { p } else { T::ZERO };
                    sums[k % 4][i] += row[i];
                }
            }
            for i in 0..LANES {
                let shrink = (self.top[lane + i] - top[i]).exp();
                let new = (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]);
                self.sum[lane + i] = self.sum[lane + i].mul_add(shrink, new);
                self.shrink[lane + i] = shrink;
                self.top[lane + i] = top[i];
            }
        }
    }
}

struct SoftmaxBackward<'a, T> {
    scores: &'a mut [T],
    dscores: &'a mut [T],
    n_keys: usize,
    mask: Mask<'a>,
    lse: &'a [T],
    delta: &'a [T],
}

impl<T: Real> pulp::NullaryFnOnce for SoftmaxBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let stride = self.lse.len();
        for lane in (0..stride).step_by(LANES) {
            let seen = bits(self.mask, lane, self.n_keys);
            let (lse, delta) = (&self.lse[lane..lane + LANES], &self.delta[lane..lane + LANES]);
            for (k, seen) in seen[..self.n_keys].iter().enumerate() {
                let p = &mut self.scores[k * stride + lane..][..LANES];
                let ds = &mut self.dscores[k * stride + lane..][..LANES];
                for i in 0..LANES {
                    let e = (p[i] - lse[i]).exp();
                    p[i] = if seen >> i & 1 == 1 { e } else { T::ZERO };
                    ds[i] = p[i] * (ds[i] - delta[i]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
