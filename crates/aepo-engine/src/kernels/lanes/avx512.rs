//! How are the lanes of attention computed with AVX-512? The same operations as beside this file, sixteen `f32` to a
//! register, with as many sums at once as there are registers for.

use std::any::TypeId;
use std::arch::x86_64::*;

use super::{LANES, MAX_KEYS, Mask, Output, Scalars, Start, Vectors};
use crate::real::Real;

/// Whether these functions can do the work: numbers are `f32`, and the processor has the instructions.
#[inline]
fn applies<T: Real>() -> bool {
    TypeId::of::<T>() == TypeId::of::<f32>() && is_x86_feature_detected!("avx512f")
}

/// Where a sum begins, as pointers.
#[derive(Clone, Copy)]
enum Init {
    Zero,
    Add,
    Scaled(*const f32),
}

/// A product as pointers and distances.
#[derive(Clone, Copy)]
struct Job {
    out: *mut f32,
    out_stride: usize,
    n_rows: usize,
    a: *const f32,
    a_row: usize,
    a_step: usize,
    b: *const f32,
    b_stride: usize,
    depth: usize,
    init: Init,
}

type Parts<'a, T> = (Output<'a, T>, Start<'a, T>, Scalars<'a, T>, Vectors<'a, T>);

/// [`super::product`], or its arguments back where this is not the machine or not the type for it. The caller has
/// checked that all indices lie in their slices; they are checked again here, since this is what the pointers rely on.
#[inline]
pub fn product<'a, T: Real>(
    out: Output<'a, T>,
    start: Start<'a, T>,
    a: Scalars<'a, T>,
    b: Vectors<'a, T>,
    depth: usize,
) -> Option<Parts<'a, T>> {
    if !applies::<T>() {
        return Some((out, start, a, b));
    }
    let Output { data, stride, n_rows, width } = out;
    if n_rows == 0 || depth == 0 {
        return None;
    }
    assert!(width.is_multiple_of(LANES) && (n_rows - 1) * stride + width <= data.len());
    assert!((n_rows - 1) * a.row + (depth - 1) * a.step < a.data.len());
    assert!((depth - 1) * b.stride + width <= b.data.len());
    let init = match start {
        Start::Zero => Init::Zero,
        Start::Add => Init::Add,
        Start::Scaled(scale) => {
            assert!(width <= scale.len());
            Init::Scaled(scale.as_ptr().cast())
        }
    };
    let job = Job {
        out: data.as_mut_ptr().cast(),
        out_stride: stride,
        n_rows,
        a: a.data.as_ptr().cast(),
        a_row: a.row,
        a_step: a.step,
        b: b.data.as_ptr().cast(),
        b_stride: b.stride,
        depth,
        init,
    };
    // SAFETY: `T` is `f32` and the processor has AVX-512 (`applies`). The asserts above say that for all `i < n_rows`,
    // `t < depth` and `j < width` the indices `i·stride + j`, `i·row + t·step`, `t·b.stride + j` and `j` lie in the
    // slices that the four pointers were made from, and `strips` reads and writes at no others. The output is borrowed
    // mutably, so it overlaps no input.
    unsafe { strips(job, width / LANES) };
    None
}

/// Cuts the columns into strips of as many vectors as fit beside each other in registers.
///
/// # Safety
/// As [`tile`], for all rows and `n_vectors` vectors of columns.
#[target_feature(enable = "avx512f")]
unsafe fn strips(job: Job, n_vectors: usize) {
    let mut done = 0;
    while done < n_vectors {
        let width = match n_vectors - done {
            1 => 1,
            2 | 4 => 2,
            _ => 3,
        };
        // SAFETY: `done + width ≤ n_vectors`, so these are columns of the product.
        unsafe {
            let init = match job.init {
                Init::Scaled(scale) => Init::Scaled(scale.add(done * LANES)),
                init => init,
            };
            let strip = Job { out: job.out.add(done * LANES), b: job.b.add(done * LANES), init, ..job };
            match width {
                3 => rows::<8, 3>(strip),
                2 => rows::<12, 2>(strip),
                _ => rows::<16, 1>(strip),
            }
        }
        done += width;
    }
}

