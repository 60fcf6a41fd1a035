//! Does sampling keep its promises? Paths independent of their company, forks that share, and the trainer's agreement.

use aepo::policy::{
    Completion, Learner, PathId, PolicyError, SampleParams, SampleRequest, SampleStop, SampledToken, Sampler,
    StepParams,
};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};

const PARAMS: SampleParams = SampleParams { temperature: 0.9, top_p: 1.0, top_k: 0, top_entropy: false };

fn engine(threads: usize) -> Engine {
    let config = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: 97,
        hidden_size: 64,
        intermediate_size: 96,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 200,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    };
    // Weights far larger than at initialisation, so that distributions are uneven.
    let mut engine = Engine::random(config, Seed(3), threads).unwrap();
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &(0..90).map(|i| i * i % 97).collect::<Vec<u32>>());
    batch.targets = (1..90).map(|i| Target { from_idx: i - 1, token: batch.tokens[i as usize] }).collect();
    for _ in 0..8 {
        engine.forward(&batch, 1.0, true).unwrap();
        engine.backward(&batch, &[-0.02; 89], &[]).unwrap();
        engine.step(&step_params()).unwrap();
    }
    engine
}

fn step_params() -> StepParams {
    StepParams { learning_rate: 0.02, weight_decay: 0.0, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 }
}

fn request(path: PathId, max_tokens: usize, seed: u64) -> SampleRequest {
    SampleRequest { path, max_tokens, stop: Stop::at(&[]), n_turn: 0, params: PARAMS, seed: Seed(seed) }
}

fn finish(engine: &mut Engine, mut n: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    while n > 0 {
        let completions = engine.poll().unwrap();
        n -= completions.len();
        done.extend(completions);
    }
    done.sort_by_key(|c| c.path);
    done
}

fn prompt(i: u32, n: u32) -> Vec<u32> {
    (0..n).map(|j| (i * 31 + j * j) % 97).collect()
}

fn alone(prompt: &[u32], n: usize, seed: u64, threads: usize) -> Vec<SampledToken> {
    let mut engine = engine(threads);
    let path = engine.open(prompt).unwrap();
    engine.submit(request(path, n, seed)).unwrap();
    finish(&mut engine, 1).remove(0).tokens
}

#[test]
fn a_path_has_the_same_bits_in_any_company() {
    let reference: Vec<Vec<SampledToken>> = (0..3).map(|i| alone(&prompt(i, 20 + i), 40, u64::from(i), 1)).collect();
    for threads in [1, 2] {
        let mut engine = engine(threads);
        let paths: Vec<PathId> = (0..40).map(|i| engine.open(&prompt(i, 20 + i)).unwrap()).collect();
        for (i, &path) in paths.iter().enumerate() {
            engine.submit(request(path, 40, i as u64)).unwrap();
        }
        let done = finish(&mut engine, paths.len());
        for (completion, reference) in done.iter().zip(&reference) {
            assert_eq!(&completion.tokens, reference);
            assert_eq!(completion.stop, SampleStop::MaxTokens);
        }
    }
}

#[test]
fn a_fork_continues_as_if_it_had_been_opened() {
    let base = prompt(5, 45);
    let mut engine = engine(2);
    let parent = engine.open(&base).unwrap();
    engine.submit(request(parent, 30, 1)).unwrap();
    for _ in 0..10 {
        assert!(engine.poll().unwrap().is_empty());
    }
    // The parent goes on sampling; children fork at every offset of a block, one of them before anything was cached.
    let children: Vec<(PathId, usize)> = (28..45).map(|n| (engine.fork(parent, n).unwrap(), n)).collect();
    for &(child, n) in &children {
        engine.append(child, &prompt(7, 5)).unwrap();
        engine.submit(request(child, 12, n as u64)).unwrap();
    }
    let done = finish(&mut engine, children.len() + 1);
    assert_eq!(done[0].tokens, alone(&base, 30, 1, 1));
    for ((_, n), completion) in children.iter().zip(&done[1..]) {
        let tokens = [&base[..*n], &prompt(7, 5)].concat();
        assert_eq!(completion.tokens, alone(&tokens, 12, *n as u64, 1), "fork at {n}");
    }
}

#[test]
fn forks_of_a_path_that_was_never_polled_share_its_prompt() {
    let base = prompt(2, 33);
    let mut engine = engine(1);
    let root = engine.open(&base).unwrap();
    let child = engine.fork(root, 33).unwrap();
    engine.close(root);
    engine.submit(request(child, 5, 9)).unwrap();
    assert_eq!(finish(&mut engine, 1).remove(0).tokens, alone(&base, 5, 9, 1));
}

