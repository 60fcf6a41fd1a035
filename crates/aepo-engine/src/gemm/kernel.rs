//! What multiplies? A tile of up to eight rows and 48 columns, held in the processor's registers over the inner dimension.

use super::{Arithmetic, HEIGHT, Tiles, WIDTH};

/// Whether the processor has what the fast path needs in either arithmetic.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
}

/// Whether it multiplies pairs of bf16 in one instruction.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

/// Where a tile goes.
#[derive(Clone, Copy)]
pub(super) struct Out {
    /// Its first number.
    pub c: *mut f32,
    /// Distance of rows.
    pub stride: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Whether it is added to what is there.
    pub add: bool,
}

/// `c = a·b` or `c += a·b`. `b`: `[units][WIDTH]`.
///
/// # Safety
/// Rows `0..height`, `stride` apart, must have `width` numbers behind `c` that nobody else reads or writes.
pub(super) unsafe fn tile(arithmetic: Arithmetic, a: Tiles<'_>, b: &[u32], out: Out) {
    assert!(out.height <= HEIGHT && out.width <= WIDTH && out.height > 0);
    let units = b.len() / WIDTH;
    if units > 0 {
        assert!((out.height - 1) * a.row + (units - 1) * a.unit < a.units.len());
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the instructions; `a` and `b` hold what is read (the assertion above), and the caller
    // promises `out`.
    unsafe {
        match arithmetic {
            Arithmetic::F32 if has_avx512() => return avx512::f32_tile(a, b, units, out),
            Arithmetic::Bf16 if has_bf16() => return avx512::bf16_tile(a, b, units, out),
            _ => {}
        }
    }
    // SAFETY: the caller's promise.
    unsafe { plain(arithmetic, a, b, out) };
}

/// Columns of the portable kernel's tile.
const NARROW: usize = 16;

/// The definition, and what other processors run; compiled for their widest vectors.
///
/// # Safety
/// As for [`tile`].
pub(super) unsafe fn plain(arithmetic: Arithmetic, a: Tiles<'_>, b: &[u32], out: Out) {
    for row in 0..out.height {
        for start in (0..out.width).step_by(NARROW) {
            let n = NARROW.min(out.width - start);
            // SAFETY: row and columns are among those the caller promises.
            let to = unsafe { std::slice::from_raw_parts_mut(out.c.add(row * out.stride + start), n) };
            let a = a.units.get(row * a.row..).unwrap_or_default().iter().copied().step_by(a.unit.max(1));
            let b = b.chunks_exact(WIDTH).map(|b| &b[start..start + NARROW]);
            let sums = crate::real::vectorize_op(Chain { arithmetic, a, b });
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = if out.add { *to + sum } else { sum };
            }
        }
    }
}

/// Sixteen chains over the inner dimension.
struct Chain<A, B> {
    arithmetic: Arithmetic,
    a: A,
    b: B,
}

impl<'b, A: Iterator<Item = u32>, B: Iterator<Item = &'b [u32]>> pulp::NullaryFnOnce for Chain<A, B> {
    type Output = [f32; NARROW];

    #[inline(always)]
    fn call(self) -> [f32; NARROW] {
        let Chain { arithmetic, a, b } = self;
        let mut sums = [0.0; NARROW];
        let f = f32::from_bits;
        for (a, b) in a.zip(b) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = match arithmetic {
                    Arithmetic::F32 => f(a).mul_add(f(b), *sum),
                    Arithmetic::Bf16 => {
                        let odd = f(a & 0xFFFF_0000).mul_add(f(b & 0xFFFF_0000), *sum);
                        f(a << 16).mul_add(f(b << 16), odd)
                    }
                };
            }
        }
        sums
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::super::{Tiles, WIDTH};
    use super::Out;

    /// Units of the right factor that are fetched ahead: weights that few rows meet come from memory, and processors do not
    /// fetch over the end of a page by themselves.
    const AHEAD: usize = 32;

    macro_rules! kernel {
        ($name:ident, $rows:ident, $features:literal, $multiply:expr) => {
            /// # Safety
            /// The processor must have the features; `a` and `b` must hold `units` units of each row and column; `out`
            /// must be writable.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(a: Tiles<'_>, b: &[u32], units: usize, out: Out) {
                // SAFETY: the caller's promise is passed on.
                unsafe {
                    match out.height {
                        1 => $rows::<1>(a, b, units, out),
                        2 => $rows::<2>(a, b, units, out),
                        3 => $rows::<3>(a, b, units, out),
                        4 => $rows::<4>(a, b, units, out),
                        5 => $rows::<5>(a, b, units, out),
                        6 => $rows::<6>(a, b, units, out),
                        7 => $rows::<7>(a, b, units, out),
                        _ => $rows::<8>(a, b, units, out),
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $rows<const M: usize>(a: Tiles<'_>, b: &[u32], units: usize, out: Out) {
                let lanes = |i: usize| -> __mmask16 {
                    let n = out.width.saturating_sub(16 * i).min(16);
                    if n == 16 { !0 } else { (1 << n) - 1 }
                };
                let masks = [lanes(0), lanes(1), lanes(2)];
                // What is written at the end is fetched meanwhile.
                for row in 0..M {
                    for i in 0..3 {
                        _mm_prefetch::<_MM_HINT_ET0>(out.c.wrapping_add(row * out.stride + 16 * i).cast());
                    }
                }
                let mut sums = [[_mm512_setzero_ps(); 3]; M];
                let (mut b, mut at) = (b.as_ptr(), a.units.as_ptr());
                for _ in 0..units {
                    // SAFETY: the caller promises `units` units of `WIDTH` columns and of `M` rows.
                    unsafe {
                        let right: [__m512i; 3] = [
                            _mm512_loadu_si512(b.cast()),
                            _mm512_loadu_si512(b.add(16).cast()),
                            _mm512_loadu_si512(b.add(32).cast()),
                        ];
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let left = _mm512_set1_epi32(*at.add(row * a.row) as i32);
                            for (sum, right) in sums.iter_mut().zip(right) {
                                *sum = $multiply(*sum, left, right);
                            }
                        }
                        for line in 0..3 {
                            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * WIDTH + 16 * line).cast());
                        }
                        b = b.add(WIDTH);
                        at = at.wrapping_add(a.unit);
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    for (i, &sum) in sums.iter().enumerate() {
                        // SAFETY: masked lanes are neither read nor written; the caller promises the others.
                        unsafe {
                            let c = out.c.wrapping_add(row * out.stride + 16 * i);
                            let held = _mm512_maskz_loadu_ps(if out.add { masks[i] } else { 0 }, c);
                            let sum = if out.add { _mm512_add_ps(held, sum) } else { sum };
                            _mm512_mask_storeu_ps(c, masks[i], sum);
                        }
                    }
                }
            }
        };
    }

    kernel!(f32_tile, f32_rows, "avx512f,avx512bw,avx512vl", |sum, left, right| {
        _mm512_fmadd_ps(_mm512_castsi512_ps(left), _mm512_castsi512_ps(right), sum)
    });
    kernel!(bf16_tile, bf16_rows, "avx512f,avx512bw,avx512vl,avx512bf16", |sum, left, right| {
        _mm512_dpbf16_ps(sum, halves(left), halves(right))
    });

    /// A vector of 512 bits is one of 32 bf16, whatever its bits.
    #[inline(always)]
    fn halves(x: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes, and every bit pattern is either.
        unsafe { std::mem::transmute(x) }
    }
}
