//! Does the engine compute what the published architectures define? The numbers come from `golden/make_golden.py`, a
//! PyTorch program that shares no code with this crate and knows nothing of trees. `golden/README.md` has the layout.

use std::sync::Arc;

use std::path::{Path, PathBuf};

use aepo::policy::{Learner, StepParams};
use aepo::train::batch::{Segment, Target, TreeBatch};
use aepo_engine::adamw::{self, Moments};
use aepo_engine::checkpoint::load_model;
use aepo_engine::model::{Keep, Model, Workspace};
use aepo_engine::team::Team;
use aepo_engine::{Engine, real::Real};
use safetensors::SafeTensors;
use serde::Deserialize;

const MODELS: [&str; 4] = ["llama", "qwen2", "qwen3", "qwen3_mha"];

/// In f64 nothing is left but the rounding of the stored values to f32, half a unit in 2^24.
const F64: Tolerance = Tolerance { relative: 1e-7, absolute: 1e-9 };
/// In f32, a few times what the PyTorch program itself loses in that precision.
const F32: Tolerance = Tolerance { relative: 1e-5, absolute: 2e-5 };

#[derive(Clone, Copy)]
struct Tolerance {
    relative: f64,
    absolute: f64,
}

#[derive(Deserialize)]
struct SegmentJson {
    parent: Option<u32>,
    start_idx: u32,
    n_tokens: u32,
    depth: u32,
}

#[derive(Deserialize)]
struct TargetJson {
    from_idx: u32,
    token: u32,
}

#[derive(Deserialize)]
struct AdamwJson {
    n_steps: usize,
    learning_rate: f32,
    weight_decay: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    max_grad_norm: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchJson {
    tokens: Vec<u32>,
    segments: Vec<SegmentJson>,
    targets: Vec<TargetJson>,
    logp_coefs: Vec<f64>,
    entropy_coefs: Vec<f64>,
    sequence: Vec<u32>,
    adamw: AdamwJson,
}

/// One folder of `golden`.
struct Golden {
    dir: PathBuf,
    json: BatchJson,
    batch: TreeBatch,
    tensors: Vec<u8>,
}

impl Golden {
    fn read(name: &str) -> Golden {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let json = std::fs::read_to_string(dir.join("batch.json")).expect("batch.json is there");
        let json: BatchJson = serde_json::from_str(&json).expect("batch.json has the layout of make_golden.py");
        let segment = |s: &SegmentJson| Segment {
            parent: s.parent,
            start_idx: s.start_idx,
            n_tokens: s.n_tokens,
            depth: s.depth,
        };
        let batch = TreeBatch {
            tokens: json.tokens.clone(),
            segments: json.segments.iter().map(segment).collect(),
            targets: json.targets.iter().map(|t| Target { from_idx: t.from_idx, token: t.token }).collect(),
        };
        let tensors = std::fs::read(dir.join("golden.safetensors")).expect("golden.safetensors is there");
        Golden { dir, json, batch, tensors }
    }

    fn values(&self, tensor: &str) -> Vec<f64> {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("golden.safetensors is whole");
        let view = tensors.tensor(tensor).unwrap_or_else(|e| panic!("{tensor}: {e}"));
        let number = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().expect("four bytes a number")));
        view.data().chunks_exact(4).map(number).collect()
    }

    fn has(&self, tensor: &str) -> bool {
        SafeTensors::deserialize(&self.tensors).is_ok_and(|t| t.tensor(tensor).is_ok())
    }

    fn model<T: Real>(&self) -> Model<T> {
        let (config, params) = load_model(&self.dir).expect("the model loads");
        Model::new(config, params.iter().map(|&x| T::of(f64::from(x))).collect(), Arc::new(Team::new(2).unwrap()))
    }
}

#[track_caller]
fn close<T: Real>(what: &str, got: &[T], expected: &[f64], tolerance: Tolerance) {
    assert_eq!(got.len(), expected.len(), "{what}: another number of values");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (g.to_f64() - e).abs();
        let allowed = tolerance.absolute + tolerance.relative * e.abs();
        assert!(error <= allowed, "{what}[{i}]: {g:?}, expected {e}, off by {error:e}, allowed {allowed:e}");
    }
}

