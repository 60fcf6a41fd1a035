//! Is the formula of `memory` true? Prints what it says and what the system says a process took at most, for random
//! weights in the shape of SmolLM2-135M: rollouts, and training steps with all weights or LoRA.
//!
//! `cargo run --release -p aepo-engine --example memory full|lora [f32|bf16] [keep|recompute] [TOKENS] [PATHS]`

use std::time::Instant;

use aepo::config::Stored;
use aepo::config::lora::LoraTargets;
use aepo::policy::{Learner, SampleParams, SampleRequest, Sampler, StepParams};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::config::ModelConfig;
use aepo_engine::memory::{Estimate, Plan, Reference, estimate, held};
use aepo_engine::setup::{LoraSpec, Setup, Train};

const SMOLLM2: &str = r#"{"model_type":"llama","vocab_size":49152,"hidden_size":576,"intermediate_size":1536,
    "num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,"head_dim":64,"rope_theta":100000.0,
    "max_position_embeddings":8192,"rms_norm_eps":1e-5,"tie_word_embeddings":true}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|w| w == word);
    let numbers: Vec<usize> = words.iter().filter_map(|w| w.parse().ok()).collect();
    let (n_tokens, n_paths) = (numbers.first().copied().unwrap_or(2048), numbers.get(1).copied().unwrap_or(8));
    let spec = LoraSpec { rank: 16, alpha: 32.0, targets: LoraTargets::all() };
    let setup = Setup {
        train: if has("lora") { Train::Lora(spec) } else { Train::All },
        frozen: if has("bf16") { Stored::Bf16 } else { Stored::F32 },
        recompute: has("recompute"),
        ..Setup::full(2)
    };
    let path_tokens = 192;
    let plan = Plan {
        setup: setup.clone(),
        pass_tokens: n_tokens,
        path_tokens: path_tokens.max(n_tokens / 4),
        live_paths: n_paths,
        reference: Reference::None,
    };
    let config = ModelConfig::from_json(SMOLLM2)?;
    let said = estimate(&config, &plan);
    let before = peak_bytes();
    let mut engine = Engine::random_as(config, Seed(1), &setup)?;
    let start = Instant::now();
    sample(&mut engine, n_paths, path_tokens)?;
    let secs = start.elapsed().as_secs_f64();
    println!("{} paths: {:.1} tokens/s", n_paths, (n_paths * path_tokens / 2) as f64 / secs);
    for _ in 0..2 {
        let start = Instant::now();
        step(&mut engine, n_tokens)?;
        println!("step of {n_tokens} tokens: {:.2} s", start.elapsed().as_secs_f64());
    }
    let show = |what: &str, e: Estimate| {
        let mib = |x: u64| x as f64 / f64::from(1 << 20);
        println!(
            "{what:9}: {:.0} MiB = weights {:.0}, gradients {:.0}, moments {:.0}, activations {:.0}, cache {:.0}, head {:.0}, \
             decoding {:.0}",
            mib(e.total()),
            mib(e.weights),
            mib(e.gradients),
            mib(e.moments),
            mib(e.activations),
            mib(e.kv_cache),
            mib(e.head),
            mib(e.decoding),
        );
    };
    show("formula", said);
    show("held", held(&engine));
    println!("peak     : {:.0} MiB, of which {:.0} before there was a model", mib(peak_bytes()), mib(before));
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Half of each path is a prompt of its own, the rest is sampled.
fn sample(engine: &mut Engine, n_paths: usize, path_tokens: usize) -> Result<(), Box<dyn std::error::Error>> {
    let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
    let mut paths = Vec::new();
    for i in 0..n_paths {
        let prompt: Vec<u32> = (0..path_tokens as u32 / 2).map(|j| (i as u32 * 31 + j * 17) % 49152).collect();
        let path = engine.open(&prompt)?;
        let (stop, seed) = (Stop::at(&[]), Seed(i as u64));
        engine.submit(SampleRequest { path, max_tokens: path_tokens / 2, stop, n_turn: 0, params, seed })?;
        paths.push(path);
    }
    let mut n_done = 0;
    while n_done < n_paths {
        n_done += engine.poll()?.len();
    }
    paths.into_iter().for_each(|path| engine.close(path));
    Ok(())
}

/// Four sequences.
fn step(engine: &mut Engine, n_tokens: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut batch = TreeBatch::default();
    for i in 0..4 {
        let tokens: Vec<u32> = (0..n_tokens as u32 / 4).map(|j| (i * 97 + j * 37) % 49152).collect();
        let segment = batch.push_segment(None, &tokens);
        let start = batch.segments[segment as usize].start_idx;
        let targets = tokens.iter().skip(1).zip(start..).map(|(&token, from_idx)| Target { from_idx, token });
        batch.targets.extend(targets);
    }
    engine.forward(&batch, 1.0, true)?;
    engine.backward(&batch, &vec![-1e-3; batch.targets.len()], &[])?;
    let params =
        StepParams { learning_rate: 1e-4, weight_decay: 0.0, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };
    engine.step(&params)?;
    Ok(())
}

/// What the system counts.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}
