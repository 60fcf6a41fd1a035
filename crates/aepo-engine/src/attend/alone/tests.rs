//! Is the fast path the definition, to the bit? All numbers of queries and of keys, and widths that fill no vector.

use super::*;
use aepo::seed::Seed;

#[test]
fn the_fast_path_gives_the_bits_of_the_definition() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let cases: [(usize, usize, usize); 7] =
        [(64, 1, 64), (64, 3, 33), (64, 4, 1), (48, 2, 50), (128, 3, 64), (8, 4, 17), (72, 2, 16)];
    for (hd, n_queries, end) in cases {
        let seed = Seed(hd as u64).child(n_queries as u64).child(end as u64);
        let draw = |label: u64, n: usize| -> Vec<f32> {
            (0..n as u64).map(|i| seed.child(label).uniform(i) as f32 - 0.5).collect()
        };
        let held: Vec<(Vec<f32>, Vec<f32>)> =
            (0..end.div_ceil(BLOCK) as u64).map(|b| (draw(2 * b, hd * BLOCK), draw(2 * b + 1, hd * BLOCK))).collect();
        let blocks: Vec<Block<'_>> = held.iter().map(|(k, v)| (&k[..], &v[..])).collect();
        let chunk = Chunk { hd, blocks: &blocks, behind: &[], seen: 0..end };
        let queries = draw(100, n_queries * hd);
        let (mut fast, mut slow) = ([[0.0; CHUNK]; GROUP], [[0.0; CHUNK]; GROUP]);
        scores(&queries, &chunk, &mut fast);
        plain_scores(&queries, &chunk, &mut slow);
        for (fast, slow) in fast.iter().zip(&slow).take(n_queries) {
            let bits = |p: &[f32; CHUNK]| p[..blocks.len() * BLOCK].iter().map(|p| p.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(fast), bits(slow), "scores at {hd}, {n_queries}, {end}");
        }
        let outputs = draw(101, n_queries * hd);
        let (mut quick, mut plain) = (outputs.clone(), outputs.clone());
        values(&slow, &chunk, &mut quick);
        plain_values(&slow, &chunk, &mut plain);
        assert_ne!(plain, outputs);
        assert!(
            quick.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits()),
            "values at {hd}, {n_queries}, {end}"
        );
    }
}