/// All rows of a strip of `C` vectors, `R` at a time and the remainder in smaller numbers.
///
/// # Safety
/// As [`tile`], for all rows.
#[target_feature(enable = "avx512f")]
unsafe fn rows<const R: usize, const C: usize>(job: Job) {
    let mut i = 0;
    // SAFETY: each tile's rows are below `n_rows`.
    unsafe {
        let at = |i: usize| Job { out: job.out.add(i * job.out_stride), a: job.a.add(i * job.a_row), ..job };
        while i + R <= job.n_rows {
            tile::<R, C>(at(i));
            i += R;
        }
        while i + 4 <= job.n_rows {
            tile::<4, C>(at(i));
            i += 4;
        }
        while i < job.n_rows {
            tile::<1, C>(at(i));
            i += 1;
        }
    }
}

/// `R` rows of `C` vectors.
///
/// # Safety
/// For `i < R`, `t < depth`, `j < 16·C`: `out` may be read and written at `i·out_stride + j`, `a` read at
/// `i·a_row + t·a_step`, `b` at `t·b_stride + j` and a scale at `j`.
#[target_feature(enable = "avx512f")]
// Constant bounds and plain indices are what keeps the sums in registers.
#[allow(clippy::needless_range_loop)]
unsafe fn tile<const R: usize, const C: usize>(job: Job) {
    let mut sums = [[_mm512_setzero_ps(); C]; R];
    // SAFETY: the indices are those of the precondition; pointers are moved past what was read only.
    unsafe {
        match job.init {
            Init::Zero => {}
            Init::Add => {
                for i in 0..R {
                    for j in 0..C {
                        sums[i][j] = _mm512_loadu_ps(job.out.add(i * job.out_stride + j * LANES));
                    }
                }
            }
            Init::Scaled(scale) => {
                for j in 0..C {
                    let scale = _mm512_loadu_ps(scale.add(j * LANES));
                    for i in 0..R {
                        let held = _mm512_loadu_ps(job.out.add(i * job.out_stride + j * LANES));
                        sums[i][j] = _mm512_mul_ps(held, scale);
                    }
                }
            }
        }
        for t in 0..job.depth {
            let (a, b) = (job.a.add(t * job.a_step), job.b.add(t * job.b_stride));
            let mut vectors = [_mm512_setzero_ps(); C];
            for j in 0..C {
                vectors[j] = _mm512_loadu_ps(b.add(j * LANES));
            }
            for i in 0..R {
                let x = _mm512_set1_ps(*a.add(i * job.a_row));
                for j in 0..C {
                    sums[i][j] = _mm512_fmadd_ps(x, vectors[j], sums[i][j]);
                }
            }
        }
        for i in 0..R {
            for j in 0..C {
                _mm512_storeu_ps(job.out.add(i * job.out_stride + j * LANES), sums[i][j]);
            }
        }
    }
}

/// [`super::softmax`]; false where this is not the machine or not the type for it.
#[inline]
pub fn softmax<T: Real>(
    scores: &mut [T],
    stride: usize,
    n_keys: usize,
    mask: Mask<'_>,
    top: &mut [T],
    sum: &mut [T],
    shrink: &mut [T],
) -> bool {
    if !applies::<T>() {
        return false;
    }
    let lanes = top.len();
    super::check(scores.len(), stride, n_keys, lanes, mask);
    assert!(sum.len() == lanes && shrink.len() == lanes);
    for lane in (0..lanes).step_by(LANES) {
        let at = |x: &mut [T]| x[lane..lane + LANES].as_mut_ptr().cast();
        let (top, sum, shrink, column) = (at(top), at(sum), at(shrink), at(scores));
        // SAFETY: `T` is `f32` and the processor has AVX-512 (`applies`); the lengths were checked above, `check`
        // being the one of the caller, so that `n_keys` rows of the distance `stride` hold these lanes.
        unsafe {
            let seen = bits(mask, lane, n_keys);
            softmax_column(column, stride, &seen[..n_keys], top, sum, shrink);
        }
    }
    true
}

