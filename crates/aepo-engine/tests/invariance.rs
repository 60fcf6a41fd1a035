//! Is a step of every algorithm the same step, however its trees are packed, shared and spread over threads?
//!
//! The real engine in f32, on random trees of two kinds of forks, for every bundle of rules: loss and gradient differ by
//! less than 1e-5 relative when trees go through the model one at a time or all at once, with shared prefixes or as
//! unrolled trajectories, on one thread or two.

use aepo::algo::Algorithm;
use aepo::config::Config;
use aepo::policy::{Learner, PolicyVersion, SampledToken, StepParams};
use aepo::rollout::budget::SamplingBudget;
use aepo::rollout::trajectory::Trajectory;
use aepo::rollout::tree::{Leaf, Node, NodeId, NodeKind, PathKey, RolloutTree, StopReason};
use aepo::score::Score;
use aepo::seed::Seed;
use aepo::train::group::{ScoredTree, train_groups};
use aepo::train::loss::LossSums;
use aepo::train::pack::{TrainGroup, TrainSample};
use aepo::train::update::{UpdateReport, UpdateSettings, update};
use aepo_engine::Engine;
use aepo_engine::checkpoint::load_model;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};

const VOCAB: usize = 61;

fn engine(seed: u64, threads: usize) -> Engine {
    let config = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: VOCAB,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 128,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    };
    Engine::random(config, Seed(seed), threads).unwrap()
}

