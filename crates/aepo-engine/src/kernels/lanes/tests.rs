//! Do the lanes of this processor compute what the definition says, bit by bit?

use super::*;

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    crate::testing::random(seed, n).into_iter().map(|x| x as f32).collect()
}

/// Every number of rows that is left over, strips of every width, and both orientations of the left side.
#[test]
fn a_product_is_its_definition_with_the_same_bits() {
    for (n_rows, width, depth, stride) in
        [(1, 16, 1, 16), (17, 32, 5, 40), (13, 48, 64, 48), (64, 64, 3, 64), (31, 80, 48, 81), (23, 112, 7, 128)]
    {
        let (rows, b) = (numbers(1, n_rows * depth), numbers(2, depth * stride));
        let (before, scale) = (numbers(3, n_rows * stride), numbers(4, width));
        for (row, step) in [(depth, 1), (1, n_rows)] {
            let a = Scalars { data: &rows, row, step };
            let vectors = Vectors { data: &b, stride };
            for start in [Start::Zero, Start::Add, Start::Scaled(&scale)] {
                let (mut found, mut defined) = (before.clone(), before.clone());
                product(Output { data: &mut found, stride, n_rows, width }, start, a, vectors, depth);
                let out = Output { data: &mut defined, stride, n_rows, width };
                vectorize_op(Product { out, start, a, b: vectors, depth });
                assert!(found == defined, "{n_rows} x {width}, depth {depth}");
                for i in 0..n_rows {
                    for j in 0..stride {
                        let sum: f64 = (0..depth)
                            .map(|t| f64::from(rows[i * row + t * step]) * f64::from(b[t * stride + j.min(width - 1)]))
                            .sum();
                        let held = f64::from(before[i * stride + j]);
                        let exact = match start {
                            _ if j >= width => held,
                            Start::Zero => sum,
                            Start::Add => sum + held,
                            Start::Scaled(scale) => sum + held * f64::from(scale[j]),
                        };
                        assert!((f64::from(found[i * stride + j]) - exact).abs() < 1e-5);
                    }
                }
            }
        }
    }
}

const N_ROWS: usize = 32;
const WIDTH: usize = 64;

/// Whether a lane sees a key, for each kind of mask.
fn sees(mask: Mask<'_>, k: usize, lane: usize) -> bool {
    match mask {
        Mask::Full => true,
        Mask::Rows { bits, n_rows } => bits[k] >> (lane % n_rows) & 1 == 1,
        Mask::Between { start, first, last } => (first[lane]..=last[lane]).contains(&(start + k as i32)),
    }
}

fn with_masks(n_keys: usize, check: impl Fn(Mask<'_>)) {
    let bits: Vec<u64> = (0..n_keys as u64).map(|k| k.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let first: Vec<i32> = (0..WIDTH as i32).map(|i| 90 + i % 7).collect();
    // The first lanes see nothing.
    let last: Vec<i32> = (0..WIDTH as i32).map(|i| 88 + i).collect();
    check(Mask::Full);
    check(Mask::Rows { bits: &bits, n_rows: N_ROWS });
    check(Mask::Between { start: 91, first: &first, last: &last });
}

#[test]
fn a_softmax_in_blocks_is_a_softmax_with_the_same_bits() {
    for n_keys in [1, 3, 6, 64] {
        let stride = WIDTH + 16;
        let scores: Vec<f32> = numbers(5, n_keys * stride).iter().map(|x| x * 30.0).collect();
        let state = || (vec![-1e30f32; WIDTH], vec![0.0f32; WIDTH], vec![9.0f32; WIDTH]);
        with_masks(n_keys, |mask| {
            let ((mut top, mut sum, mut shrink), (mut top_2, mut sum_2, mut shrink_2)) = (state(), state());
            let mut total = vec![0.0f64; WIDTH];
            for scale in [1.0, 0.3, 1.5] {
                let mut p: Vec<f32> = scores.iter().map(|s| s * scale).collect();
                let before = p.clone();
                let mut defined = p.clone();
                softmax(&mut p, stride, n_keys, mask, &mut top, &mut sum, &mut shrink);
                let (top, sum, shrink) = (&mut top_2[..], &mut sum_2[..], &mut shrink_2[..]);
                vectorize_op(Softmax { scores: &mut defined, stride, n_keys, mask, top, sum, shrink });
                assert!(p == defined, "{n_keys} keys");
                for (i, total) in total.iter_mut().enumerate() {
                    *total += (0..n_keys)
                        .filter(|&k| sees(mask, k, i))
                        .map(|k| f64::from(before[k * stride + i]).exp())
                        .sum::<f64>();
                }
            }
            assert!(top == top_2 && sum == sum_2 && shrink == shrink_2);
            for i in 0..WIDTH {
                let found = f64::from(sum[i]) * f64::from(top[i]).exp();
                assert!((found - total[i]).abs() <= 1e-5 * total[i], "lane {i}: {found} {}", total[i]);
            }
        });
    }
}

#[test]
fn a_softmaxs_backward_is_its_definition_with_the_same_bits() {
    for n_keys in [1, 5, 64] {
        let (scores, dscores) = (numbers(6, n_keys * WIDTH), numbers(7, n_keys * WIDTH));
        let (lse, delta) = (numbers(8, WIDTH), numbers(9, WIDTH));
        with_masks(n_keys, |mask| {
            let (mut p, mut ds) = (scores.clone(), dscores.clone());
            let (mut p_2, mut ds_2) = (scores.clone(), dscores.clone());
            softmax_backward(&mut p, &mut ds, n_keys, mask, &lse, &delta);
            let op = SoftmaxBackward { scores: &mut p_2, dscores: &mut ds_2, n_keys, mask, lse: &lse, delta: &delta };
            vectorize_op(op);
            assert!(p == p_2 && ds == ds_2, "{n_keys} keys");
            for k in 0..n_keys {
                for i in 0..WIDTH {
                    let at = k * WIDTH + i;
                    let exact = if sees(mask, k, i) { f64::from(scores[at] - lse[i]).exp() } else { 0.0 };
                    assert!((f64::from(p[at]) - exact).abs() < 1e-5);
                    assert!((f64::from(ds[at]) - exact * f64::from(dscores[at] - delta[i])).abs() < 1e-5);
                }
            }
        });
    }
}
