//! Where does time go that is no product of matrices? Row operations, the optimiser, sampling and the bookkeeping
//! around a decoded token, each measured alone; and whole training steps and decoding, for a profiler to look into.
//!
//! `cargo run --release -p aepo-engine --example parts [rows | train | decode] [15m | 135m] [f32 | bf16] [paths]`

use std::hint::black_box;
use std::time::Instant;

use aepo::policy::{Learner, PolicyError, SampleParams, SampleRequest, Sampler, StepParams};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::adamw::{self, Moments};
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};
use aepo_engine::gemm::Arithmetic;
use aepo_engine::kernels::norm::{rms_norm, rms_norm_backward, rms_norm_keeping};
use aepo_engine::kernels::qkv::{Heads, RopeTable, split_heads, split_heads_backward};
use aepo_engine::kernels::stats::row_stats;
use aepo_engine::kernels::swiglu::{swiglu, swiglu_backward_in_place};
use aepo_engine::layout::Layout;
use aepo_engine::real::vectorize;
use aepo_engine::sampler::{Scratch, sample};
use aepo_engine::setup::Setup;
use aepo_engine::team::Team;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_owned());
    let config = shape(&arg(1, "15m"))?;
    match arg(0, "rows").as_str() {
        "rows" => rows(config),
        "train" => train(config, &setup(&arg(2, "f32"))?),
        "decode" => decode(config, &setup(&arg(2, "f32"))?, arg(3, "8").parse()?),
        other => Err(format!("`{other}`: rows, train or decode").into()),
    }
}

fn setup(name: &str) -> Result<Setup, Failure> {
    let arithmetic = match name {
        "f32" => Arithmetic::F32,
        "bf16" => Arithmetic::Bf16,
        other => return Err(format!("`{other}`: f32 or bf16").into()),
    };
    Ok(Setup { arithmetic, ..Setup::full(2) })
}

fn shape(name: &str) -> Result<ModelConfig, Failure> {
    let (d, layers, heads, kv, head_dim, f, vocab) = match name {
        "15m" => (288, 6, 6, 6, 48, 768, 32000),
        "135m" => (576, 30, 9, 3, 64, 1536, 49152),
        // Nothing but bookkeeping.
        "tiny" => (16, 1, 1, 1, 16, 16, 64),
        other => return Err(format!("`{other}`: 15m, 135m or tiny").into()),
    };
    Ok(ModelConfig {
        model_type: Family::Llama,
        vocab_size: vocab,
        hidden_size: d,
        intermediate_size: f,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv,
        head_dim,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 2048,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    })
}

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    (0..n).map(|i| Seed(seed).uniform(i as u64) as f32 - 0.5).collect()
}

