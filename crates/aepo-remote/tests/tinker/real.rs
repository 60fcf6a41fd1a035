//! Does a real server learn what this program computes? `AEPO_TINKER_URL` is its address and `AEPO_TINKER_MODEL` the
//! directory of its model; `benches/remote/skyrl.sh` starts SkyRL's and sets both.

use std::path::Path;

use aepo::config::lora::LoraTargets;
use aepo::policy::{Learner as _, Sampler as _, StepParams};
use aepo_engine::Engine;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use aepo_remote::embedded::apart as models_apart;
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

    // An ε well above rounding: without it Adam makes whole steps of what is noise in the smallest gradients.
    let params = StepParams { eps: 1e-3, ..adam(f32::INFINITY) };
    // One step at a time, on the weights that the server has: a ratio at an edge of the clip band may fall on either side.
    let mut here = engine();
    let compare = |there: &mut TinkerLearner, here: &mut Engine, step| {
        let dir = tempfile::tempdir().unwrap();
        there.save(dir.path(), false).unwrap();
        here.take_adapter(dir.path(), there.trained()).unwrap();
        let begin = here.adapter().unwrap().to_vec();
        let remote = learn_epochs(there, step, params, 1).unwrap();
        let local = learn_epochs(here, step, params, 1).unwrap();
        let differ = (remote.grad_norm - local.grad_norm).abs() / local.grad_norm;
        println!("step {step}: gradient norms {} and {}, {differ:e} apart", remote.grad_norm, local.grad_norm);
        // SkyRL's JAX backend is exact while B is zero; 1.3e-4 apart was seen at the second step, for a reason not yet known.
        assert!(differ < if step == 0 { 1e-4 } else { 1e-3 });
        assert_eq!(there.trained(), here.version());
        let (a, b) = (matrices_of(there, &engine()), here.adapter().unwrap());
        println!("matrices: {:e} apart, after a way of {:e}", apart(&a, b), apart(&begin, b));
        assert!(apart(&a, b) < apart(&begin, b), "both went the same way");
    };
    (0..3).for_each(|step| compare(&mut there, &mut here, step));

    // A run goes on from what the server keeps.
    let kept = tempfile::tempdir().unwrap();
    there.save(kept.path(), true).unwrap();
    let state = aepo_remote::tinker::ServerState::read(kept.path()).unwrap();
    there.close().unwrap();
    let mut again = TinkerLearner::connect(&patience, &model, Some(&state)).unwrap();
    compare(&mut again, &mut here, 3);
    again.close().unwrap();
}

fn matrices_of(learner: &mut TinkerLearner, like: &Engine) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    learner.save(dir.path(), false).unwrap();
    let mut engine = like.reference(Some(dir.path())).unwrap().unwrap();
    engine.load_adapter(dir.path()).unwrap();
    engine.adapter().unwrap().to_vec()
}
