//! How fast is the engine on this machine? Prints tokens per second of decoding and of training steps, and what a
//! token tree saves against the same trajectories unrolled.
//!
//! `cargo run --release -p aepo-engine --example speed [threads] [hidden_size] [layers]`

use std::time::Instant;

use aepo::policy::{Learner, PolicyError, SampleParams, SampleRequest, Sampler, StepParams};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let number = |i: usize, default: usize| numbers.get(i).copied().unwrap_or(default);
    let (threads, hidden_size) = (number(0, 2), number(1, 192));
    let config = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: 2048,
        hidden_size,
        intermediate_size: hidden_size * 8 / 3,
        num_hidden_layers: number(2, 6),
        num_attention_heads: hidden_size / 32,
        num_key_value_heads: hidden_size / 32,
        head_dim: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 1024,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    };
    let mut engine = Engine::random(config, Seed(1), threads)?;
    println!("{} parameters, {threads} threads", engine.n_parameters());
    for n_paths in [1, 16, 128, 512] {
        println!("decode, {n_paths:3} paths: {:6.0} tokens/s", decode(&mut engine, n_paths)?);
    }
    for (n_sequences, len) in [(8, 256), (32, 128)] {
        let mut batch = TreeBatch::default();
        (0..n_sequences).for_each(|i| push_path(&mut batch, None, i, len));
        let (tokens, secs) = (batch.tokens.len() as f64, training_step(&mut engine, &batch)?);
        println!("train, {n_sequences:2} x {len}: {:6.0} tokens/s ({:.0} ms a step)", tokens / secs, secs * 1e3);
    }
    // One question, a turn and its result, then k answers: every leaf shares the first 160 of its 220 tokens.
    for k in [1, 4, 16] {
        let (mut tree, mut unrolled) = (TreeBatch::default(), TreeBatch::default());
        for question in 0..8 {
            push_path(&mut tree, None, question, 160);
            let shared = tree.segments.len() as u32 - 1;
            for leaf in 0..k {
                push_path(&mut tree, Some(shared), 100 + leaf, 60);
                push_path(&mut unrolled, None, 200 + leaf, 220);
            }
        }
        let (unique, all) = (tree.tokens.len() as f64, unrolled.tokens.len() as f64);
        let (secs, secs_unrolled) = (training_step(&mut engine, &tree)?, training_step(&mut engine, &unrolled)?);
        println!(
            "trees, k = {k:2}: {unique:.0} unique of {all:.0} tokens ({:.2}x fewer), {:.0} ms against {:.0} ms ({:.2}x)",
            all / unique,
            secs * 1e3,
            secs_unrolled * 1e3,
            secs_unrolled / secs
        );
    }
    Ok(())
}

/// Tokens per second of 64 tokens on each of `n_paths` paths that share a prompt of 64.
fn decode(engine: &mut Engine, n_paths: usize) -> Result<f64, PolicyError> {
    let prompt: Vec<u32> = (0..64).collect();
    let root = engine.open(&prompt)?;
    let mut paths = Vec::new();
    for i in 0..n_paths {
        let path = engine.fork(root, prompt.len())?;
        let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
        let seed = Seed(i as u64);
        engine.submit(SampleRequest { path, max_tokens: 64, stop: Stop::at(&[]), n_turn: 0, params, seed })?;
        paths.push(path);
    }
    let (start, mut n_done) = (Instant::now(), 0);
    while n_done < n_paths {
        n_done += engine.poll()?.len();
    }
    let rate = (64 * n_paths) as f64 / start.elapsed().as_secs_f64();
    paths.into_iter().chain([root]).for_each(|path| engine.close(path));
    Ok(rate)
}

/// Median seconds of a forward pass, a backward pass and an optimiser step.
fn training_step(engine: &mut Engine, batch: &TreeBatch) -> Result<f64, PolicyError> {
    let coefficients = vec![-1.0 / batch.targets.len() as f32; batch.targets.len()];
    let params =
        StepParams { learning_rate: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };
    let mut secs = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        engine.forward(batch, 1.0, true)?;
        engine.backward(batch, &coefficients, &[])?;
        engine.step(&params)?;
        secs.push(start.elapsed().as_secs_f64());
    }
    secs.sort_by(f64::total_cmp);
    Ok(secs[secs.len() / 2])
}

/// A segment of `len` made-up tokens; every token that something precedes is a target.
fn push_path(batch: &mut TreeBatch, parent: Option<u32>, seed: u32, len: u32) {
    let tokens: Vec<u32> = (0..len).map(|i| (i * 37 + seed * 11) % 2048).collect();
    let segment = batch.push_segment(parent, &tokens);
    let start = batch.segments[segment as usize].start_idx;
    let before = parent.map(|p| batch.last_idx(p));
    let sources = before.into_iter().chain(start..start + len - 1);
    let skip = usize::from(before.is_none());
    batch
        .targets
        .extend(sources.zip(tokens.into_iter().skip(skip)).map(|(from_idx, token)| Target { from_idx, token }));
}