/// What the sampler says of its tokens is what the trainer says of them, up to rounding.
#[test]
fn sampler_and_trainer_agree() {
    let base = prompt(1, 30);
    let sampled = alone(&base, 60, 4, 2);
    let mut batch = TreeBatch::default();
    let ids: Vec<u32> = base.iter().copied().chain(sampled.iter().map(|t| t.token)).collect();
    batch.push_segment(None, &ids);
    batch.targets = (30..90).map(|i| Target { from_idx: i - 1, token: ids[i as usize] }).collect();
    let stats = engine(2).forward(&batch, PARAMS.temperature, false).unwrap();
    for (i, token) in sampled.iter().enumerate() {
        assert!((token.logprob - stats.logprobs[i]).abs() < 2e-5, "{token:?} {}", stats.logprobs[i]);
        assert!((token.entropy - stats.entropies[i]).abs() < 2e-5);
    }
    let spread =
        sampled.iter().map(|t| t.entropy).fold(0.0, f32::max) - sampled.iter().map(|t| t.entropy).fold(9.0, f32::min);
    assert!(spread > 0.1, "the test needs uneven distributions, entropies spread over {spread}");
}

#[test]
fn stop_tokens_and_a_full_context_end_a_request() {
    let mut engine = engine(1);
    let path = engine.open(&prompt(0, 10)).unwrap();
    let first = alone(&prompt(0, 10), 8, 2, 1);
    let stop = first[4].token;
    let at = first.iter().position(|t| t.token == stop).unwrap();
    engine.submit(SampleRequest { stop: Stop::at(&[stop]), ..request(path, 50, 2) }).unwrap();
    let done = finish(&mut engine, 1).remove(0);
    assert_eq!((done.stop, done.tokens.len()), (SampleStop::StopToken, at + 1));
    engine.submit(request(path, 1000, 3)).unwrap();
    let done = finish(&mut engine, 1).remove(0);
    assert_eq!((done.stop, done.tokens.len()), (SampleStop::ContextFull, 200 - 10 - at - 1));
    assert!(matches!(engine.submit(request(path, 1, 3)), Err(PolicyError::ContextOverflow { n_tokens: 201, .. })));
}

#[test]
fn misuse_is_an_error_not_a_panic() {
    let mut engine = engine(1);
    assert!(matches!(engine.open(&[]), Err(PolicyError::Misuse(_))));
    assert!(matches!(engine.open(&[97]), Err(PolicyError::TokenOutOfRange { token: 97, vocab_size: 97 })));
    assert!(matches!(engine.open(&vec![1; 201]), Err(PolicyError::ContextOverflow { .. })));
    let path = engine.open(&[1, 2]).unwrap();
    assert!(matches!(engine.fork(path, 3), Err(PolicyError::Misuse(_))));
    assert!(matches!(engine.submit(request(PathId(99), 1, 0)), Err(PolicyError::UnknownPath(_))));
    engine.submit(request(path, 5, 0)).unwrap();
    assert!(matches!(engine.append(path, &[1]), Err(PolicyError::Misuse(_))));
    assert!(matches!(engine.submit(request(path, 5, 0)), Err(PolicyError::Misuse(_))));
    assert!(matches!(engine.step(&step_params()), Err(PolicyError::Misuse(_))));
    engine.close(path);
    assert!(engine.poll().unwrap().is_empty());
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &[1, 2, 3]);
    batch.targets.push(Target { from_idx: 3, token: 1 });
    assert!(matches!(engine.forward(&batch, 1.0, true), Err(PolicyError::Misuse(_))));
    batch.targets[0] = Target { from_idx: 0, token: 97 };
    assert!(matches!(engine.forward(&batch, 1.0, true), Err(PolicyError::TokenOutOfRange { .. })));
    batch.targets.clear();
    assert!(matches!(engine.backward(&batch, &[], &[]), Err(PolicyError::Misuse(_))));
}

#[test]
fn a_gradient_that_is_not_finite_leaves_the_weights() {
    let mut engine = engine(1);
    let before = alone(&prompt(3, 9), 10, 1, 1);
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &[1, 2, 3]);
    batch.targets.push(Target { from_idx: 0, token: 2 });
    engine.forward(&batch, 1.0, true).unwrap();
    engine.backward(&batch, &[f32::NAN], &[]).unwrap();
    assert!(!engine.step(&step_params()).unwrap().applied);
    let path = engine.open(&prompt(3, 9)).unwrap();
    engine.submit(request(path, 10, 1)).unwrap();
    assert_eq!(finish(&mut engine, 1).remove(0).tokens, before);
}

/// Going on from a checkpoint with its optimiser gives the bits of never having stopped.
#[test]
fn resuming_is_exact() {
    let train = |engine: &mut Engine, n: usize| {
        let mut batch = TreeBatch::default();
        batch.push_segment(None, &prompt(8, 40));
        batch.targets = (1..40).map(|i| Target { from_idx: i - 1, token: batch.tokens[i as usize] }).collect();
        for _ in 0..n {
            engine.forward(&batch, 1.0, true).unwrap();
            engine.backward(&batch, &[-0.1; 39], &[]).unwrap();
            engine.step(&step_params()).unwrap();
        }
        engine.forward(&batch, 1.0, false).unwrap().logprobs
    };
    let dir = tempfile::tempdir().unwrap();
    let mut first = engine(2);
    train(&mut first, 3);
    first.save(dir.path(), true).unwrap();
    let uninterrupted = train(&mut first, 3);
    let mut second = Engine::resume(dir.path(), 2).unwrap();
    assert_eq!(train(&mut second, 3), uninterrupted);
    assert_eq!(first.version(), second.version());
}