/// Log-probabilities, entropies and the gradient of every weight, over the tree.
fn check_tree<T: Real>(name: &str, tolerance: Tolerance) {
    let golden = Golden::read(name);
    let model = golden.model::<T>();
    let mut work = Workspace::default();
    let number = |x: &f64| T::of(*x);
    let c: Vec<T> = golden.json.logp_coefs.iter().map(number).collect();
    let d: Vec<T> = golden.json.entropy_coefs.iter().map(number).collect();
    for (tag, temperature) in [("t1.0", 1.0), ("t0.7", 0.7)] {
        let (logp, entropy) = model.forward(&golden.batch, temperature, Keep::All, &mut work);
        close(&format!("{name} logp.{tag}"), &logp, &golden.values(&format!("logp.{tag}")), tolerance);
        close(&format!("{name} entropy.{tag}"), &entropy, &golden.values(&format!("entropy.{tag}")), tolerance);
        if !golden.has(&format!("scalar.{tag}")) {
            continue;
        }
        let mut grads = vec![T::of(0.0); model.layout.n_parameters()];
        model.backward(&golden.batch, &c, &d, &mut work, &mut grads);
        for tensor in &model.layout.tensors {
            let key = format!("grad.{tag}.{}", tensor.name);
            close(&format!("{name} {key}"), &grads[tensor.range.clone()], &golden.values(&key), tolerance);
        }
    }
}

#[test]
fn trees_agree_in_f64() {
    for name in MODELS {
        check_tree::<f64>(name, F64);
    }
}

#[test]
fn trees_agree_in_f32() {
    for name in MODELS {
        check_tree::<f32>(name, F32);
    }
}

#[test]
fn the_whole_distribution_of_a_sequence_agrees() {
    for name in MODELS {
        let golden = Golden::read(name);
        let model = golden.model::<f64>();
        let vocab = model.config.vocab_size;
        let mut batch = TreeBatch::default();
        batch.push_segment(None, &golden.json.sequence);
        let n_tokens = golden.json.sequence.len();
        let target = |i: usize| Target { from_idx: (i / vocab) as u32, token: (i % vocab) as u32 };
        batch.targets = (0..n_tokens * vocab).map(target).collect();
        let (logp, _) = model.forward(&batch, 1.0, Keep::Nothing, &mut Workspace::default());
        let mut expected = golden.values("logits");
        for row in expected.chunks_exact_mut(vocab) {
            let log_sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            row.iter_mut().for_each(|x| *x -= log_sum);
        }
        // The stored logits are rounded to f32 before the difference is taken.
        let tolerance = Tolerance { relative: 1e-7, absolute: 2e-6 };
        close(&format!("{name} log-softmax"), &logp, &expected, tolerance);
    }
}

#[test]
fn adamw_agrees() {
    let golden = Golden::read("qwen2");
    let mut model = golden.model::<f32>();
    let o = &golden.json.adamw;
    let settings = StepParams {
        learning_rate: o.learning_rate,
        weight_decay: o.weight_decay,
        beta1: o.beta1,
        beta2: o.beta2,
        eps: o.eps,
        max_grad_norm: o.max_grad_norm,
    };
    // S is maximised, so −S is minimised.
    let minus = |x: &Vec<f64>| -> Vec<f32> { x.iter().map(|&x| -x as f32).collect() };
    let (c, d) = (minus(&golden.json.logp_coefs), minus(&golden.json.entropy_coefs));
    let (mut moments, mut work) = (Moments::default(), Workspace::default());
    let mut norms = Vec::new();
    for _ in 0..o.n_steps {
        model.forward(&golden.batch, 1.0, Keep::All, &mut work);
        let mut grads = vec![0.0; model.layout.n_parameters()];
        model.backward(&golden.batch, &c, &d, &mut work, &mut grads);
        let (team, weights) = (Arc::clone(&model.team), model.params.numbers_mut().unwrap());
        let report = adamw::step(&team, &model.layout.tensors, weights, &mut grads, &mut moments, &settings);
        assert!(report.applied);
        norms.push(report.grad_norm);
    }
    close("norms", &norms, &golden.values("adamw.grad_norms"), F32);
    for tensor in &model.layout.tensors {
        let key = format!("adamw.{}", tensor.name);
        close(&key, &model.params.numbers().unwrap()[tensor.range.clone()], &golden.values(&key), F32);
    }
}

#[test]
fn the_policy_gives_the_same_numbers() {
    for name in MODELS {
        let golden = Golden::read(name);
        let mut engine = Engine::load(&golden.dir, 2).expect("the engine loads the model");
        let stats = engine.forward(&golden.batch, 0.7, false).expect("the batch is accepted");
        close(&format!("{name} logp"), &stats.logprobs, &golden.values("logp.t0.7"), F32);
        close(&format!("{name} entropy"), &stats.entropies, &golden.values("entropy.t0.7"), F32);
    }
}
