//! How fast is the engine on this machine? Prints tokens per second of decoding and of a training step.
use std::time::Instant;

use aepo::policy::{Policy, SampleParams, SampleRequest, StepParams};
use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::config::{Family, ModelConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let get = |i: usize, default: usize| args.get(i).copied().unwrap_or(default);
    let threads = get(0, 2);
    let (d, layers) = (get(1, 192), get(2, 6));
    let config = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: 2048,
        hidden_size: d,
        intermediate_size: d * 8 / 3 / 32 * 32,
        num_hidden_layers: layers,
        num_attention_heads: d / 32,
        num_key_value_heads: d / 32,
        head_dim: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        max_position_embeddings: 1024,
        tie_word_embeddings: true,
    };
    let mut engine = Engine::random(config, Seed(1), threads)?;
    println!("{} parameters, {threads} threads", engine.n_parameters());
    for n_paths in [16usize, 128, 512] {
        let prompt: Vec<u32> = (0..64).collect();
        let root = engine.open(&prompt)?;
        let mut paths = vec![root];
        for _ in 1..n_paths {
            paths.push(engine.fork(root, 64)?);
        }
        let n = 64;
        for (i, &path) in paths.iter().enumerate() {
            engine.submit(SampleRequest {
                path,
                max_tokens: n,
                stop: Vec::new().into(),
                params: SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0 },
                seed: Seed(i as u64),
            })?;
        }
        let start = Instant::now();
        let mut done = 0;
        while done < n_paths {
            done += engine.poll()?.len();
        }
        println!("decode {n_paths} paths: {:.0} tok/s", (n * n_paths) as f64 / start.elapsed().as_secs_f64());
        for path in paths {
            engine.close(path);
        }
    }
    for (n_seqs, len) in [(8u32, 256u32), (32, 128)] {
        let mut batch = TreeBatch::default();
        for s in 0..n_seqs {
            let tokens: Vec<u32> = (0..len).map(|i| (i * 37 + s * 11) % 2048).collect();
            let start = batch.tokens.len() as u32;
            batch.push_segment(None, &tokens);
            batch.targets.extend((1..len).map(|i| Target { from_idx: start + i - 1, token: tokens[i as usize] }));
        }
        let c = vec![-1.0 / batch.targets.len() as f32; batch.targets.len()];
        let params = StepParams {
            learning_rate: 1e-3,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            max_grad_norm: 1.0,
        };
        let mut times = [0.0; 3];
        let reps = 5;
        for _ in 0..reps {
            let t = Instant::now();
            engine.forward(&batch, 1.0, true)?;
            times[0] += t.elapsed().as_secs_f64();
            let t = Instant::now();
            engine.backward(&batch, &c, &[])?;
            times[1] += t.elapsed().as_secs_f64();
            let t = Instant::now();
            engine.step(&params)?;
            times[2] += t.elapsed().as_secs_f64();
        }
        let total: f64 = times.iter().sum();
        println!(
            "train {n_seqs}x{len}: {:.0} tok/s (forward {:.1} ms, backward {:.1} ms, step {:.1} ms)",
            (batch.tokens.len() * reps) as f64 / total,
            times[0] / reps as f64 * 1e3,
            times[1] / reps as f64 * 1e3,
            times[2] / reps as f64 * 1e3
        );
    }
    Ok(())
}
