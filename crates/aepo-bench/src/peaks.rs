//! How fast can a core of this machine multiply and add? Loops over registers, and over panels that lie in the cache.
//!
//! Each function does a fixed amount of work and tells how many operations that was; `limits` times them. The kind of
//! instructions is found at run time, and its name is told with the result.

use std::hint::black_box;

/// Which instructions a loop uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// What the compiler makes of plain code, which is no limit of the machine.
    Portable,
}

impl Kind {
    /// As rows write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Avx512 => "avx512",
            Kind::Avx2 => "avx2",
            Kind::Portable => "portable code, no limit of the machine",
        }
    }

    /// The best for f32 that this machine has.
    pub fn for_f32() -> Kind {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Kind::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Kind::Avx2;
            }
        }
        Kind::Portable
    }

    /// Whether there are dot products of bf16.
    pub fn has_bf16() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }
}

/// Steps of a loop over registers.
const STEPS: usize = 20_000;

/// Depth of the panels of the matrix product.
pub const DEPTH: usize = 192;
/// Rows of the left matrix.
pub const ROWS: usize = 64;
/// Columns of the right one: one panel.
pub const COLUMNS: usize = 48;

/// Multiplies and adds in registers alone; gives the number of operations.
pub fn f32_registers(kind: Kind) -> u64 {
    match kind {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => {
            assert!(is_x86_feature_detected!("avx512f"));
            // SAFETY: the processor has AVX-512F, as asserted.
            unsafe { x86::f32_registers_512() }
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => {
            assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
            // SAFETY: the processor has AVX2 and FMA, as asserted.
            unsafe { x86::f32_registers_256() }
        }
        _ => portable_registers(),
    }
}

/// Dot products of bf16 in registers alone; gives the number of operations, 0 where there are none.
pub fn bf16_registers() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if Kind::has_bf16() {
        // SAFETY: the processor has AVX-512F and AVX-512 BF16, as just found.
        return unsafe { x86::bf16_registers() };
    }
    0
}

/// What a matrix product in the cache works on: panels as a packed product has them.
pub struct Panels {
    /// `[ROWS / 8, DEPTH, 8]`
    left: Vec<f32>,
    /// `[DEPTH, COLUMNS]`
    right: Vec<f32>,
    /// `[ROWS, COLUMNS]`
    out: Vec<f32>,
}

impl Panels {
    /// Panels of small numbers. Read as pairs of bf16 they are small numbers too.
    pub fn new() -> Panels {
        Panels { left: vec![1e-3; ROWS * DEPTH], right: vec![1e-3; DEPTH * COLUMNS], out: vec![0.0; ROWS * COLUMNS] }
    }

    /// `out = left · right` in f32; gives the number of operations.
    pub fn f32_product(&mut self, kind: Kind) -> u64 {
        match kind {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                assert!(is_x86_feature_detected!("avx512f"));
                // SAFETY: the processor has AVX-512F, as asserted.
                unsafe { x86::f32_product_512(self) }
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
                // SAFETY: the processor has AVX2 and FMA, as asserted.
                unsafe { x86::f32_product_256(self) }
            }
            _ => self.portable_product(),
        }
        black_box(&mut self.out);
        2 * (ROWS * DEPTH * COLUMNS) as u64
    }

    /// The same over pairs of bf16: each f32 of the panels is read as two numbers, so the product is twice as deep.
    /// Gives the number of operations, 0 where the machine has no dot products of bf16.
    pub fn bf16_product(&mut self) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if Kind::has_bf16() {
            // SAFETY: the processor has AVX-512F and AVX-512 BF16, as just found.
            unsafe { x86::bf16_product(self) };
            black_box(&mut self.out);
            return 2 * 2 * (ROWS * DEPTH * COLUMNS) as u64;
        }
        0
    }

    fn portable_product(&mut self) {
        let (left, right) = (self.left.as_chunks::<8>().0, self.right.as_chunks::<16>().0);
        for (rows, out) in left.chunks_exact(DEPTH).zip(self.out.chunks_exact_mut(8 * COLUMNS)) {
            for third in 0..COLUMNS / 16 {
                for half in 0..2 {
                    let mut sums = [[0.0f32; 16]; 4];
                    for (a, b) in rows.iter().zip(right.iter().skip(third).step_by(COLUMNS / 16)) {
                        for (sum, &a) in sums.iter_mut().zip(&a[4 * half..]) {
                            sum.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
                        }
                    }
                    for (i, sum) in sums.iter().enumerate() {
                        out[(4 * half + i) * COLUMNS + 16 * third..][..16].copy_from_slice(sum);
                    }
                }
            }
        }
    }
}

