//! Are the products what they are said to be? Against their definition, number by number.

use super::*;

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    (0..n).map(|i| aepo::seed::Seed(seed).uniform(i as u64) as f32 - 0.5).collect()
}

fn narrow(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&x| bf16::from_f32(x)).collect()
}

/// One number of a product, by the definition: `held` is what the output holds, where it is added to that.
fn number(arithmetic: Arithmetic, held: Option<f32>, terms: impl Iterator<Item = (f32, f32)>) -> f32 {
    let terms: Vec<(f32, f32)> = terms.collect();
    let round = |x: f32| if arithmetic == Arithmetic::Bf16 { bf16::from_f32(x).to_f32() } else { x };
    let multiply = |sum: f32, (a, b): (f32, f32)| round(a).mul_add(round(b), sum);
    let of_unit = if arithmetic == Arithmetic::Bf16 { 2 } else { 1 };
    let chain = |terms: &[(f32, f32)]| {
        terms.chunks(of_unit).fold(0.0, |sum, unit| unit.iter().rev().fold(sum, |sum, &term| multiply(sum, term)))
    };
    let chains = terms.chunks(DEPTH * of_unit).map(chain);
    held.into_iter().chain(chains).reduce(|sum, chain| sum + chain).unwrap_or(0.0)
}

const SHAPES: [(usize, usize, usize); 8] =
    [(1, 1, 1), (1, 50, 33), (7, 48, 16), (8, 96, 1025), (9, 5, 2100), (33, 100, 64), (40, 200, 17), (3, 17, 0)];

#[test]
fn every_number_is_its_chain_in_every_layout() {
    let team = Team::new(2).unwrap();
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        for (m, n, k) in SHAPES {
            for (left_along, right_along) in
                [(Along::Inner, Along::Inner), (Along::Inner, Along::Outer), (Along::Outer, Along::Outer)]
            {
                let stride = |along, outer, inner| 3 + if along == Along::Inner { inner } else { outer };
                let (ls, rs) = (stride(left_along, m, k), stride(right_along, n, k));
                let (a, b) = (numbers(1, ls * m.max(k)), numbers(2, rs * n.max(k)));
                let b16 = narrow(&b);
                let at = |along, stride, outer, inner| match along {
                    Along::Inner => outer * stride + inner,
                    Along::Outer => inner * stride + outer,
                };
                for (is_narrow, is_packed, add) in
                    [(false, false, false), (false, true, true), (true, false, true), (true, true, false)]
                {
                    let numbers = if is_narrow { Numbers::Bf16(&b16) } else { Numbers::F32(&b) };
                    let left = Factor::new(Numbers::F32(&a), m, k, ls, left_along);
                    let right = Factor::new(numbers, n, k, rs, right_along);
                    let packed = Packed::new(right, arithmetic, &team);
                    let right = if is_packed { Right::Packed(&packed) } else { Right::Plain(right) };
                    let mut out = vec![0.25; m * (n + 2)];
                    let target = Target { data: &mut out, stride: n + 2, add };
                    multiply(target, left, right, arithmetic, &team, &mut Buffers::default());
                    for i in 0..m {
                        for j in 0..n + 2 {
                            let b = |l: usize| {
                                if is_narrow {
                                    b16[at(right_along, rs, j, l)].to_f32()
                                } else {
                                    b[at(right_along, rs, j, l)]
                                }
                            };
                            let exact = match j < n {
                                true => number(
                                    arithmetic,
                                    add.then_some(0.25),
                                    (0..k).map(|l| (a[at(left_along, ls, i, l)], b(l))),
                                ),
                                false => 0.25,
                            };
                            assert_eq!(out[i * (n + 2) + j], exact, "{arithmetic:?} {m} {n} {k} at {i} {j}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_portable_kernels_give_the_same_bits() {
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        for along in [Along::Inner, Along::Outer] {
            let (outer, inner, stride) = (70, 83, 90);
            let x = numbers(5, stride * stride);
            let factor = Factor::new(Numbers::F32(&x), outer, inner, stride, along);
            let n_units = units(arithmetic, inner);
            for first in [0, 48] {
                let (mut fast, mut slow) = (vec![7; n_units * WIDTH], vec![8; n_units * WIDTH]);
                pack::pack::<WIDTH>(&factor, arithmetic, first, 0..n_units, &mut fast);
                pack::plain::<WIDTH>(&factor, arithmetic, first, WIDTH.min(outer - first), 0..n_units, &mut slow);
                assert_eq!(fast, slow);
                let left = Tiles { units: &fast, row: 3, unit: WIDTH, tile: 0 };
                for (height, width) in [(1, 1), (5, 17), (8, 48)] {
                    let (mut quick, mut plain) = (vec![1.5; 8 * 50], vec![1.5; 8 * 50]);
                    // SAFETY: both buffers hold eight rows of 50 numbers.
                    unsafe {
                        let out = |c| kernel::Out { c, stride: 50, height, width, add: true };
                        kernel::tile(arithmetic, left, &slow, out(quick.as_mut_ptr()));
                        kernel::plain(arithmetic, left, &slow, out(plain.as_mut_ptr()));
                    }
                    assert_eq!(quick, plain);
                }
            }
        }
    }
}

#[test]
fn neither_company_nor_threads_change_a_row() {
    let (most, n, k) = (100, 130, 1100);
    let team = Team::new(2).unwrap();
    let (a, b) = (numbers(1, most * k), numbers(2, n * k));
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        let right = Factor::new(Numbers::F32(&b), n, k, k, Along::Inner);
        let packed = Packed::new(right, arithmetic, &team);
        let product = |a: &[f32], m: usize, right, team: &Team| {
            let mut out = vec![0.0; m * n];
            let left = Factor::new(Numbers::F32(a), m, k, k, Along::Inner);
            multiply(
                Target { data: &mut out, stride: n, add: false },
                left,
                right,
                arithmetic,
                team,
                &mut Buffers::default(),
            );
            out
        };
        let all = product(&a, most, Right::Plain(right), &team);
        for threads in [1, 3] {
            let team = Team::new(threads).unwrap();
            for m in [1, 8, 31, 33, 100] {
                for right in [Right::Plain(right), Right::Packed(&packed)] {
                    let some = product(&a[(most - m) * k..], m, right, &team);
                    assert!(some == all[(most - m) * n..], "{arithmetic:?} {m} rows, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn rounding_keeps_what_is_not_a_number_and_no_subnormals() {
    let x = [f32::NAN, f32::INFINITY, f32::MAX, -0.0, 1e-40, 1.0039062, 1.0117188];
    let factor = Factor::new(Numbers::F32(&x), 1, 7, 7, Along::Inner);
    let (mut units, mut plain) = ([0; 4], [0; 4]);
    pack::row(&factor, Arithmetic::Bf16, 0, &mut units);
    pack::plain::<1>(&factor, Arithmetic::Bf16, 0, 1, 0..4, &mut plain);
    // A NaN's other bits are nobody's business.
    assert_eq!(units[1..], plain[1..]);
    for (i, x) in x.iter().enumerate() {
        let half = bf16::from_bits((units[i / 2] >> (16 * (i % 2))) as u16);
        // What is smaller than any normal number is zero, as the dot product reads it.
        let exact = bf16::from_f32(if x.is_subnormal() { 0.0 } else { *x });
        assert!(half.to_bits() == exact.to_bits() || half.is_nan() && exact.is_nan(), "{x}");
    }
}
