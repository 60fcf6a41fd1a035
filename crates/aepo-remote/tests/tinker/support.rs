//! A tiny model on the disk, a server over it, an engine like the server's, and trees to learn from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aepo::config::Config;
use aepo::config::lora::LoraTargets;
use aepo::policy::{Learner, PolicyVersion, SampledToken, StepParams};
use aepo::rollout::budget::SamplingBudget;
use aepo::rollout::tree::{Leaf, Node, NodeId, NodeKind, PathKey, RolloutTree, StopReason};
use aepo::score::Score;
use aepo::seed::Seed;
use aepo::train::group::{ScoredTree, train_groups};
use aepo::train::update::{UpdateError, UpdateReport, UpdateSettings, update};
use aepo_engine::Engine;
use aepo_engine::config::ModelConfig;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use aepo_remote::fakes::tinker::{FakeSettings, FakeTinker};
use aepo_remote::tinker::{ALPHA, TinkerLearner, TinkerSettings};

pub const RANK: usize = 4;
const SEED: u32 = 11;
const VOCAB: usize = 61;
const CONFIG: &str = r#"{"model_type":"qwen3","vocab_size":61,"hidden_size":32,"intermediate_size":48,
    "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":8,
    "max_position_embeddings":128,"tie_word_embeddings":true}"#;

/// A model directory with random weights.
pub struct Disk(tempfile::TempDir);

impl Disk {
    pub fn new() -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = Engine::random(ModelConfig::from_json(CONFIG).unwrap(), Seed(3), 1).unwrap();
        engine.save(dir.path(), false).unwrap();
        Disk(dir)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// An engine with the matrices that a server draws.
    pub fn engine(&self) -> Engine {
        let spec = LoraSpec { rank: RANK, alpha: ALPHA, targets: LoraTargets::all() };
        let setup = Setup { train: Train::Lora(spec), seed: Seed(u64::from(SEED)), ..Setup::full(1) };
        Engine::load_as(self.0.path(), &setup).unwrap()
    }

    pub fn server(&self, change: impl FnOnce(&mut FakeSettings)) -> FakeTinker {
        let mut settings = FakeSettings::of(self.path());
        change(&mut settings);
        FakeTinker::start(settings).unwrap()
    }
}

/// How a server is asked in tests: without long pauses.
pub fn settings(url: &str) -> TinkerSettings {
    let (patience, pause) = (Duration::from_secs(60), Duration::from_millis(2));
    TinkerSettings { seed: SEED, patience, pause, ..TinkerSettings::of(url, RANK) }
}

pub fn learner(server: &FakeTinker) -> TinkerLearner {
    TinkerLearner::connect(&settings(&server.url), "here", None).unwrap()
}

/// A task's tree: root samples that call a tool, each forked behind the result.
fn tree(seed: Seed) -> RolloutTree {
    let mut n_drawn = 0;
    let mut draw = |below: f64| {
        n_drawn += 1;
        (seed.uniform(n_drawn) * below) as u32
    };
    let (mut nodes, mut leaves): (Vec<Node>, Vec<Leaf>) = (Vec::new(), Vec::new());
    let mut grow = |nodes: &mut Vec<Node>, parent: Option<u32>, sampled: bool, n: u32| {
        let mut token = || SampledToken {
            token: draw(VOCAB as f64),
            logprob: -4.1 - draw(100.0) as f32 / 400.0,
            entropy: draw(100.0) as f32 / 50.0,
            top_entropy: 0.0,
        };
        let tokens: Vec<SampledToken> = (0..n).map(|_| token()).collect();
        let kind = match sampled {
            true => NodeKind::Sampled { tokens, version: PolicyVersion(0), changes: Vec::new() },
            false => NodeKind::Context { tokens: tokens.iter().map(|t| t.token).collect(), call: None },
        };
        nodes.push(Node { parent: parent.map(NodeId), kind });
        nodes.len() as u32 - 1
    };
    let prompt = grow(&mut nodes, None, false, 4);
    for root in 0..3 {
        let first = grow(&mut nodes, Some(prompt), true, 3 + root);
        let result = grow(&mut nodes, Some(first), false, 2);
        for child in 0..1 + root {
            let last = grow(&mut nodes, Some(result), true, 2 + child);
            let key = if child == 0 { vec![root] } else { vec![root, 1, child] };
            let stop = StopReason::Answered("x".to_owned());
            leaves.push(Leaf { node: NodeId(last), key: PathKey(key), stop });
        }
    }
    leaves.sort_by(|a, b| a.key.cmp(&b.key));
    RolloutTree {
        budget: SamplingBudget { total: leaves.len(), n_global: 3, n_branch: leaves.len() - 3 },
        nodes,
        leaves,
        root_entropy: 0.0,
        tool_entropy: 0.0,
        decisions: Vec::new(),
        expansions: Vec::new(),
    }
}

fn trees(step: u64) -> Vec<ScoredTree> {
    let scored = |task: u64| {
        let seed = Seed(40).child(step).child(task);
        let tree = tree(seed);
        let reward = |leaf: u64| [1.0, 0.0, -1.0, 1.1][(seed.child(1).uniform(leaf) * 4.0) as usize];
        let score = |leaf| Score { reward: reward(leaf), accuracy: 0.0, format_ok: true };
        ScoredTree { scores: (0..tree.leaves.len() as u64).map(score).collect(), tree }
    };
    (0..3).map(scored).collect()
}

/// Numbers of a step that is large enough for f32 to tell, with a bound on the gradient only where it is asked for.
pub fn adam(max_grad_norm: f32) -> StepParams {
    StepParams { learning_rate: 1e-2, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-6, max_grad_norm }
}

/// The `step`-th update of a run: two epochs, so that ratios are not 1, in batches of one tree.
pub fn learn(policy: &mut dyn Learner, step: u64, adam: StepParams) -> Result<UpdateReport, UpdateError> {
    learn_epochs(policy, step, adam, 2)
}

pub fn learn_epochs(
    policy: &mut dyn Learner,
    step: u64,
    adam: StepParams,
    epochs: usize,
) -> Result<UpdateReport, UpdateError> {
    let config = Config::resolve("", "", &[]).unwrap();
    let trees = trees(step);
    let (groups, _) = train_groups(&trees, &config.rules().advantage);
    let settings = UpdateSettings {
        minibatches: 1,
        epochs,
        max_batch_tokens: 60,
        step: adam,
        ..config.update_settings(step, Seed(5), f64::INFINITY)
    };
    update(policy, None, &groups, &settings, &mut |_| {})
}

/// LoRA's matrices, as a learner keeps them.
pub fn matrices(learner: &mut dyn Learner, like: &Disk) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    learner.save(dir.path(), false).unwrap();
    read(dir.path(), like)
}

pub fn read(dir: &Path, like: &Disk) -> Vec<f32> {
    let mut engine = like.engine();
    engine.load_adapter(dir).unwrap();
    engine.adapter().unwrap().to_vec()
}

/// The length of the difference, in parts of the length.
pub fn apart(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    assert_eq!(a.len(), b.len());
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b))) / norm(&mut a.iter().map(|&a| f64::from(a)))
}
