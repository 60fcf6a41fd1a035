//! What do those see who look into the engine while it samples? The same tokens, their company, and given ones judged
//! as if they had been drawn.

use aepo::policy::watch::{Seen, Watch, Watched};
use aepo::policy::{Learner, PathId, PolicyError, SampleParams, SampleRequest, SampledToken, Sampler};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};

const PARAMS: SampleParams = SampleParams { temperature: 0.9, top_p: 0.95, top_k: 0, top_entropy: false };

fn engine() -> Engine {
    let config = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: 301,
        hidden_size: 48,
        intermediate_size: 96,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 2500,
        tie_word_embeddings: false,
        sliding_window: None,
        token_ids: TokenIds::default(),
    };
    Engine::random(config, Seed(8), 2).unwrap()
}

fn prompt(n: u32) -> Vec<u32> {
    (0..n).map(|i| (i * i + 7) % 300).collect()
}

fn request(path: PathId, max_tokens: usize) -> SampleRequest {
    SampleRequest { path, max_tokens, stop: Stop::at(&[]), n_turn: 0, params: PARAMS, seed: Seed(4) }
}

/// Polls until `path` has ended and takes its record piece by piece; the pieces' lengths come with it.
fn watch(engine: &mut Engine, path: PathId) -> (Vec<SampledToken>, Vec<Seen>, Vec<usize>) {
    let (mut seen, mut lengths) = (Vec::new(), Vec::new());
    loop {
        let done = engine.poll().unwrap();
        engine.take_seen(path, &mut seen);
        lengths.push(seen.len());
        if let Some(completion) = done.into_iter().find(|c| c.path == path) {
            return (completion.tokens, seen, lengths);
        }
    }
}

#[test]
fn who_looks_sees_each_token_when_it_is_there_and_changes_none() {
    let mut engine = engine();
    engine.limit_vocab(300);
    let path = engine.open(&prompt(30)).unwrap();
    engine.submit(request(path, 25)).unwrap();
    let (alone, nothing, _) = watch(&mut engine, path);
    assert!(nothing.is_empty(), "nobody asked for a record");
    let paths: Vec<PathId> = (0..5).map(|_| engine.open(&prompt(30)).unwrap()).collect();
    for (n_likeliest, &path) in paths.iter().enumerate() {
        engine.submit_watched(request(path, 25), Watch { n_likeliest, n_given: 0 }).unwrap();
    }
    let (tokens, seen, lengths) = watch(&mut engine, paths[4]);
    assert_eq!(tokens, alone);
    assert_eq!(lengths, (1..=25).collect::<Vec<usize>>());
    for (seen, token) in seen.iter().zip(&alone) {
        assert_eq!(seen.token, *token);
        assert_eq!(seen.likeliest.len(), 4);
        assert!(seen.likeliest.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
        match seen.likeliest.get(seen.rank as usize - 1) {
            // The same token has the same bits wherever it is told.
            Some(place) => assert_eq!(*place, (token.token, token.logprob)),
            None => assert!(seen.likeliest.iter().all(|l| l.0 != token.token && l.1 >= token.logprob)),
        }
    }
    let mut unasked = Vec::new();
    engine.take_seen(paths[0], &mut unasked);
    assert_eq!(unasked.iter().map(|s| s.token).collect::<Vec<_>>(), alone);
    assert!(unasked.iter().all(|s| s.rank == 0 && s.likeliest.is_empty()));
}

#[test]
fn given_tokens_are_worth_what_they_were_worth_when_they_were_drawn() {
    let mut engine = engine();
    // Longer than what is read in one go, so that the record is made in parts.
    let start = prompt(1100);
    let path = engine.open(&start).unwrap();
    engine.submit(request(path, 20)).unwrap();
    let (drawn, ..) = watch(&mut engine, path);
    let whole: Vec<u32> = start.iter().copied().chain(drawn.iter().map(|t| t.token)).collect();
    let given = engine.open(&whole).unwrap();
    engine.submit_watched(request(given, 1), Watch { n_likeliest: 1, n_given: whole.len() - 1 }).unwrap();
    // A fork of another path has everything cached that is open; the record is made all the same.
    let other = engine.open(&prompt(40)).unwrap();
    engine.fork(other, 30).unwrap();
    let (_, seen, _) = watch(&mut engine, given);
    assert_eq!(seen.len(), whole.len(), "every token but the first, and a sampled one");
    assert_eq!(seen.iter().map(|s| s.token.token).take(whole.len() - 1).collect::<Vec<_>>(), whole[1..]);
    let last: Vec<SampledToken> = seen[start.len() - 1..whole.len() - 1].iter().map(|s| s.token).collect();
    assert_eq!(last, drawn);
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &whole);
    batch.targets = (1..whole.len()).map(|i| Target { from_idx: i as u32 - 1, token: whole[i] }).collect();
    let trained = engine.forward(&batch, 0.9, false).unwrap();
    for (seen, logprob) in seen.iter().zip(trained.logprobs) {
        assert!((seen.token.logprob - logprob).abs() < 1e-4, "{seen:?} {logprob}");
    }
}

#[test]
fn what_is_cached_already_cannot_be_judged() {
    let mut engine = engine();
    let path = engine.open(&prompt(20)).unwrap();
    let fork = engine.fork(path, 20).unwrap();
    for (path, n_given) in [(fork, 1), (path, 5), (path, 20), (path, 99)] {
        let asked = engine.submit_watched(request(path, 3), Watch { n_likeliest: 0, n_given });
        assert!(matches!(asked, Err(PolicyError::Misuse(_))), "{n_given}");
    }
    engine.submit_watched(request(fork, 3), Watch::default()).unwrap();
    assert_eq!(watch(&mut engine, fork).1.len(), 3);
}
