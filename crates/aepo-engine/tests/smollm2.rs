//! Does the engine compute what `transformers` computes for a real model? `smollm2/make.py` made the numbers.
//!
//! The model is not part of this project. `AEPO_SMOLLM2_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf cargo test` names it; without
//! that the test has nothing to read, and says so.

use std::path::Path;
use std::sync::Arc;

use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::cache::{BlockPool, PathCache};
use aepo_engine::decode::{DecodeBuffers, Row};
use aepo_engine::gguf;
use aepo_engine::model::{Keep, Model, Workspace};
use aepo_engine::sampler::Scratch;
use aepo_engine::team::Team;
use safetensors::SafeTensors;

const EVERY: usize = 128;
/// Of logits, which are at most about 30 here.
const LOGIT: f32 = 2e-4;
/// Nats.
const LOGP: f32 = 1e-3;

fn worst(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max)
}

#[test]
fn a_real_model_has_the_logits_of_transformers() {
    let Ok(path) = std::env::var("AEPO_SMOLLM2_GGUF") else {
        eprintln!("nothing compared: AEPO_SMOLLM2_GGUF does not name SmolLM2-135M-Instruct.Q4_1.gguf");
        return;
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smollm2/expected.safetensors");
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| tensors.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    let floats = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect::<Vec<f32>>();
    let tokens: Vec<u32> = words("tokens").into_iter().map(u32::from_le_bytes).collect();

    let loaded = gguf::load(Path::new(&path)).unwrap_or_else(|e| panic!("{e}"));
    let model = Model::new(loaded.config, loaded.params, Arc::new(Team::new(2).unwrap()));
    let (mut pool, mut cache) = (BlockPool::new(&model.config), PathCache::default());
    let rows: Vec<Row> = tokens.iter().enumerate().map(|(position, &token)| Row { path: 0, token, position }).collect();
    let wanted: Vec<usize> = (0..tokens.len()).collect();
    let read = |_: usize, logits: &[f32], _: &mut Scratch| logits.iter().copied().step_by(EVERY).collect::<Vec<f32>>();
    let (mut buffers, mut logits) = (DecodeBuffers::default(), Vec::new());
    model.decode(&rows, &mut [&mut cache], &mut pool, &wanted, &mut buffers, &mut logits, read);
    let logits: Vec<f32> = logits.into_iter().flatten().flatten().collect();
    let off = worst(&logits, &floats("logits"));
    println!("{} tokens: largest |logit difference| {off:.1e}", tokens.len());
    assert!(off <= LOGIT, "{off:e}");

    let mut batch = TreeBatch::default();
    batch.push_segment(None, &tokens);
    batch.targets = (1..tokens.len()).map(|i| Target { from_idx: i as u32 - 1, token: tokens[i] }).collect();
    let (logp, _) = model.forward(&batch, 1.0, Keep::Nothing, &mut Workspace::default());
    let off = worst(&logp, &floats("logprobs"));
    println!("training pass: largest |log-probability difference| {off:.1e}");
    assert!(off <= LOGP, "{off:e}");
}
