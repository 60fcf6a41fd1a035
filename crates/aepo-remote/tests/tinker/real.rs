//! Does a real server learn what this program computes? `AEPO_TINKER_URL` is its address and `AEPO_TINKER_MODEL` the
//! directory of its model; `benches/remote/skyrl.sh` starts SkyRL's and sets both.

use std::path::Path;

use aepo::config::lora::LoraTargets;
use aepo::policy::{Learner as _, Sampler as _, StepParams};
use aepo_engine::Engine;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use aepo_remote::embedded::apart as models_apart;
use aepo_remote::publish::Publisher as _;
use aepo_remote::tinker::api::Api;
use aepo_remote::tinker::model::{Adam, Model, Sequence};
use aepo_remote::tinker::probe::LOSS;
use aepo_remote::tinker::{ALPHA, TinkerLearner, TinkerSettings};

use crate::support::{RANK, adam, apart, learn_epochs, settings};
use crate::tied::Tied;

/// How far apart a server may be, in parts.
const CLOSE: f64 = 1e-4;

/// How to ask the server and where its model is; nothing where no server is named.
fn server() -> Option<(TinkerSettings, String)> {
    let (Ok(url), Ok(model)) = (std::env::var("AEPO_TINKER_URL"), std::env::var("AEPO_TINKER_MODEL")) else {
        println!("skipped: AEPO_TINKER_URL and AEPO_TINKER_MODEL name no server");
        return None;
    };
    let fresh = TinkerSettings::of(&url, RANK);
    Some((TinkerSettings { patience: fresh.patience, pause: fresh.pause, ..settings(&url) }, model))
}

#[test]
fn a_real_server_learns_what_the_engine_learns() {
    let Some((patience, model)) = server() else { return };
    let spec = LoraSpec { rank: RANK, alpha: ALPHA, targets: LoraTargets::all() };
    let setup = Setup { train: Train::Lora(spec.clone()), ..Setup::full(2) };
    let engine = || Engine::load_as(Path::new(&model), &setup).unwrap();
    let mut there = TinkerLearner::connect(&patience, &model, None).unwrap();
    println!("{:?}", there.can);
    println!("log-probabilities differ by {:e} nats", models_apart(&mut engine(), &mut there).unwrap());

    // An ε well above rounding: without it Adam makes whole steps of what is noise in the smallest gradients.
    let params = StepParams { eps: 1e-3, ..adam(f32::INFINITY) };
    // One step at a time, on the weights that the server has: a ratio at an edge of the clip band may fall on either side.
    let mut here = Tied::new(engine(), &spec);
    let compare = |there: &mut TinkerLearner, here: &mut Tied, step| {
        let begin = matrices_of(there, &mut here.engine);
        let copies = here.copies_differ(&begin);
        assert_eq!(copies, 0.0, "projections that read the same states share A there");
        let remote = learn_epochs(there, step, params, 1).unwrap();
        let local = learn_epochs(here, step, params, 1).unwrap();
        let differ = |norm: f64| (remote.grad_norm - norm).abs() / norm;
        let (tied, untied) = (local.grad_norm, here.untied_norm);
        println!("step {step}: the server's gradient norm is {}", remote.grad_norm);
        println!("    the engine's, A shared:  {tied}, {:e} apart", differ(tied));
        println!("    the engine's, A its own: {untied}, {:e} apart", differ(untied));
        assert!(differ(tied) <= CLOSE);
        let wanted = here.next.clone();
        let moved = matrices_of(there, &mut here.engine);
        let way = apart(&begin, &wanted);
        println!("    matrices: {:e} apart, after a way of {way:e}", apart(&moved, &wanted));
        assert!(apart(&moved, &wanted) <= CLOSE * way.max(1.0) && way > 0.0);
        assert_eq!(there.trained(), here.engine.version());
    };
    (0..3).for_each(|step| compare(&mut there, &mut here, step));

    // A run goes on from what the server keeps, Adam's moments included.
    let kept = tempfile::tempdir().unwrap();
    there.save(kept.path(), true).unwrap();
    let state = aepo_remote::tinker::ServerState::read(kept.path()).unwrap();
    there.close().unwrap();
    let mut again = TinkerLearner::connect(&patience, &model, Some(&state)).unwrap();
    compare(&mut again, &mut here, 3);
    again.close().unwrap();
}

