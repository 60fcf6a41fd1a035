//! On which numbers do the kernels run? On `f32` in use, on `f64` in the finite-difference tests: the same code.

use crate::kernels::head::{self, Buffers, Head, HeadGradient, RowStats, fused};
use half::bf16;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A floating-point number the kernels are written over.
pub trait Real:
    Copy
    + Default
    + Send
    + Sync
    + PartialOrd
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// −∞.
    const NEG_INFINITY: Self;
    /// Rounds a constant.
    fn of(x: f64) -> Self;
    /// Widens.
    fn to_f64(self) -> f64;
    /// Widens a stored number, exactly.
    fn from_bf16(x: bf16) -> Self;
    /// `self · a + b`, fused.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `e^self`; for `f32` a branch-free polynomial that vectorises, relative error below 3e-7.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// The larger of two; never called with NaN on purpose.
    fn max(self, other: Self) -> Self;
    /// The numbers themselves, where they are what the fast products are made for.
    fn as_f32(x: &[Self]) -> Option<&[f32]>;
    /// [`Real::as_f32`] of numbers to be written.
    fn as_f32_mut(x: &mut [Self]) -> Option<&mut [f32]>;
    /// [`head::head_forward`], as it is computed in these numbers. It may keep `keep_bytes` of logits for the
    /// backward pass.
    fn head_forward(
        head: Head<'_, Self>,
        hidden: &[Self],
        targets: &[u32],
        keep_bytes: usize,
        logprobs: &mut [Self],
        stats: &mut [RowStats<Self>],
        b: &mut Buffers<Self>,
    );
    /// [`head::head_backward`], as it is computed in these numbers.
    fn head_backward(
        head: Head<'_, Self>,
        of: HeadGradient<'_, Self>,
        dhidden: &mut [Self],
        dweight: Option<&mut [Self]>,
        b: &mut Buffers<Self>,
    );
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn from_bf16(x: bf16) -> f32 {
        f32::from_bits(u32::from(x.to_bits()) << 16)
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }
    /// Cody–Waite reduction `x = n·ln 2 + r`, a degree-6 polynomial on `|r| ≤ ln 2 / 2`, and `2^n` put in by its bits.
    #[inline(always)]
    fn exp(self) -> f32 {
        const MAGIC: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to the nearest integer
        let x = if self < -87.0 { -87.0 } else { self };
        let x = if x > 88.0 { 88.0 } else { x };
        let shifted = f32::mul_add(x, std::f32::consts::LOG2_E, MAGIC);
        let n = shifted - MAGIC;
        let r = f32::mul_add(n, -0.693_359_4, x);
        let r = f32::mul_add(n, 2.121_944_4e-4, r);
        let mut p = 1.388_888_9e-3;
        p = f32::mul_add(p, r, 8.333_334e-3);
        p = f32::mul_add(p, r, 4.166_666_7e-2);
        p = f32::mul_add(p, r, 1.666_666_7e-1);
        p = f32::mul_add(p, r, 0.5);
        p = f32::mul_add(p, r, 1.0);
        p = f32::mul_add(p, r, 1.0);
        let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        if self < -87.0 { 0.0 } else { p * scale }
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn max(self, other: f32) -> f32 {
        if self > other { self } else { other }
    }
    fn as_f32(x: &[f32]) -> Option<&[f32]> {
        Some(x)
    }
    fn as_f32_mut(x: &mut [f32]) -> Option<&mut [f32]> {
        Some(x)
    }
    fn head_forward(
        h: Head<'_, f32>,
        hidden: &[f32],
        targets: &[u32],
        keep_bytes: usize,
        logprobs: &mut [f32],
        stats: &mut [RowStats<f32>],
        b: &mut Buffers<f32>,
    ) {
        fused::forward(h, hidden, targets, keep_bytes, logprobs, stats, &mut b.fused);
    }
    fn head_backward(
        h: Head<'_, f32>,
        of: HeadGradient<'_, f32>,
        dhidden: &mut [f32],
        dweight: Option<&mut [f32]>,
        b: &mut Buffers<f32>,
    ) {
        fused::backward(h, of, dhidden, dweight, &mut b.fused);
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn from_bf16(x: bf16) -> f64 {
        f64::from(f32::from_bits(u32::from(x.to_bits()) << 16))
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn max(self, other: f64) -> f64 {
        if self > other { self } else { other }
    }
    fn as_f32(_x: &[f64]) -> Option<&[f32]> {
        None
    }
    fn as_f32_mut(_x: &mut [f64]) -> Option<&mut [f32]> {
        None
    }
    fn head_forward(
        h: Head<'_, f64>,
        hidden: &[f64],
        targets: &[u32],
        _keep_bytes: usize,
        logprobs: &mut [f64],
        stats: &mut [RowStats<f64>],
        b: &mut Buffers<f64>,
    ) {
        head::head_forward(h, hidden, targets, logprobs, stats, b);
    }
    fn head_backward(
        h: Head<'_, f64>,
        of: HeadGradient<'_, f64>,
        dhidden: &mut [f64],
        dweight: Option<&mut [f64]>,
        b: &mut Buffers<f64>,
    ) {
        head::head_backward(h, of, dhidden, dweight, b);
    }
}

/// Runs `f` compiled for the widest vector unit of this machine (AVX-512, AVX2, … found at run time). `f` must be an
/// `#[inline(always)]` closure over `#[inline(always)]` code for that to reach its loops.
#[inline(always)]
pub fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// [`vectorize`] of a type instead of a closure: a closure that only borrows is called through a function of the
/// compiler's own, which a large body is not inlined into, and then it is compiled for the plainest processor.
#[inline(always)]
pub fn vectorize_op<O: pulp::NullaryFnOnce>(op: O) -> O::Output {
    pulp::Arch::new().dispatch(op)
}

/// Gives a reused buffer a length, and no more memory than the longest it has had: doubling, as vectors grow, would
/// hold twice what a batch a little larger than the last one needs. What it holds is not defined.
pub(crate) fn fit<T: Real>(buffer: &mut Vec<T>, n: usize) {
    if buffer.capacity() < n {
        *buffer = Vec::new();
        buffer.reserve_exact(n);
        crate::huge::advise(buffer);
    }
    buffer.resize(n, T::ZERO);
}

/// Σ a·b, in sixteen fixed lanes: the order of summation depends on the length alone.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    let (a16, a_rest) = a.as_chunks::<16>();
    let (b16, b_rest) = b.as_chunks::<16>();
    for (x, y) in a16.iter().zip(b16) {
        for i in 0..16 {
            lanes[i] = x[i].mul_add(y[i], lanes[i]);
        }
    }
    for (i, (&x, &y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] = x.mul_add(y, lanes[i]);
    }
    sum_lanes(lanes)
}

/// Σ a, in the same sixteen lanes.
#[inline(always)]
pub fn sum<T: Real>(a: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    let (a16, rest) = a.as_chunks::<16>();
    for x in a16 {
        for i in 0..16 {
            lanes[i] += x[i];
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        lanes[i] += x;
    }
    sum_lanes(lanes)
}

/// Largest element; −∞ for none.
#[inline(always)]
pub fn max<T: Real>(a: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; 16];
    let (a16, rest) = a.as_chunks::<16>();
    for x in a16 {
        for i in 0..16 {
            lanes[i] = lanes[i].max(x[i]);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        lanes[i] = lanes[i].max(x);
    }
    lanes.iter().fold(T::NEG_INFINITY, |m, &x| m.max(x))
}

/// Adds sixteen lanes pairwise, always in the same order.
#[inline(always)]
pub fn sum_lanes<T: Real>(mut lanes: [T; 16]) -> T {
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            let other = lanes[i + width];
            lanes[i] += other;
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        let mut worst = 0.0f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(Real::exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 3e-7, "relative error {worst}");
        assert_eq!(Real::exp(-1e30f32), 0.0);
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert!(Real::exp(1e30f32).is_finite());
    }

    #[test]
    fn dot_and_max_handle_every_remainder() {
        for n in 0..70 {
            let a: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
            let b: Vec<f64> = (0..n).map(|i| (i as f64 * 1.3).cos()).collect();
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert!((dot(&a, &b) - exact).abs() < 1e-12);
            let largest = a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(max(&a), largest);
        }
    }
}