/// A task's tree: root samples that call a tool, forks behind the results, some a second time, and a path that a
/// failing tool spoilt.
fn tree(seed: Seed) -> RolloutTree {
    let mut n_drawn = 0;
    let mut draw = |below: f64| {
        n_drawn += 1;
        (seed.uniform(n_drawn) * below) as u32
    };
    let mut nodes: Vec<Node> = Vec::new();
    let mut leaves: Vec<Leaf> = Vec::new();
    let context = |nodes: &mut Vec<Node>, parent: Option<u32>, draw: &mut dyn FnMut(f64) -> u32| {
        let tokens = (0..2 + draw(4.0)).map(|_| draw(VOCAB as f64)).collect();
        nodes.push(Node { parent: parent.map(NodeId), kind: NodeKind::Context { tokens, call: None } });
        nodes.len() as u32 - 1
    };
    let turn = |nodes: &mut Vec<Node>, parent: u32, draw: &mut dyn FnMut(f64) -> u32| {
        let mut token = |_| SampledToken {
            token: draw(VOCAB as f64),
            logprob: -4.1 - draw(100.0) as f32 / 400.0,
            entropy: draw(100.0) as f32 / 50.0,
            top_entropy: 0.0,
        };
        let tokens = (0..3 + parent % 5).map(&mut token).collect();
        let kind = NodeKind::Sampled { tokens, version: PolicyVersion(0), changes: Vec::new() };
        nodes.push(Node { parent: Some(NodeId(parent)), kind });
        nodes.len() as u32 - 1
    };
    let prompt = context(&mut nodes, None, &mut draw);
    for root in 0..3 {
        let first = turn(&mut nodes, prompt, &mut draw);
        let result = context(&mut nodes, Some(first), &mut draw);
        for child in 0..1 + root {
            let mut last = turn(&mut nodes, result, &mut draw);
            if child == 1 {
                let result = context(&mut nodes, Some(last), &mut draw);
                let end = turn(&mut nodes, result, &mut draw);
                let key = PathKey(vec![root, 1, child, 2, 0]);
                leaves.push(Leaf { node: NodeId(end), key, stop: StopReason::CallLimit });
                last = turn(&mut nodes, result, &mut draw);
            }
            let stop = match (root, child) {
                (2, 2) => StopReason::ToolUnavailable,
                _ => StopReason::Answered("x".to_owned()),
            };
            let key = if child == 0 { vec![root] } else { vec![root, 1, child] };
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

fn trees() -> Vec<ScoredTree> {
    let scored = |task: u64| {
        let tree = tree(Seed(40).child(task));
        let reward = |leaf: u64| [1.0, 0.0, -1.0, 1.1][(Seed(7).child(task).uniform(leaf) * 4.0) as usize];
        let score = |leaf| Score { reward: reward(leaf), accuracy: 0.0, format_ok: true };
        ScoredTree { scores: (0..tree.leaves.len() as u64).map(score).collect(), tree }
    };
    (0..4).map(scored).collect()
}

/// AdamW without memory and with an ε that leaves nothing of its division: the weights move by `rate` gradients.
fn plain_steps(rate: f32) -> StepParams {
    const EPS: f32 = 1e6;
    let learning_rate = rate * EPS;
    StepParams { learning_rate, weight_decay: 0.0, beta1: 0.0, beta2: 0.0, eps: EPS, max_grad_norm: f32::INFINITY }
}

/// How the weights move, and what the update says of itself.
fn moved(groups: &[TrainGroup<'_>], settings: &UpdateSettings, threads: usize) -> (Vec<f64>, UpdateReport) {
    let weights = |engine: &mut Engine| {
        let dir = tempfile::tempdir().unwrap();
        engine.save(dir.path(), false).unwrap();
        load_model(dir.path()).unwrap().1
    };
    let (mut policy, mut reference) = (engine(3, threads), engine(4, threads));
    let before = weights(&mut policy);
    let report = update(&mut policy, Some(&mut reference), groups, settings, &mut |_| {}).unwrap();
    let after = weights(&mut policy);
    (after.iter().zip(before).map(|(a, b)| f64::from(*a) - f64::from(b)).collect(), report)
}

/// Every trajectory in a tree of its own, with the advantages that it has in its group.
fn unrolled_trees(groups: &[TrainGroup<'_>]) -> Vec<RolloutTree> {
    groups.iter().flat_map(TrainGroup::unrolled).collect()
}

fn alone<'a>(trees: &'a [RolloutTree], groups: &[TrainGroup<'_>]) -> Vec<TrainGroup<'a>> {
    let samples = groups.iter().flat_map(|g| &g.samples);
    let group = |(tree, s): (&'a RolloutTree, &TrainSample)| {
        let sample = TrainSample::new(0, &Trajectory::all(tree)[0], s.reward, s.advantages.clone());
        TrainGroup { tree, samples: vec![sample] }
    };
    trees.iter().zip(samples).map(group).collect()
}

/// Loss and gradient of one way to compute a step against five others.
fn check(name: &str, sets: &[(&str, &str)], rate: f32, epochs: usize) -> LossSums {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let sets: Vec<(String, String)> = [("algorithm.name", name)].iter().chain(sets).map(own).collect();
    let config = Config::resolve("", "", &sets).unwrap();
    let trees = trees();
    let (groups, _) = train_groups(&trees, &config.rules().advantage);
    let apart = unrolled_trees(&groups);
    let linear = alone(&apart, &groups);
    let settings = |max_batch_tokens| UpdateSettings {
        minibatches: 1,
        epochs,
        max_batch_tokens,
        step: plain_steps(rate),
        ..config.update_settings(0, Seed(5), f64::INFINITY)
    };
    // Group advantages cancel, so that a loss may be 0 up to rounding: it is measured against its terms.
    let advantages: Vec<f64> = groups.iter().flat_map(|g| &g.samples).flat_map(|s| s.advantages.clone()).collect();
    let terms = advantages.iter().map(|a| a.abs()).sum::<f64>() / advantages.len() as f64;

    let (whole, report) = moved(&groups, &settings(1 << 20), 1);
    assert_eq!(report.n_applied, epochs, "{name}");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let scale = norm(&mut whole.iter().copied());
    assert!(scale > 0.1, "{name}: the weights move by {scale}, too little for f32 to tell");
    let runs = [(&groups, 1, 1), (&groups, 90, 2), (&groups, 1 << 20, 2), (&linear, 70, 1), (&linear, 1 << 20, 2)];
    for (groups, max_batch_tokens, threads) in runs {
        let (again, other) = moved(groups, &settings(max_batch_tokens), threads);
        let gradient = norm(&mut again.iter().zip(&whole).map(|(a, b)| a - b)) / scale;
        let loss = (other.loss - report.loss).abs() / report.loss.abs().max(terms);
        let what = format!("{name} {sets:?}, {max_batch_tokens} tokens at most, {threads} threads");
        assert!(gradient < 1e-5 && loss < 1e-5, "{what}: gradient differs by {gradient:e}, loss by {loss:e}");
        // A trajectory without advantage that is alone in its tree is not computed, and nothing of it is clipped.
        assert!(other.sums.n_tokens <= report.sums.n_tokens, "{what}");
        assert_eq!((other.sums.n_high, other.sums.n_low), (report.sums.n_high, report.sums.n_low), "{what}");
    }
    report.sums
}

#[test]
fn the_gradient_of_every_algorithm_is_the_same_in_any_packing_unrolled_and_on_any_threads() {
    for algorithm in Algorithm::ALL {
        // One step: its move is the gradient itself.
        check(algorithm.bundle().name, &[], 1e3, 1);
    }
}

#[test]
fn so_are_steps_away_from_the_weights_that_sampled() {
    for algorithm in Algorithm::ALL {
        let name = algorithm.bundle().name;
        let sums = check(name, &[], 2.0, 3);
        assert!(sums.n_high > 0 && sums.kl_old > 0.0, "{name}: no ratio left the band: {sums:?}");
    }
}

#[test]
fn so_are_divergence_entropy_bonus_and_importance_weights() {
    for algorithm in Algorithm::ALL {
        let name = algorithm.bundle().name;
        let sets = [("loss.kl_coef", "0.1"), ("loss.entropy_coef", "0.01"), ("loss.is_cap", "1.05")];
        let sums = check(name, &sets, 2.0, 2);
        assert!(sums.n_capped > 0 && sums.n_capped < sums.n_tokens && sums.kl_ref > 0.0, "{name}: {sums:?}");
    }
}
