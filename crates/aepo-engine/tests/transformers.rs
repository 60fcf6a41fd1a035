//! Does the engine read what `transformers` saved, and compute what it computes? `transformers/make.py` made the models
//! and the numbers; `transformers/README.md` has what was measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aepo::policy::{Learner, StepParams};
use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::adamw::{self, Moments};
use aepo_engine::cache::{BlockPool, PathCache};
use aepo_engine::checkpoint::{Adapter, GENERATION_CONFIG, Precision, load_adapter, load_adapter_config, load_model};
use aepo_engine::decode::{DecodeBuffers, Row};
use aepo_engine::lora::Lora;
use aepo_engine::model::{Keep, Model, Workspace};
use aepo_engine::sampler::Scratch;
use aepo_engine::team::Team;
use aepo_engine::weights::Weights;
use safetensors::SafeTensors;

const MODELS: [&str; 8] =
    ["llama", "llama_llama3", "llama_linear", "qwen2_padded", "qwen2_yarn", "qwen2_window", "qwen3", "qwen3_bent"];

fn team(n_threads: usize) -> Arc<Team> {
    Arc::new(Team::new(n_threads).unwrap())
}

/// Of logits, which are at most about 20 here.
const LOGIT: f32 = 2e-4;
/// Nats.
const LOGP: f32 = 1e-3;

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transformers").join(name)
}

fn model(name: &str) -> Model<f32> {
    let (config, params) = load_model(&dir(name)).unwrap_or_else(|e| panic!("{e}"));
    Model::new(config, params, team(2))
}

fn words(file: &Path, tensor: &str) -> Vec<[u8; 4]> {
    let bytes = std::fs::read(file).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(tensor).unwrap().data().as_chunks().0.to_vec()
}

/// The sequence and its logits, `[n_tokens, vocab]`.
fn expected(name: &str) -> (Vec<u32>, Vec<f32>) {
    let file = dir(name).join("expected.safetensors");
    let tokens = words(&file, "tokens").into_iter().map(u32::from_le_bytes).collect();
    (tokens, words(&file, "logits").into_iter().map(f32::from_le_bytes).collect())
}

/// The logits of a sequence, read in pieces of the given lengths.
fn decoded(model: &Model<f32>, tokens: &[u32], pieces: impl IntoIterator<Item = usize>) -> Vec<f32> {
    let (mut pool, mut cache) = (BlockPool::new(&model.config), PathCache::default());
    let (mut buffers, mut logits) = (DecodeBuffers::default(), Vec::new());
    for n in pieces {
        let start = cache.n_tokens;
        let rows: Vec<Row> = (start..start + n).map(|i| Row { path: 0, token: tokens[i], position: i }).collect();
        let wanted: Vec<usize> = (0..n).collect();
        let read = |_: usize, logits: &[f32], _: &mut Scratch| logits.to_vec();
        let mut read_rows = Vec::new();
        model.decode(&rows, &mut [&mut cache], &mut pool, &wanted, &mut buffers, &mut read_rows, read);
        logits.extend(read_rows.into_iter().flatten().flatten());
    }
    assert_eq!(cache.n_tokens, tokens.len());
    logits
}

fn log_softmax(logits: &[f32], vocab: usize) -> Vec<f32> {
    let row = |row: &[f32]| {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - top).exp()).sum();
        row.iter().map(|x| (f64::from(x - top) - sum.ln()) as f32).collect::<Vec<f32>>()
    };
    logits.chunks_exact(vocab).flat_map(row).collect()
}

#[track_caller]
fn close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let worst = got.iter().zip(expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst:e}, allowed {tolerance:e}");
}

#[test]
fn logits_agree_read_at_once_and_token_by_token() {
    for name in MODELS {
        let (model, (tokens, logits)) = (model(name), expected(name));
        let n = tokens.len();
        let at_once = decoded(&model, &tokens, [n]);
        close(&format!("{name} at once"), &at_once, &logits, LOGIT);
        let one_by_one = decoded(&model, &tokens, std::iter::once(11).chain((11..n).map(|_| 1)));
        close(&format!("{name} token by token"), &one_by_one, &at_once, 2e-5);
    }
}

#[test]
fn the_training_pass_gives_the_same_log_probabilities() {
    for name in MODELS {
        let (model, (tokens, logits)) = (model(name), expected(name));
        let vocab = model.config.vocab_size;
        let mut batch = TreeBatch::default();
        batch.push_segment(None, &tokens);
        let target = |i: usize| Target { from_idx: (i / vocab) as u32, token: (i % vocab) as u32 };
        batch.targets = (0..tokens.len() * vocab).map(target).collect();
        let (logp, _) = model.forward(&batch, 1.0, Keep::Nothing, &mut Workspace::default());
        close(&format!("{name} transformers"), &logp, &log_softmax(&logits, vocab), LOGP);
        let decoded = log_softmax(&decoded(&model, &tokens, [tokens.len()]), vocab);
        close(&format!("{name} decode"), &logp, &decoded, 5e-5);
    }
}