fn portable_registers() -> u64 {
    let (a, b) = (black_box(0.999f32), black_box(1e-3f32));
    let mut sums = [1.0f32; 64];
    for _ in 0..STEPS {
        sums.iter_mut().for_each(|sum| *sum = *sum * a + b);
    }
    black_box(sums);
    (2 * 64 * STEPS) as u64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{COLUMNS, DEPTH, Panels, STEPS};

    /// Sums that are under way at once: as many as a product of 8 rows with 3 vectors has, which is more than latency
    /// asks for.
    const SUMS: usize = 24;

    #[target_feature(enable = "avx512f")]
    pub fn f32_registers_512() -> u64 {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3)));
        let mut sums = [_mm512_set1_ps(black_box(1.0)); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, *sum, b);
            }
        }
        black_box(sums);
        (2 * 16 * SUMS * STEPS) as u64
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn f32_registers_256() -> u64 {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3)));
        let mut sums = [_mm256_set1_ps(black_box(1.0)); SUMS / 2];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(a, *sum, b);
            }
        }
        black_box(sums);
        (2 * 8 * (SUMS / 2) * STEPS) as u64
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16_registers() -> u64 {
        let pairs = |x: f32| _mm512_cvtne2ps_pbh(_mm512_set1_ps(x), _mm512_set1_ps(x));
        let (a, b) = (pairs(black_box(1e-3)), pairs(black_box(1e-3)));
        let mut sums = [_mm512_set1_ps(black_box(1.0)); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
        (2 * 32 * SUMS * STEPS) as u64
    }

    #[target_feature(enable = "avx512f")]
    pub fn f32_product_512(p: &mut Panels) {
        let (left, right) = (p.left.as_chunks::<8>().0, p.right.as_chunks::<COLUMNS>().0);
        for (rows, out) in left.chunks_exact(DEPTH).zip(p.out.chunks_exact_mut(8 * COLUMNS)) {
            let mut sums = [[_mm512_setzero_ps(); 3]; 8];
            for (a, b) in rows.iter().zip(right) {
                let b = load(b);
                for (sum, &a) in sums.iter_mut().zip(a) {
                    let a = _mm512_set1_ps(a);
                    for (sum, &b) in sum.iter_mut().zip(&b) {
                        *sum = _mm512_fmadd_ps(a, b, *sum);
                    }
                }
            }
            store(&sums, out);
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16_product(p: &mut Panels) {
        let (left, right) = (p.left.as_chunks::<8>().0, p.right.as_chunks::<COLUMNS>().0);
        for (rows, out) in left.chunks_exact(DEPTH).zip(p.out.chunks_exact_mut(8 * COLUMNS)) {
            let mut sums = [[_mm512_setzero_ps(); 3]; 8];
            for (a, b) in rows.iter().zip(right) {
                let b = load(b).map(as_pairs);
                for (sum, &a) in sums.iter_mut().zip(a) {
                    let a = as_pairs(_mm512_set1_ps(a));
                    for (sum, &b) in sum.iter_mut().zip(&b) {
                        *sum = _mm512_dpbf16_ps(*sum, a, b);
                    }
                }
            }
            store(&sums, out);
        }
    }

    /// The same bits as 32 numbers of bf16.
    fn as_pairs(x: __m512) -> __m512bh {
        // SAFETY: both are 512 bits of which every pattern is a value.
        unsafe { std::mem::transmute::<__m512, __m512bh>(x) }
    }

    #[target_feature(enable = "avx512f")]
    fn load(row: &[f32; COLUMNS]) -> [__m512; 3] {
        let row = row.as_chunks::<16>().0;
        // SAFETY: each chunk has the 16 numbers that are read.
        [0, 1, 2].map(|i| unsafe { _mm512_loadu_ps(row[i].as_ptr()) })
    }

    #[target_feature(enable = "avx512f")]
    fn store(sums: &[[__m512; 3]; 8], out: &mut [f32]) {
        for (sum, out) in sums.as_flattened().iter().zip(out.as_chunks_mut::<16>().0) {
            // SAFETY: each chunk has the 16 numbers that are written.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *sum) };
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn f32_product_256(p: &mut Panels) {
        let (left, right) = (p.left.as_chunks::<8>().0, p.right.as_chunks::<8>().0);
        for (rows, out) in left.chunks_exact(DEPTH).zip(p.out.chunks_exact_mut(8 * COLUMNS)) {
            // Four rows with three vectors use 12 of the 16 registers for sums.
            for half in 0..2 {
                for pair in 0..COLUMNS / 24 {
                    let mut sums = [[_mm256_setzero_ps(); 3]; 4];
                    for (a, b) in rows.iter().zip(right.chunks_exact(COLUMNS / 8)) {
                        // SAFETY: each chunk has the 8 numbers that are read.
                        let b = [0, 1, 2].map(|i| unsafe { _mm256_loadu_ps(b[3 * pair + i].as_ptr()) });
                        for (sum, &a) in sums.iter_mut().zip(&a[4 * half..]) {
                            let a = _mm256_set1_ps(a);
                            for (sum, &b) in sum.iter_mut().zip(&b) {
                                *sum = _mm256_fmadd_ps(a, b, *sum);
                            }
                        }
                    }
                    for (i, sum) in sums.iter().enumerate() {
                        let row = &mut out[(4 * half + i) * COLUMNS + 24 * pair..][..24];
                        for (sum, out) in sum.iter().zip(row.as_chunks_mut::<8>().0) {
                            // SAFETY: each chunk has the 8 numbers that are written.
                            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), *sum) };
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panels whose product tells rows and columns apart.
    fn panels() -> Panels {
        let number = |i: usize| ((i * 7 + 3) % 11) as f32 - 5.0;
        Panels {
            left: (0..ROWS * DEPTH).map(number).collect(),
            right: (0..DEPTH * COLUMNS).map(|i| number(i * 5)).collect(),
            out: vec![0.0; ROWS * COLUMNS],
        }
    }

    fn expected(p: &Panels, row: usize, column: usize) -> f32 {
        let left = &p.left[row / 8 * 8 * DEPTH..];
        (0..DEPTH).map(|k| left[k * 8 + row % 8] * p.right[k * COLUMNS + column]).sum()
    }

    #[test]
    fn every_kind_gives_the_product() {
        let mut kinds = vec![Kind::Portable, Kind::for_f32()];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            kinds.push(Kind::Avx2);
        }
        for kind in kinds {
            let mut p = panels();
            assert_eq!(p.f32_product(kind), (2 * ROWS * DEPTH * COLUMNS) as u64);
            for (row, column) in [(0, 0), (7, 47), (8, 16), (63, 23), (37, 31)] {
                // Small whole numbers: every order of summing gives the same.
                assert_eq!(p.out[row * COLUMNS + column], expected(&p, row, column), "{kind:?} {row} {column}");
            }
        }
    }

    #[test]
    fn bf16_gives_the_product_of_pairs() {
        let mut p = panels();
        // The upper half of an f32 of few bits is itself in bf16; the lower half is zero, and so are its products.
        if p.bf16_product() > 0 {
            assert_eq!(p.out[9 * COLUMNS + 20], expected(&p, 9, 20));
        }
    }

    #[test]
    fn loops_over_registers_count_what_they_do() {
        assert!(f32_registers(Kind::for_f32()) > 0 && f32_registers(Kind::Portable) > 0);
        assert_eq!(bf16_registers() > 0, Kind::has_bf16());
    }
}
