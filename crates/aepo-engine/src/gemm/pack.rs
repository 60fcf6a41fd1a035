//! How do numbers become panels? Rounded where they are to be, paired, and laid out in the order the kernel reads them.

use std::ops::Range;

use half::bf16;

use super::{Along, Arithmetic, Factor, Numbers};

/// Writes the units `depth` of the lines `first..first + W` as `[units][W]`; what lies outside the factor is zero.
pub(super) fn pack<const W: usize>(
    factor: &Factor<'_>,
    arithmetic: Arithmetic,
    first: usize,
    depth: Range<usize>,
    out: &mut [u32],
) {
    let lines = W.min(factor.outer.saturating_sub(first));
    let out = &mut out[..depth.len() * W];
    #[cfg(target_arch = "x86_64")]
    if super::kernel::has_avx512() {
        // SAFETY: the processor has the instructions (checked just now). The factor's constructor checked that every
        // number of it lies in its slice; `out` holds `depth.len()·W` units (the slice above).
        unsafe { avx512::pack::<W>(factor, arithmetic, first, lines, depth, out) };
        return;
    }
    plain::<W>(factor, arithmetic, first, lines, depth, out);
}

/// Writes the units of row `index` from unit `start` on, one behind the other; the row is contiguous.
pub(super) fn row(factor: &Factor<'_>, arithmetic: Arithmetic, index: usize, start: usize, out: &mut [u32]) {
    let per_unit = per_unit(arithmetic);
    let len = (out.len() * per_unit).min(factor.inner - start * per_unit);
    let at = index * factor.stride + start * per_unit;
    #[cfg(target_arch = "x86_64")]
    if super::kernel::has_avx512() {
        // SAFETY: the processor has the instructions, and the slices hold what is read and written.
        unsafe { avx512::row(factor.numbers, arithmetic, at, len, out) };
        return;
    }
    for (k, out) in out.iter_mut().enumerate() {
        *out = unit(arithmetic, |i| (k * per_unit + i < len).then(|| number(factor.numbers, at + k * per_unit + i)));
    }
}

/// Numbers of the inner dimension in a unit.
fn per_unit(arithmetic: Arithmetic) -> usize {
    match arithmetic {
        Arithmetic::F32 => 1,
        Arithmetic::Bf16 => 2,
    }
}

fn number(numbers: Numbers<'_>, i: usize) -> f32 {
    match numbers {
        Numbers::F32(x) => x[i],
        Numbers::Bf16(x) => f32::from_bits(u32::from(x[i].to_bits()) << 16),
    }
}

fn unit(arithmetic: Arithmetic, number: impl Fn(usize) -> Option<f32>) -> u32 {
    let of = |i| number(i).unwrap_or(0.0);
    match arithmetic {
        Arithmetic::F32 => of(0).to_bits(),
        Arithmetic::Bf16 => {
            let half = |i| u32::from(bf16::from_f32(of(i)).to_bits());
            half(0) | half(1) << 16
        }
    }
}

