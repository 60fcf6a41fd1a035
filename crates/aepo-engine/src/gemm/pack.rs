//! How do numbers become panels? Rounded where they are to be, paired, and laid out in the order the kernel reads them.

use std::ops::Range;

use half::bf16;

#[cfg(target_arch = "x86_64")]
use super::kernel::{has_avx512, has_bf16};
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
    // SAFETY: the processor has the instructions (checked just now). The factor's constructor checked that every number of
    // it lies in its slice; `out` holds `depth.len()·W` units (the slice above).
    unsafe {
        match arithmetic {
            Arithmetic::F32 if has_avx512() => return avx512::full::pack::<W>(factor, first, lines, depth, out),
            Arithmetic::Bf16 if has_bf16() => return avx512::halves::pack::<W>(factor, first, lines, depth, out),
            _ => {}
        }
    }
    plain::<W>(factor, arithmetic, first, lines, depth, out);
}

/// Writes the units of row `index`, one behind the other; the row is contiguous.
pub(super) fn row(factor: &Factor<'_>, arithmetic: Arithmetic, index: usize, out: &mut [u32]) {
    let per_unit = per_unit(arithmetic);
    let (len, at) = ((out.len() * per_unit).min(factor.inner), index * factor.stride);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the instructions, and the slices hold what is read and written.
    unsafe {
        match arithmetic {
            Arithmetic::F32 if has_avx512() => return avx512::full::row(factor.numbers, at, len, out),
            Arithmetic::Bf16 if has_bf16() => return avx512::halves::row(factor.numbers, at, len, out),
            _ => {}
        }
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
            // As the processor's own instruction: what is smaller than any normal number is zero.
            let flushed = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
            let half = |i| u32::from(bf16::from_f32(flushed(of(i))).to_bits());
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

    use super::super::{Along, Factor, Numbers};

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

    /// Packing into units of a kind: `line` reads sixteen of them from a contiguous line, from a number on of which `n`
    /// may be read; `column` makes them of the numbers of sixteen lines, as many as a unit has.
    macro_rules! packing {
        ($name:ident, $features:literal, $per_unit:literal, $line:expr, $column:expr) => {
            pub(super) mod $name {
                use super::*;

                /// Numbers of the inner dimension in a unit.
                const PER_UNIT: usize = $per_unit;

                /// # Safety
                /// The processor must have the features; the factor's lines `first..first + lines` and the part of
                /// `depth` inside of it must lie in its slice; `out` must hold `depth.len()·W` units.
                #[target_feature(enable = $features)]
                pub(in super::super) unsafe fn pack<const W: usize>(
                    factor: &Factor<'_>,
                    first: usize,
                    lines: usize,
                    depth: Range<usize>,
                    out: &mut [u32],
                ) {
                    match factor.along {
                        // SAFETY: the caller's promise is passed on.
                        Along::Inner => unsafe { along_inner::<W>(factor, first, lines, depth, out) },
                        // SAFETY: as above.
                        Along::Outer => unsafe { along_outer::<W>(factor, first, lines, depth, out) },
                    }
                }

                /// # Safety
                /// As for [`pack`].
                #[target_feature(enable = $features)]
                unsafe fn along_inner<const W: usize>(
                    factor: &Factor<'_>,
                    first: usize,
                    lines: usize,
                    depth: Range<usize>,
                    out: &mut [u32],
                ) {
                    for block in (0..W).step_by(16) {
                        let width = 16.min(W - block);
                        for start in depth.clone().step_by(16) {
                            let units = 16.min(depth.end - start);
                            let n = (units * PER_UNIT).min(factor.inner - start * PER_UNIT);
                            let mut rows = [_mm512_setzero_si512(); 16];
                            for (i, row) in rows.iter_mut().enumerate().take(width) {
                                if block + i < lines {
                                    let at = (first + block + i) * factor.stride + start * PER_UNIT;
                                    // SAFETY: line `first + block + i` is one of the factor's, and `n` ends with it.
                                    *row = unsafe { $line(factor.numbers, at, n) };
                                }
                            }
                            let columns = transpose(rows);
                            for (k, column) in columns.iter().enumerate().take(units) {
                                // SAFETY: unit `start + k` is one of `depth`, and `block + width` no more than `W`.
                                unsafe {
                                    let to = out.as_mut_ptr().add((start - depth.start + k) * W + block);
                                    _mm512_mask_storeu_epi32(to.cast(), first_lanes(width), *column);
                                }
                            }
                        }
                    }
                }

                /// # Safety
                /// As for [`pack`].
                #[target_feature(enable = $features)]
                unsafe fn along_outer<const W: usize>(
                    factor: &Factor<'_>,
                    first: usize,
                    lines: usize,
                    depth: Range<usize>,
                    out: &mut [u32],
                ) {
                    for k in depth.clone() {
                        for block in (0..W).step_by(16) {
                            let width = 16.min(W - block);
                            let n = width.min(lines.saturating_sub(block));
                            let row = |i: usize| {
                                let inner = k * PER_UNIT + i;
                                let n = if inner < factor.inner { n } else { 0 };
                                // SAFETY: `n` numbers of row `inner` from this block on are the factor's.
                                unsafe { wide(factor.numbers, inner * factor.stride + first + block, n) }
                            };
                            // SAFETY: what is written lies within row `k` of what `out` holds.
                            unsafe {
                                let to = out.as_mut_ptr().add((k - depth.start) * W + block);
                                _mm512_mask_storeu_epi32(to.cast(), first_lanes(width), $column(row));
                            }
                        }
                    }
                }

                /// # Safety
                /// The processor must have the features; `len` numbers from `at` on must lie in the slice, and no
                /// more than fill `out`.
                #[target_feature(enable = $features)]
                pub(in super::super) unsafe fn row(numbers: Numbers<'_>, at: usize, len: usize, out: &mut [u32]) {
                    for (i, out) in out.chunks_mut(16).enumerate() {
                        let done = (16 * i * PER_UNIT).min(len);
                        // SAFETY: what is read lies within `len` numbers, what is written within the chunk.
                        unsafe {
                            let units = $line(numbers, at + done, (len - done).min(16 * PER_UNIT));
                            _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), first_lanes(out.len()), units);
                        }
                    }
                }
            }
        };
    }

    packing!(full, "avx512f,avx512bw,avx512vl", 1, numbers_of_line, numbers_of_row);
    packing!(halves, "avx512f,avx512bw,avx512vl,avx512bf16", 2, pairs_of_line, pairs_of_rows);

    /// Sixteen numbers of a line, of which `n` are read.
    ///
    /// # Safety
    /// As for [`wide`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn numbers_of_line(numbers: Numbers<'_>, at: usize, n: usize) -> __m512i {
        // SAFETY: the caller's promise is passed on.
        _mm512_castps_si512(unsafe { wide(numbers, at, n) })
    }

    /// Sixteen numbers of a row.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn numbers_of_row(row: impl Fn(usize) -> __m512) -> __m512i {
        _mm512_castps_si512(row(0))
    }

    /// Thirty-two numbers rounded to the nearest bf16, ties to even, those of `low` first.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn round(low: __m512, high: __m512) -> __m512i {
        let halves = _mm512_cvtne2ps_pbh(high, low);
        // SAFETY: both are 64 bytes, and every bit pattern is either.
        unsafe { std::mem::transmute(halves) }
    }

    /// Thirty-two numbers of a line, of which `n` are read.
    ///
    /// # Safety
    /// The processor must have the features; the first `n` numbers from `at` on must lie in the slice.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn pairs_of_line(numbers: Numbers<'_>, at: usize, n: usize) -> __m512i {
        // SAFETY: the caller's promise is passed on; each load is of no more than `n` numbers.
        unsafe {
            match numbers {
                Numbers::Bf16(x) => {
                    let mask = if n >= 32 { !0 } else { (1u32 << n) - 1 };
                    _mm512_maskz_loadu_epi16(mask, x.as_ptr().wrapping_add(at).cast())
                }
                Numbers::F32(_) => round(wide(numbers, at, n), wide(numbers, at + 16, n.saturating_sub(16))),
            }
        }
    }

    /// Sixteen pairs, the first row's numbers in the lower halves.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pairs_of_rows(row: impl Fn(usize) -> __m512) -> __m512i {
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17,
            1, 16, 0,
        );
        _mm512_permutexvar_epi16(order, round(row(0), row(1)))
    }
}