/// What the configurations ask for is not what the same weights give without it.
#[test]
fn scalings_and_windows_matter() {
    for name in MODELS {
        let (mut model, (tokens, logits)) = (model(name), expected(name));
        let plain = (model.config.rope_scaling, &model.config.sliding_window) == (Default::default(), &None);
        model.config.rope_scaling = Default::default();
        model.config.sliding_window = None;
        let model = Model::with(model.config, model.params, None, team(1));
        let worst = decoded(&model, &tokens, [tokens.len()])
            .iter()
            .zip(&logits)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert_eq!(worst < LOGIT, plain, "{name}: {worst}");
    }
}

#[test]
fn one_step_of_adamw_agrees() {
    let name = "qwen2_padded";
    let (mut model, (tokens, _)) = (model(name), expected(name));
    let n = tokens.len() as u32;
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &tokens);
    batch.targets = (1..n).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
    let mut work = Workspace::default();
    model.forward(&batch, 1.0, Keep::All, &mut work);
    let mut grads = vec![0.0; model.layout.n_parameters()];
    let c = vec![-1.0 / (n - 1) as f32; batch.targets.len()];
    model.backward(&batch, &c, &[], &mut work, &mut grads);
    let settings = StepParams {
        learning_rate: 0.01,
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        max_grad_norm: f32::MAX,
    };
    let team = Arc::clone(&model.team);
    let weights = model.params.numbers_mut().unwrap();
    adamw::step(&team, &model.layout.tensors, weights, &mut grads, &mut Moments::default(), &settings);
    let file = dir(name).join("adamw.safetensors");
    for tensor in &model.layout.tensors {
        let expected: Vec<f32> = words(&file, &tensor.name).into_iter().map(f32::from_le_bytes).collect();
        let largest = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        close(&tensor.name, &model.params.numbers().unwrap()[tensor.range.clone()], &expected, 1e-5 * largest);
    }
}

/// An adapter that PEFT saved: the model with it, and a step of its matrices.
#[test]
fn a_lora_adapter_and_one_step_of_it_agree() {
    let name = "qwen2_padded";
    let adapter = dir(name).join("adapter");
    let (Adapter { spec, base }, (tokens, _)) = (load_adapter_config(&adapter).unwrap(), expected(name));
    assert_eq!(base, name);
    let (config, params) = load_model(&dir(name)).unwrap();
    let mut lora = Lora::new(&config, spec, Seed(1));
    lora.params = load_adapter(&adapter, &lora).unwrap();
    let mut model = Model::with(config, Weights::full(params), Some(lora), team(2));
    let n = tokens.len() as u32;
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &tokens);
    batch.targets = (1..n).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
    let file = adapter.join("expected.safetensors");
    let floats = |tensor: &str| -> Vec<f32> { words(&file, tensor).into_iter().map(f32::from_le_bytes).collect() };
    let mut work = Workspace::default();
    let (logp, _) = model.forward(&batch, 1.0, Keep::Inputs, &mut work);
    close("log-probabilities", &logp, &floats("logprobs"), 1e-4);
    let mut grads = vec![0.0; model.n_trained()];
    let c = vec![-1.0 / (n - 1) as f32; batch.targets.len()];
    model.backward(&batch, &c, &[], &mut work, &mut grads);
    let settings = StepParams {
        learning_rate: 0.01,
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        max_grad_norm: f32::MAX,
    };
    let lora = model.lora.as_mut().unwrap();
    let before = lora.params.clone();
    adamw::step(&model.team, &lora.layout.tensors, &mut lora.params, &mut grads, &mut Moments::default(), &settings);
    for tensor in &lora.layout.tensors {
        let expected = floats(&format!("after.{}", tensor.name));
        let largest = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        close(&tensor.name, &lora.params[tensor.range.clone()], &expected, 1e-5 * largest);
        assert!(before[tensor.range.clone()] != expected[..]);
    }
}

#[test]
fn what_is_saved_is_what_was_loaded() {
    for name in MODELS {
        let mut engine = Engine::load(&dir(name), 1).unwrap();
        let (config, params) = load_model(&dir(name)).unwrap();
        for max_shard_bytes in [u64::MAX, 30_000] {
            let to = tempfile::tempdir().unwrap();
            engine.export_shards(to.path(), Precision::F32, max_shard_bytes).unwrap();
            assert_eq!(load_model(to.path()).unwrap(), (config.clone(), params.clone()), "{name}");
            let defaults = |dir: &Path| std::fs::read_to_string(dir.join(GENERATION_CONFIG)).unwrap();
            assert_eq!(defaults(to.path()), defaults(&dir(name)));
        }
        let to = tempfile::tempdir().unwrap();
        engine.save(to.path(), true).unwrap();
        assert_eq!(Engine::resume(to.path(), 1).unwrap().config(), &config);
    }
}
