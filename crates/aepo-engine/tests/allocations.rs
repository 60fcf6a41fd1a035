//! Does the engine ask the system for memory while it works? Hardly, once its buffers have been used.
//!
//! An allocator that counts stands in for the usual one, so this file has a process, and one test, of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use aepo::policy::{Learner, SampleParams, SampleRequest, Sampler, StepParams};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory of a caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: what `alloc` demands of its caller is what we demand of ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System.alloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls and bytes while `f` runs.
fn count(f: impl FnOnce()) -> (usize, usize) {
    let before = (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    f();
    (CALLS.load(Ordering::Relaxed) - before.0, BYTES.load(Ordering::Relaxed) - before.1)
}

fn engine() -> Engine {
    let config = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: 3000,
        hidden_size: 64,
        intermediate_size: 160,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    };
    Engine::random(config, Seed(1), 2).unwrap()
}

#[test]
fn work_that_repeats_needs_no_new_memory() {
    let mut engine = engine();

    // Decoding: every path grows by a token a poll, and by a block of the cache every sixteenth.
    let n_paths = 40;
    for i in 0..n_paths {
        let path = engine.open(&[i; 16]).unwrap();
        let (top_p, top_k) = [(1.0, 0), (0.9, 0), (0.9, 20)][i as usize % 3];
        let params = SampleParams { temperature: 1.0, top_p, top_k, top_entropy: i % 2 == 0 };
        let (stop, seed) = (Stop::at(&[]), Seed(u64::from(i)));
        engine.submit(SampleRequest { path, max_tokens: 200, stop, n_turn: 0, params, seed }).unwrap();
    }
    let mut calls = Vec::new();
    for _ in 0..150 {
        calls.push(count(|| assert!(engine.poll().unwrap().is_empty())).0);
    }
    calls.drain(..50);
    calls.sort_unstable();
    let median = calls[calls.len() / 2];
    // What is left is the plan of who reads which keys together: some lists a step, none of them in a block of the
    // model or in drawing a token.
    assert!(median < n_paths as usize, "{median} allocations a poll of {n_paths} paths");

    // Training: what a step leaves is what the next one needs.
    let mut engine = self::engine();
    let mut batch = TreeBatch::default();
    for i in 0..4u32 {
        let tokens: Vec<u32> = (0..100).map(|j| (i * 131 + j * 37) % 3000).collect();
        let segment = batch.push_segment(None, &tokens);
        let start = batch.segments[segment as usize].start_idx;
        batch.targets.extend((0..99).map(|j| Target { from_idx: start + j, token: tokens[j as usize + 1] }));
    }
    let coefficients = vec![-1.0; batch.targets.len()];
    let params =
        StepParams { learning_rate: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };
    let mut bytes = Vec::new();
    for _ in 0..4 {
        let step = count(|| {
            engine.forward(&batch, 1.0, true).unwrap();
            engine.backward(&batch, &coefficients, &[]).unwrap();
            engine.step(&params).unwrap();
        });
        bytes.push(step.1);
    }
    assert!(bytes[3] * 8 < bytes[0], "bytes a step: {bytes:?}");
}