/// Median seconds of a few runs.
fn secs(mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// `n` rows of the shape through everything that is no product.
fn rows(config: ModelConfig) -> Result<(), Failure> {
    let team = Team::new(2)?;
    let (n, d, f, vocab) = (2048, config.hidden_size, config.intermediate_size, config.vocab_size);
    let (x, w) = (numbers(1, n * d), numbers(2, d));
    let (mut y, mut kept, mut dw, mut sums) = (vec![0.0; n * d], vec![0.0; n * d], vec![0.0; d], Vec::new());
    let say = |what: &str, secs: f64, bytes: usize| {
        println!("{what:24} {:8.0} us  {:6.1} GB/s", secs * 1e6, bytes as f64 / secs / 1e9);
    };
    say("norm", secs(|| rms_norm(&team, &x, &w, 1e-5, &mut y)), 8 * n * d);
    say("norm, kept", secs(|| rms_norm_keeping(&team, &x, &w, 1e-5, &mut y, &mut kept)), 12 * n * d);
    let back = secs(|| rms_norm_backward(&team, &x, &w, 1e-5, &kept, &mut y, Some(&mut dw), &mut sums));
    say("norm backward", back, 16 * n * d);
    let (mut gate_up, mut a) = (numbers(3, n * 2 * f), vec![0.0; n * f]);
    say("swiglu", secs(|| swiglu(&team, &gate_up, f, &mut a)), 12 * n * f);
    // In place and again and again, gradients would shrink to numbers that processors are slow with.
    let fresh = gate_up.clone();
    let copy = secs(|| gate_up.copy_from_slice(&fresh));
    let both = secs(|| {
        gate_up.copy_from_slice(&fresh);
        swiglu_backward_in_place(&team, &mut gate_up, f, &a);
    });
    say("swiglu backward", both - copy, 20 * n * f);
    let rope = RopeTable::new(&config);
    let (n_q, n_kv, head_dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    let heads = Heads { n_q, n_kv, head_dim, qk_norm: None, eps: 1e-5, rope: &rope };
    let (raw, positions) = (numbers(4, n * config.qkv_dim()), (0..n as u32).map(|i| i % 256).collect::<Vec<u32>>());
    let (mut split, mut draw) = (vec![0.0; raw.len()], vec![0.0; raw.len()]);
    say("split heads", secs(|| split_heads(&team, &heads, &raw, &positions, &mut split)), 8 * raw.len());
    let back = secs(|| split_heads_backward(&team, &heads, &raw, &positions, &mut split, &mut draw, None, &mut sums));
    say("split heads backward", back, 8 * raw.len());

    let logits: Vec<f32> = numbers(5, vocab).iter().map(|x| 8.0 * x).collect();
    let per_logit = |what: &str, secs: f64| {
        println!("{what:24} {:8.2} us  {:6.3} ns a logit", secs * 1e6, secs * 1e9 / vocab as f64)
    };
    let stats = secs(|| {
        black_box(vectorize(
            #[inline(always)]
            || row_stats(&logits, 1.0),
        ));
    });
    per_logit("row statistics", stats);
    let peaked: Vec<f32> = logits.iter().map(|x| 4.0 * x).collect();
    let mut scratch = Scratch::default();
    for (name, logits) in [("flat", &logits), ("peaked", &peaked)] {
        for (top_p, top_k, top_entropy) in [(1.0, 0, false), (1.0, 0, true), (0.95, 0, false), (1.0, 50, false)] {
            let params = SampleParams { temperature: 1.0, top_p, top_k, top_entropy };
            let mut i = 0;
            let time = secs(|| {
                i += 1;
                black_box(sample(logits, vocab, params, Seed(1).uniform(i), &mut scratch));
            });
            per_logit(&format!("sample {name} {top_p} {top_k} {}", u8::from(top_entropy)), time);
        }
    }

    let layout = Layout::new(&config);
    let n = layout.n_parameters();
    let (mut params, mut grads, mut moments) = (vec![0.5; n], vec![0.0; n], Moments::default());
    let time = secs(|| {
        adamw::step(&team, &layout.tensors, &mut params, &mut grads, &mut moments, &STEP);
    });
    say("AdamW", time, 4 * 9 * n);
    Ok(())
}

const STEP: StepParams =
    StepParams { learning_rate: 1e-4, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };

/// Training steps of 8 x 256 tokens.
fn train(config: ModelConfig, setup: &Setup) -> Result<(), Failure> {
    let mut batch = TreeBatch::default();
    for i in 0..8u32 {
        let tokens: Vec<u32> = (0..256).map(|j| (i * 131 + j * 37) % config.vocab_size as u32).collect();
        let segment = batch.push_segment(None, &tokens);
        let start = batch.segments[segment as usize].start_idx;
        batch.targets.extend((0..255).map(|j| Target { from_idx: start + j, token: tokens[j as usize + 1] }));
    }
    let mut engine = Engine::random_as(config, Seed(1), setup)?;
    let coefficients = vec![-1.0 / batch.targets.len() as f32; batch.targets.len()];
    for _ in 0..4 {
        let start = Instant::now();
        engine.forward(&batch, 1.0, true)?;
        let forward = start.elapsed().as_secs_f64();
        engine.backward(&batch, &coefficients, &[])?;
        let backward = start.elapsed().as_secs_f64() - forward;
        engine.step(&STEP)?;
        let all = start.elapsed().as_secs_f64();
        let n = batch.tokens.len() as f64;
        println!(
            "{:6.0} tokens/s: forward {:.0} ms, backward {:.0} ms, step {:.0} ms",
            n / all,
            forward * 1e3,
            backward * 1e3,
            (all - forward - backward) * 1e3
        );
    }
    Ok(())
}

/// 128 tokens on each of some paths that share a prompt of 64.
fn decode(config: ModelConfig, setup: &Setup, n_paths: usize) -> Result<(), Failure> {
    let mut engine = Engine::random_as(config, Seed(1), setup)?;
    let prompt: Vec<u32> = (0..64).map(|i| i % 64).collect();
    let root = engine.open(&prompt)?;
    for _ in 0..2 {
        let paths = submit(&mut engine, root, n_paths, 128)?;
        let (start, mut n_done) = (Instant::now(), 0);
        while n_done < n_paths {
            n_done += engine.poll()?.len();
        }
        let secs = start.elapsed().as_secs_f64();
        let per_token = secs / (128 * n_paths) as f64;
        println!("{n_paths} paths: {:.0} tokens/s, {:.2} us a token", 1.0 / per_token, per_token * 1e6);
        paths.into_iter().for_each(|path| engine.close(path));
    }
    Ok(())
}

fn submit(
    engine: &mut Engine,
    root: aepo::policy::PathId,
    n_paths: usize,
    max_tokens: usize,
) -> Result<Vec<aepo::policy::PathId>, PolicyError> {
    (0..n_paths)
        .map(|i| {
            let path = engine.fork(root, 64)?;
            let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
            let seed = Seed(i as u64);
            engine.submit(SampleRequest { path, max_tokens, stop: Stop::at(&[]), n_turn: 0, params, seed })?;
            Ok(path)
        })
        .collect()
}