/// One vector of queries.
///
/// # Safety
/// `top`, `sum`, `shrink` and, for each number of `seen`, `column + k·stride` may be read and written for 16 numbers.
#[target_feature(enable = "avx512f")]
unsafe fn softmax_column(
    column: *mut f32,
    stride: usize,
    seen: &[u16],
    top: *mut f32,
    sum: *mut f32,
    shrink: *mut f32,
) {
    // SAFETY: `k` is below the number of `seen`, as the precondition says.
    unsafe {
        let before = _mm512_loadu_ps(top);
        let mut tops = [before; 4];
        for (k, &seen) in seen.iter().enumerate() {
            let s = _mm512_loadu_ps(column.add(k * stride));
            tops[k % 4] = _mm512_mask_max_ps(tops[k % 4], seen, tops[k % 4], s);
        }
        let new = _mm512_max_ps(_mm512_max_ps(tops[0], tops[1]), _mm512_max_ps(tops[2], tops[3]));
        let mut sums = [_mm512_setzero_ps(); 4];
        for (k, &seen) in seen.iter().enumerate() {
            let at = column.add(k * stride);
            let p = exp(_mm512_sub_ps(_mm512_loadu_ps(at), new));
            let p = _mm512_maskz_mov_ps(seen, p);
            _mm512_storeu_ps(at, p);
            sums[k % 4] = _mm512_add_ps(sums[k % 4], p);
        }
        let less = exp(_mm512_sub_ps(before, new));
        let more = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
        _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), less, more));
        _mm512_storeu_ps(shrink, less);
        _mm512_storeu_ps(top, new);
    }
}

/// [`super::softmax_backward`]; false where this is not the machine or not the type for it.
#[inline]
pub fn softmax_backward<T: Real>(
    scores: &mut [T],
    dscores: &mut [T],
    n_keys: usize,
    mask: Mask<'_>,
    lse: &[T],
    delta: &[T],
) -> bool {
    if !applies::<T>() {
        return false;
    }
    let lanes = lse.len();
    super::check(scores.len().min(dscores.len()), lanes, n_keys, lanes, mask);
    assert_eq!(delta.len(), lanes);
    for lane in (0..lanes).step_by(LANES) {
        let at = |x: &mut [T]| x[lane..lane + LANES].as_mut_ptr().cast();
        let read = |x: &[T]| x[lane..lane + LANES].as_ptr().cast();
        let (p, ds, lse, delta) = (at(scores), at(dscores), read(lse), read(delta));
        // SAFETY: `T` is `f32` and the processor has AVX-512 (`applies`); the lengths were checked above.
        unsafe {
            let seen = bits(mask, lane, n_keys);
            backward_column(p, ds, lanes, &seen[..n_keys], lse, delta);
        }
    }
    true
}

/// One vector of queries.
///
/// # Safety
/// `lse` and `delta` may be read, and for each number of `seen`, `p + k·stride` and `ds + k·stride` read and written,
/// for 16 numbers.
#[target_feature(enable = "avx512f")]
unsafe fn backward_column(p: *mut f32, ds: *mut f32, stride: usize, seen: &[u16], lse: *const f32, delta: *const f32) {
    // SAFETY: `k` is below the number of `seen`, as the precondition says.
    unsafe {
        let (lse, delta) = (_mm512_loadu_ps(lse), _mm512_loadu_ps(delta));
        for (k, &seen) in seen.iter().enumerate() {
            let (p, ds) = (p.add(k * stride), ds.add(k * stride));
            let e = _mm512_maskz_mov_ps(seen, exp(_mm512_sub_ps(_mm512_loadu_ps(p), lse)));
            _mm512_storeu_ps(p, e);
            _mm512_storeu_ps(ds, _mm512_mul_ps(e, _mm512_sub_ps(_mm512_loadu_ps(ds), delta)));
        }
    }
}

/// The whole squares of [`super::transpose`]: how many rows and columns are done; none where this is not the machine or
/// not the type for it.
#[inline]
pub fn transpose<T: Real>(
    from: &[T],
    from_stride: usize,
    (n_rows, width): (usize, usize),
    scale: T,
    to: &mut [T],
    to_stride: usize,
) -> (usize, usize) {
    let (n_rows, width) = (n_rows / LANES * LANES, width / LANES * LANES);
    if n_rows == 0 || width == 0 || !applies::<T>() {
        return (0, 0);
    }
    assert!((n_rows - 1) * from_stride + width <= from.len() && (width - 1) * to_stride + n_rows <= to.len());
    let scale = scale.to_f64() as f32;
    let (from, to): (*const f32, *mut f32) = (from.as_ptr().cast(), to.as_mut_ptr().cast());
    for i in (0..n_rows).step_by(LANES) {
        for j in (0..width).step_by(LANES) {
            // SAFETY: `T` is `f32` and the processor has AVX-512 (`applies`); the assert above says that the square at
            // row `i` and column `j` lies in `from`, and its mirror image in `to`, which is borrowed mutably.
            unsafe { square(from.add(i * from_stride + j), from_stride, scale, to.add(j * to_stride + i), to_stride) };
        }
    }
    (n_rows, width)
}