/// The definition, and what processors without AVX-512 run.
pub(super) fn plain<const W: usize>(
    factor: &Factor<'_>,
    arithmetic: Arithmetic,
    first: usize,
    lines: usize,
    depth: Range<usize>,
    out: &mut [u32],
) {
    let per_unit = per_unit(arithmetic);
    for (k, out) in depth.zip(out.chunks_exact_mut(W)) {
        for (line, out) in out.iter_mut().enumerate() {
            *out = unit(arithmetic, |i| {
                let (outer, inner) = (first + line, k * per_unit + i);
                let at = match factor.along {
                    Along::Inner => outer * factor.stride + inner,
                    Along::Outer => inner * factor.stride + outer,
                };
                (line < lines && inner < factor.inner).then(|| number(factor.numbers, at))
            });
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::super::{Along, Arithmetic, Factor, Numbers};
    use super::per_unit;

    /// A mask of the first `n` of sixteen lanes.
    fn first_lanes(n: usize) -> __mmask16 {
        if n >= 16 { !0 } else { (1 << n) - 1 }
    }

    /// Sixteen numbers from `at` on as `f32`, of which the first `n` are read.
    ///
    /// # Safety
    /// AVX-512; the first `n` numbers from `at` on must lie in the slice.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn wide(numbers: Numbers<'_>, at: usize, n: usize) -> __m512 {
        let mask = first_lanes(n);
        // SAFETY: masked lanes are not read, and the caller promises the others.
        unsafe {
            match numbers {
                Numbers::F32(x) => _mm512_maskz_loadu_ps(mask, x.as_ptr().wrapping_add(at)),
                Numbers::Bf16(x) => {
                    let halves = _mm256_maskz_loadu_epi16(mask, x.as_ptr().wrapping_add(at).cast());
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
                }
            }
        }
    }

    /// Rounds to the nearest bf16, ties to even, in the upper half of each lane; the lower half is not cleared. A NaN
    /// stays one.
    #[target_feature(enable = "avx512f")]
    fn round(x: __m512) -> __m512i {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000))
    }

    /// Pairs of bf16: `even` in the lower halves, `odd` in the upper ones.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn pairs(even: __m512, odd: __m512) -> __m512i {
        let (even, odd) = (_mm512_srli_epi32::<16>(round(even)), round(odd));
        _mm512_mask_blend_epi16(0xAAAA_AAAA, even, odd)
    }

    /// Sixteen units of a contiguous line from number `at` on, of which `n` numbers are read.
    ///
    /// # Safety
    /// As for [`wide`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn line(numbers: Numbers<'_>, arithmetic: Arithmetic, at: usize, n: usize) -> __m512i {
        // SAFETY: the caller's promise is passed on; each load is of no more than `n` numbers.
        unsafe {
            match (arithmetic, numbers) {
                (Arithmetic::F32, _) => _mm512_castps_si512(wide(numbers, at, n)),
                (Arithmetic::Bf16, Numbers::Bf16(x)) => {
                    let mask = if n >= 32 { !0 } else { (1u32 << n) - 1 };
                    _mm512_maskz_loadu_epi16(mask, x.as_ptr().wrapping_add(at).cast())
                }
                (Arithmetic::Bf16, Numbers::F32(_)) => {
                    let (low, high) = (wide(numbers, at, n), wide(numbers, at + 16, n.saturating_sub(16)));
                    // The upper halves of both, in order.
                    let order = _mm512_set_epi16(
                        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17,
                        15, 13, 11, 9, 7, 5, 3, 1,
                    );
                    _mm512_permutex2var_epi16(round(low), order, round(high))
                }
            }
        }
    }

    /// `[lines][16 units]` to `[16 units][lines]`.
    #[target_feature(enable = "avx512f")]
    fn transpose(x: [__m512i; 16]) -> [__m512i; 16] {
        let mut a = x;
        for i in 0..8 {
            a[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
        }
        let mut b = a;
        for i in 0..4 {
            b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
            b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
            b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
            b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
        }
        let mut c = b;
        for i in 0..4 {
            c[i] = _mm512_shuffle_i32x4::<0x88>(b[i], b[i + 4]);
            c[i + 4] = _mm512_shuffle_i32x4::<0xDD>(b[i], b[i + 4]);
            c[i + 8] = _mm512_shuffle_i32x4::<0x88>(b[i + 8], b[i + 12]);
            c[i + 12] = _mm512_shuffle_i32x4::<0xDD>(b[i + 8], b[i + 12]);
        }
        let mut d = c;
        for i in 0..4 {
            d[i] = _mm512_shuffle_i32x4::<0x88>(c[i], c[i + 8]);
            d[i + 8] = _mm512_shuffle_i32x4::<0xDD>(c[i], c[i + 8]);
            d[i + 4] = _mm512_shuffle_i32x4::<0x88>(c[i + 4], c[i + 12]);
            d[i + 12] = _mm512_shuffle_i32x4::<0xDD>(c[i + 4], c[i + 12]);
        }
        d
    }

    /// # Safety
    /// AVX-512; the factor's lines `first..first + lines` and the part of `depth` inside of it must lie in its slice;
    /// `out` must hold `depth.len()·W` units.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) unsafe fn pack<const W: usize>(
        factor: &Factor<'_>,
        arithmetic: Arithmetic,
        first: usize,
        lines: usize,
        depth: Range<usize>,
        out: &mut [u32],
    ) {
        let (numbers, per_unit) = (factor.numbers, per_unit(arithmetic));
        let to = out.as_mut_ptr();
        match factor.along {
            Along::Inner => {
                for block in (0..W).step_by(16) {
                    let width = 16.min(W - block);
                    for start in depth.clone().step_by(16) {
                        let units = 16.min(depth.end - start);
                        let n = (units * per_unit).min(factor.inner - start * per_unit);
                        let mut rows = [_mm512_setzero_si512(); 16];
                        for (i, row) in rows.iter_mut().enumerate().take(width) {
                            if block + i < lines {
                                let at = (first + block + i) * factor.stride + start * per_unit;
                                // SAFETY: line `first + block + i` is one of the factor's, and `n` ends with it.
                                *row = unsafe { line(numbers, arithmetic, at, n) };
                            }
                        }
                        let columns = transpose(rows);
                        for (k, column) in columns.iter().enumerate().take(units) {
                            // SAFETY: unit `start + k` is one of `depth`, and `block + width` no more than `W`.
                            unsafe {
                                let to = to.add((start - depth.start + k) * W + block);
                                _mm512_mask_storeu_epi32(to.cast(), first_lanes(width), *column);
                            }
                        }
                    }
                }
            }
            Along::Outer => {
                for k in depth.clone() {
                    for block in (0..W).step_by(16) {
                        let width = 16.min(W - block);
                        let n = width.min(lines.saturating_sub(block));
                        let row = |inner: usize| {
                            let n = if inner < factor.inner { n } else { 0 };
                            // SAFETY: `n` numbers of row `inner` from this block on are the factor's.
                            unsafe { wide(numbers, inner * factor.stride + first + block, n) }
                        };
                        let column = match arithmetic {
                            Arithmetic::F32 => _mm512_castps_si512(row(k)),
                            Arithmetic::Bf16 => pairs(row(2 * k), row(2 * k + 1)),
                        };
                        // SAFETY: as above.
                        unsafe {
                            let to = to.add((k - depth.start) * W + block);
                            _mm512_mask_storeu_epi32(to.cast(), first_lanes(width), column);
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// AVX-512; `len` numbers from `at` on must lie in the slice, and no more than fill `out`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) unsafe fn row(numbers: Numbers<'_>, arithmetic: Arithmetic, at: usize, len: usize, out: &mut [u32]) {
        let per_unit = per_unit(arithmetic);
        for (i, out) in out.chunks_mut(16).enumerate() {
            let done = (16 * i * per_unit).min(len);
            // SAFETY: what is read lies within `len` numbers, what is written within the chunk.
            unsafe {
                let units = line(numbers, arithmetic, at + done, (len - done).min(16 * per_unit));
                _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), first_lanes(out.len()), units);
            }
        }
    }
}
