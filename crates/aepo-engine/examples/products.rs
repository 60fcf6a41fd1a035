//! How fast are matrix products on this machine? GFLOP/s of the shapes of a 135M-parameter model, by arithmetic, for many
//! rows and for few, and of the packing of their weights.
//!
//! `cargo run --release -p aepo-engine --example products [threads]`

use std::time::Instant;

use aepo_engine::gemm::{Along, Arithmetic, Buffers, Factor, Numbers, Packed, Right, Target, multiply};
use aepo_engine::team::Team;

/// Columns and inner dimensions: queries with keys and values, gate with up, the MLP's output, the vocabulary.
const SHAPES: [(usize, usize); 4] = [(960, 576), (3072, 576), (576, 1536), (49152, 576)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(2), |n| n.parse())?;
    let team = Team::new(threads)?;
    {
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            for (n, k) in SHAPES {
                println!("{arithmetic:?}, {n} columns, {k} inner:");
                for m in [1, 8, 32, 128, 512, 2048] {
                    if m * n < 1 << 26 {
                        shape(arithmetic, m, n, k, &team);
                    }
                }
            }
        }
    }
    Ok(())
}

fn shape(arithmetic: Arithmetic, m: usize, n: usize, k: usize, team: &Team) {
    let numbers = |n: usize| (0..n).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect::<Vec<f32>>();
    let (x, w, dy) = (numbers(m * k), numbers(n * k), numbers(m * n));
    let (mut y, mut dx, mut dw) = (vec![0.0; m * n], vec![0.0; m * k], vec![0.0; n * k]);
    let mut buffers = Buffers::default();
    let view = |x, outer, inner, stride, along| Factor::new(Numbers::F32(x), outer, inner, stride, along);
    let weights = view(&w, n, k, k, Along::Inner);
    let packed = Packed::new(weights, arithmetic, team);
    let mut run = |what: &str, out: &mut [f32], stride, left, right| {
        let flops = 2.0 * (m * n * k) as f64;
        let mut secs = Vec::new();
        while secs.len() < 5 || secs.iter().sum::<f64>() < 0.1 {
            let start = Instant::now();
            multiply(Target { data: &mut *out, stride, add: false }, left, right, arithmetic, team, &mut buffers);
            secs.push(start.elapsed().as_secs_f64());
        }
        secs.sort_by(f64::total_cmp);
        let secs = secs[secs.len() / 2];
        print!("  {what} {:7.1} GFLOP/s ({:.3} ms)", flops / secs * 1e-9, secs * 1e3);
    };
    print!("  {m:4} rows:");
    let rows = view(&x, m, k, k, Along::Inner);
    run("forward", &mut y, n, rows, Right::Plain(weights));
    run("packed", &mut y, n, rows, Right::Packed(&packed));
    if m > 32 {
        let gradients = view(&dy, m, n, n, Along::Inner);
        run("backward", &mut dx, k, gradients, Right::Plain(view(&w, k, n, k, Along::Outer)));
        let columns = view(&dy, n, m, n, Along::Outer);
        run("weights", &mut dw, k, columns, Right::Plain(view(&x, k, m, k, Along::Outer)));
    }
    println!();
}