/// Sixteen rows of sixteen numbers: neighbours, pairs, and then quarters of vectors change places.
///
/// # Safety
/// Sixteen rows of sixteen numbers may be read at the distance `from_stride`, and written at `to_stride`.
#[target_feature(enable = "avx512f")]
unsafe fn square(from: *const f32, from_stride: usize, scale: f32, to: *mut f32, to_stride: usize) {
    let mut rows = [_mm512_setzero_ps(); LANES];
    let mut pairs = rows;
    // SAFETY: sixteen rows, as the precondition says.
    unsafe {
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm512_loadu_ps(from.add(i * from_stride));
        }
    }
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // Afterwards quarter `l` of `rows[4·i + j]` holds column `4·l + j` of the rows from `4·i` on.
    for i in (0..LANES).step_by(4) {
        let (a, b) = (_mm512_castps_pd(pairs[i]), _mm512_castps_pd(pairs[i + 1]));
        let (c, d) = (_mm512_castps_pd(pairs[i + 2]), _mm512_castps_pd(pairs[i + 3]));
        rows[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        rows[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        rows[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        rows[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    let scale = _mm512_set1_ps(scale);
    for j in 0..4 {
        let even_top = _mm512_shuffle_f32x4::<0x88>(rows[j], rows[4 + j]);
        let even_low = _mm512_shuffle_f32x4::<0x88>(rows[8 + j], rows[12 + j]);
        let odd_top = _mm512_shuffle_f32x4::<0xdd>(rows[j], rows[4 + j]);
        let odd_low = _mm512_shuffle_f32x4::<0xdd>(rows[8 + j], rows[12 + j]);
        let columns = [
            (j, _mm512_shuffle_f32x4::<0x88>(even_top, even_low)),
            (4 + j, _mm512_shuffle_f32x4::<0x88>(odd_top, odd_low)),
            (8 + j, _mm512_shuffle_f32x4::<0xdd>(even_top, even_low)),
            (12 + j, _mm512_shuffle_f32x4::<0xdd>(odd_top, odd_low)),
        ];
        for (column, x) in columns {
            // SAFETY: sixteen columns become rows, as the precondition says.
            unsafe { _mm512_storeu_ps(to.add(column * to_stride), _mm512_mul_ps(x, scale)) };
        }
    }
}

/// [`super::bits`].
#[target_feature(enable = "avx512f")]
fn bits(mask: Mask<'_>, lane: usize, n_keys: usize) -> [u16; MAX_KEYS] {
    let Mask::Between { start, first, last } = mask else { return super::bits(mask, lane, n_keys) };
    let (first, last) = (&first[lane..lane + LANES], &last[lane..lane + LANES]);
    // SAFETY: both slices hold sixteen numbers.
    let (first, last) = unsafe { (_mm512_loadu_epi32(first.as_ptr()), _mm512_loadu_epi32(last.as_ptr())) };
    let mut seen = [0; MAX_KEYS];
    for (position, to) in (start..).zip(&mut seen[..n_keys]) {
        let position = _mm512_set1_epi32(position);
        *to = _mm512_cmple_epi32_mask(first, position) & _mm512_cmple_epi32_mask(position, last);
    }
    seen
}

/// [`Real::exp`] of sixteen numbers, operation by operation.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    let set = |x: f32| _mm512_set1_ps(x);
    let magic = set(12_582_912.0);
    let least = set(-87.0);
    // In this order of arguments NaN stays NaN.
    let bounded = _mm512_min_ps(set(88.0), _mm512_max_ps(least, x));
    let shifted = _mm512_fmadd_ps(bounded, set(std::f32::consts::LOG2_E), magic);
    let n = _mm512_sub_ps(shifted, magic);
    let r = _mm512_fmadd_ps(n, set(-0.693_359_4), bounded);
    let r = _mm512_fmadd_ps(n, set(2.121_944_4e-4), r);
    let mut p = set(1.388_888_9e-3);
    for factor in [8.333_334e-3, 4.166_666_7e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0] {
        p = _mm512_fmadd_ps(p, r, set(factor));
    }
    let power = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127));
    let scale = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(power));
    let tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, least);
    _mm512_mask_mov_ps(_mm512_mul_ps(p, scale), tiny, _mm512_setzero_ps())
}
