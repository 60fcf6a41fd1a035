//! What does bf16 arithmetic cost in accuracy, and does it keep the engine's promises? Measured against `f32` on models
//! whose distributions are uneven.

use aepo::config::Arithmetic;
use aepo::policy::{Learner, SampleParams, SampleRequest, Sampler, StepParams};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};
use aepo_engine::setup::Setup;

fn config(family: Family) -> ModelConfig {
    ModelConfig {
        model_type: family,
        vocab_size: 1031,
        hidden_size: 96,
        intermediate_size: 256,
        num_hidden_layers: 6,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 256,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    }
}

/// A trunk with three leaves; every token but the first is a target.
fn batch() -> TreeBatch {
    let mut batch = TreeBatch::default();
    let tokens = |seed: u32, n: u32| (0..n).map(|i| (i * i * 7 + seed * 31) % 1031).collect::<Vec<u32>>();
    let trunk = batch.push_segment(None, &tokens(1, 60));
    for leaf in 0..3 {
        batch.push_segment(Some(trunk), &tokens(2 + leaf, 40));
    }
    for segment in batch.segments.clone() {
        let before = segment.parent.map(|p| batch.last_idx(p));
        for i in 0..segment.n_tokens {
            let at = segment.start_idx + i;
            if let Some(from_idx) = if i == 0 { before } else { Some(at - 1) } {
                batch.targets.push(Target { from_idx, token: batch.tokens[at as usize] });
            }
        }
    }
    batch
}

const STEP: StepParams =
    StepParams { learning_rate: 1e-3, weight_decay: 0.0, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };

fn engine(family: Family, arithmetic: Arithmetic, threads: usize) -> Engine {
    Engine::random_as(config(family), Seed(5), &Setup { arithmetic, ..Setup::full(threads) }).unwrap()
}

/// Mean negative log-probability before each of some steps.
fn learn(engine: &mut Engine, n_steps: usize) -> Vec<f64> {
    let batch = batch();
    let n = batch.targets.len();
    let step = |_| {
        let stats = engine.forward(&batch, 1.0, true).unwrap();
        engine.backward(&batch, &vec![-1.0 / n as f32; n], &[]).unwrap();
        engine.step(&STEP).unwrap();
        -stats.logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64
    };
    (0..n_steps).map(step).collect()
}

/// ‖a − b‖ / ‖b‖
fn relative(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let off = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off / norm(&mut b.iter().map(|&b| f64::from(b)))
}

#[test]
fn log_probabilities_and_gradients_are_near_those_of_f32() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        // The same weights in both, learned so far that distributions are uneven.
        let mut full = engine(family, Arithmetic::F32, 2);
        learn(&mut full, 30);
        let dir = tempfile::tempdir().unwrap();
        full.save(dir.path(), true).unwrap();
        let setup = Setup { arithmetic: Arithmetic::Bf16, ..Setup::full(2) };
        let mut narrow = Engine::load_as(dir.path(), &setup).unwrap();
        narrow.load_optimizer(dir.path()).unwrap();
        let batch = batch();
        let n = batch.targets.len();
        let (a, b) = (narrow.forward(&batch, 1.0, true).unwrap(), full.forward(&batch, 1.0, true).unwrap());
        assert!(a.logprobs != b.logprobs, "{family:?}: the setting has no effect");
        let (off, off_entropy) = (relative(&a.logprobs, &b.logprobs), relative(&a.entropies, &b.entropies));
        assert!(off < 2e-2 && off_entropy < 2e-2, "{family:?}: {off} {off_entropy}");
        let norms = [&mut narrow, &mut full].map(|engine| {
            engine.backward(&batch, &vec![-1.0 / n as f32; n], &vec![1e-3; n]).unwrap();
            engine.step(&STEP).unwrap().grad_norm
        });
        assert!((norms[0] / norms[1] - 1.0).abs() < 2e-2, "{family:?}: {norms:?}");
    }
}

#[test]
fn it_learns_as_f32_does() {
    let [narrow, full] = [Arithmetic::Bf16, Arithmetic::F32].map(|a| learn(&mut engine(Family::Qwen3, a, 2), 50));
    assert!(full[49] < 0.5 * full[0], "{full:?}");
    for (a, b) in narrow.iter().zip(&full) {
        assert!((a / b - 1.0).abs() < 0.03, "{a} {b}");
    }
}

#[test]
fn neither_company_nor_threads_nor_the_trainer_make_a_difference() {
    let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
    let sampled = |n_paths: usize, threads: usize| {
        let mut engine = engine(Family::Qwen3, Arithmetic::Bf16, threads);
        learn(&mut engine, 10);
        for i in 0..n_paths {
            let path = engine.open(&[5, 7, i as u32]).unwrap();
            let (stop, seed) = (Stop::at(&[]), Seed(i as u64));
            engine.submit(SampleRequest { path, max_tokens: 40, stop, n_turn: 0, params, seed }).unwrap();
        }
        let mut done = Vec::new();
        while done.len() < n_paths {
            done.extend(engine.poll().unwrap());
        }
        done.sort_by_key(|completion| completion.path.0);
        let tokens = done.into_iter().next().unwrap().tokens;
        let mut batch = TreeBatch::default();
        let all: Vec<u32> = [5, 7, 0].into_iter().chain(tokens.iter().map(|t| t.token)).collect();
        batch.push_segment(None, &all);
        batch.targets = (3..all.len()).map(|i| Target { from_idx: i as u32 - 1, token: all[i] }).collect();
        let stats = engine.forward(&batch, 1.0, false).unwrap();
        for (sampled, trained) in tokens.iter().zip(&stats.logprobs) {
            assert!((sampled.logprob - trained).abs() < 1e-4 * trained.abs().max(1.0), "{sampled:?} {trained}");
        }
        (tokens, stats.logprobs, stats.entropies)
    };
    let alone = sampled(1, 1);
    assert!(sampled(40, 1) == alone, "company");
    assert!(sampled(9, 3) == alone, "threads");
}
