//! Does a real server learn what this program computes? `AEPO_TINKER_URL` is its address and `AEPO_TINKER_MODEL` the
//! directory of its model; `benches/remote/skyrl.sh` starts SkyRL's and sets both.

use std::path::Path;

use aepo::config::lora::LoraTargets;
use aepo::policy::{Learner, Sampler as _, StepParams};
use aepo_engine::Engine;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use aepo_remote::embedded::apart as models_apart;
use aepo_remote::pair::Pair;
use aepo_remote::publish::Publisher as _;
use aepo_remote::tinker::{ALPHA, TinkerLearner, TinkerSettings};

use crate::support::{RANK, adam, apart, learn_epochs, settings};

#[test]
fn a_real_server_learns_what_the_engine_learns() {
    let (Ok(url), Ok(model)) = (std::env::var("AEPO_TINKER_URL"), std::env::var("AEPO_TINKER_MODEL")) else {
        println!("skipped: AEPO_TINKER_URL and AEPO_TINKER_MODEL name no server");
        return;
    };
    let spec = LoraSpec { rank: RANK, alpha: ALPHA, targets: LoraTargets::all() };
    let setup = Setup { train: Train::Lora(spec), ..Setup::full(2) };
    let engine = || Engine::load_as(Path::new(&model), &setup).unwrap();
    let fresh = TinkerSettings::of(&url, RANK);
    let patience = TinkerSettings { patience: fresh.patience, pause: fresh.pause, ..settings(&url) };
    let mut there = TinkerLearner::connect(&patience, &model, None).unwrap();
    println!("{:?}", there.can);
    println!("log-probabilities differ by {:e} nats", models_apart(&mut engine(), &mut there).unwrap());

    let dir = tempfile::tempdir().unwrap();
    there.save(dir.path(), false).unwrap();
    let mut here = engine();
    here.take_adapter(dir.path(), there.trained()).unwrap();
    let begin = here.adapter().unwrap().to_vec();
    let mut pair = Pair::new(engine(), there).unwrap();
    // An ε well above rounding: without it Adam makes whole steps of what is noise in the smallest gradients.
    let params = StepParams { eps: 1e-3, ..adam(f32::INFINITY) };
    // One step at a time: a ratio that lies at an edge of the clip band may fall on either side of it.
    let learn = |policy: &mut dyn Learner, step| learn_epochs(policy, step, params, 1).unwrap();
    for step in 0..3 {
        let (remote, local) = (learn(&mut pair, step), learn(&mut here, step));
        let differ = (remote.grad_norm - local.grad_norm).abs() / local.grad_norm;
        println!("step {step}: gradient norms {} and {}, {differ:e} apart", remote.grad_norm, local.grad_norm);
        assert!(differ < 1e-4);
        assert_eq!(pair.version(), here.version());
    }
    let (a, b) = (pair.sampler.adapter().unwrap(), here.adapter().unwrap());
    println!("matrices: {:e} apart, after a way of {:e}", apart(a, b), apart(&begin, b));
    assert!(apart(a, b) < 1e-3);

    // A run goes on from what the server keeps.
    let kept = tempfile::tempdir().unwrap();
    pair.save(kept.path(), true).unwrap();
    let state = aepo_remote::tinker::ServerState::read(kept.path()).unwrap();
    pair.learner.close().unwrap();
    let again = TinkerLearner::connect(&patience, &model, Some(&state)).unwrap();
    let mut pair = Pair::new(engine(), again).unwrap();
    let (remote, local) = (learn(&mut pair, 3), learn(&mut here, 3));
    let differ = (remote.grad_norm - local.grad_norm).abs() / local.grad_norm;
    println!("resumed: gradient norms {differ:e} apart");
    assert!(differ < 1e-4);
    let (a, b) = (pair.sampler.adapter().unwrap(), here.adapter().unwrap());
    println!("matrices: {:e} apart", apart(a, b));
    assert!(apart(a, b) < 1e-3);
    pair.learner.close().unwrap();
}