/// The learner's matrices, which the engine takes over.
fn matrices_of(learner: &mut TinkerLearner, engine: &mut Engine) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    learner.save(dir.path(), false).unwrap();
    engine.take_adapter(dir.path(), learner.trained()).unwrap();
    engine.adapter().unwrap().to_vec()
}

/// Ratios below, in and above the clip band [0.8, 1.2] that servers take where nothing else is asked for, each with
/// advantages of both signs.
const RATIOS: [f32; 8] = [0.5, 0.5, 0.9, 0.9, 1.1, 1.1, 1.6, 1.6];
const ADVANTAGES: [f32; 8] = [1.0, -0.7, 0.8, -1.1, 0.9, -0.6, 1.2, -0.5];

/// −∂L/∂logp of a server's own loss.
fn coefficient(loss: &str, ratio: f32, advantage: f32) -> f32 {
    match loss {
        "ppo" if (advantage > 0.0 && ratio > 1.2) || (advantage < 0.0 && ratio < 0.8) => 0.0,
        "cispo" => ratio.clamp(0.8, 1.2) * advantage,
        _ => ratio * advantage,
    }
}

#[test]
fn two_passes_have_the_gradient_of_the_server_s_own_losses() {
    let Some((patience, model)) = server() else { return };
    let there = TinkerLearner::connect(&patience, &model, None).unwrap();
    let can = there.can.clone();
    there.close().unwrap();
    let api = Api::new(&patience).unwrap();
    let mut model = Model::create(&api, &can.model, &patience, can.manners).unwrap();
    let tokens: Vec<u32> = (1..=9).map(|i| i * 5).collect();
    let with = |logprobs: &[f32], advantages: &[f32], loss: &str, model: &mut Model, learning_rate: f64| {
        let row = Sequence { read: &tokens[..8], next: &tokens[1..], logprobs, advantages };
        model.pass(&[row], loss, false).unwrap();
        let rest = Adam { learning_rate, beta1: 0.9, beta2: 0.95, eps: 1e-3, weight_decay: 0.0, clip_norm: None };
        model.step(&rest).unwrap().unwrap()
    };
    let current = |model: &mut Model| {
        let row = Sequence { read: &tokens[..8], next: &tokens[1..], logprobs: &[0.0; 8], advantages: &[0.0; 8] };
        model.pass(&[row], LOSS, true).unwrap().remove(0)
    };
    // A step first, so that A has a gradient, too.
    let first = current(&mut model);
    with(&first, &ADVANTAGES, LOSS, &mut model, 1e-2);
    let now = current(&mut model);
    let old: Vec<f32> = now.iter().zip(RATIOS).map(|(logp, ratio)| logp - ratio.ln()).collect();
    let mut norms = Vec::new();
    for loss in [LOSS, "ppo", "cispo"] {
        if !can.losses.contains(&loss) {
            println!("skipped: {} has no loss {loss}", can.host);
            continue;
        }
        let one = with(&old, &ADVANTAGES, loss, &mut model, 0.0);
        let weights: Vec<f32> = RATIOS.iter().zip(ADVANTAGES).map(|(r, a)| coefficient(loss, *r, a)).collect();
        let two = with(&now, &weights, LOSS, &mut model, 0.0);
        let differ = (one - two).abs() / one;
        println!("{loss}: in one pass {one}, in two {two}, {differ:e} apart");
        assert!(differ <= CLOSE);
        norms.push(one);
    }
    assert!(norms.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 1e-2 * pair[0]), "losses differ: {norms:?}");
    model.unload().unwrap();
}
