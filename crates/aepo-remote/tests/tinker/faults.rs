//! What becomes of a run when its server is slow, busy, broken, or not what it says?

use std::time::{Duration, Instant};

use aepo::policy::{Learner as _, PolicyError, Sampler as _};
use aepo::train::batch::{Target, TreeBatch};
use aepo::train::update::UpdateError;
use aepo_remote::fakes::tinker::{Fault, FaultKind};
use aepo_remote::tinker::model::Dialect;
use aepo_remote::tinker::{TinkerError, TinkerLearner, TinkerSettings};
use aepo_tools::http::Secret;

use crate::support::{Disk, RANK, adam, apart, learn, learner, matrices, settings};

const FREE: f32 = f32::INFINITY;
const ROUTES: [&str; 5] =
    ["forward_backward", "optim_step", "retrieve_future", "save_weights_for_sampler", "save_weights"];

fn every(every: usize, kind: FaultKind) -> Vec<Fault> {
    ROUTES.into_iter().map(|route| Fault { route, every, kind }).collect()
}

/// Three updates under faults: as many sequences and steps as without, and the same matrices.
#[test]
fn no_batch_is_lost_or_counted_twice_whatever_happens_to_requests() {
    let disk = Disk::new();
    let calm = {
        let server = disk.server(|_| {});
        let (mut there, before) = (learner(&server), server.counts());
        for step in 0..3 {
            learn(&mut there, step, adam(FREE)).unwrap();
        }
        let now = server.counts();
        (
            now.n_rows - before.n_rows,
            now.n_steps - before.n_steps,
            now.n_passes - before.n_passes,
            matrices(&mut there, &disk),
        )
    };
    let kinds = [FaultKind::Busy, FaultKind::Broken, FaultKind::Lost, FaultKind::Half, FaultKind::Twice];
    for (kind, late) in kinds.into_iter().map(|kind| (kind, 0)).chain([(FaultKind::Lost, 5)]) {
        let server = disk.server(|s| s.late = late);
        let (mut there, before) = (learner(&server), server.counts());
        server.set_faults(every(3, kind));
        for step in 0..3 {
            learn(&mut there, step, adam(FREE)).unwrap();
        }
        let now = server.counts();
        let what = format!("{kind:?}, {late} polls late");
        let seen = (now.n_rows - before.n_rows, now.n_steps - before.n_steps, now.n_passes - before.n_passes);
        assert_eq!(seen, (calm.0, calm.1, calm.2), "{what}");
        let dir = tempfile::tempdir().unwrap();
        there.save(dir.path(), true).unwrap();
        assert!(apart(&crate::support::read(dir.path(), &disk), &calm.3) < 1e-6, "{what}");
        assert!(now.n_hit > 10, "{what}: {} requests were hit", now.n_hit);
    }
}

/// A server without numbers may be asked once only: a lost answer ends the run instead of being learned twice.
#[test]
fn a_lost_answer_is_an_error_where_a_repeated_request_would_count_twice() {
    let disk = Disk::new();
    let server = disk.server(|s| (s.dialect, s.numbered) = (Dialect::Json, false));
    let mut there = learner(&server);
    // Refused before it was acted upon: that may be sent again.
    server.set_faults(every(2, FaultKind::Busy));
    learn(&mut there, 0, adam(FREE)).unwrap();
    server.set_faults(vec![Fault { route: "forward_backward", every: 1, kind: FaultKind::Lost }]);
    let before = server.counts();
    let error = learn(&mut there, 1, adam(FREE)).unwrap_err().to_string();
    assert!(error.contains("was lost") && error.contains("--resume"), "{error}");
    assert_eq!(server.counts().n_passes - before.n_passes, 1, "it was asked once");
    // No step is ever made of what is there now.
    server.set_faults(Vec::new());
    let error = learn(&mut there, 1, adam(FREE)).unwrap_err().to_string();
    assert!(error.contains("part of a batch"), "{error}");
    assert_eq!(server.counts().n_steps, before.n_steps);
    let dir = tempfile::tempdir().unwrap();
    assert!(there.save(dir.path(), true).is_err(), "and no checkpoint");
}

#[test]
fn a_dead_server_is_an_error_in_time() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let quick = TinkerSettings { patience: Duration::from_secs(2), ..settings(&server.url) };
    let mut there = TinkerLearner::connect(&quick, "here", None).unwrap();
    drop(server);
    let start = Instant::now();
    let error = learn(&mut there, 0, adam(FREE)).unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    drop(there);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_never_ends_is_an_error_in_time() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let quick = TinkerSettings { patience: Duration::from_secs(1), ..settings(&server.url) };
    let mut there = TinkerLearner::connect(&quick, "here", None).unwrap();
    server.set_late(usize::MAX);
    let start = Instant::now();
    let error = learn(&mut there, 0, adam(FREE)).unwrap_err().to_string();
    assert!(error.contains("within 1 s") && error.contains("policy.train.patience_secs"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_storm_of_errors_ends() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let mut there = learner(&server);
    server.set_faults(every(1, FaultKind::Broken));
    let before = server.counts().n_requests;
    let error = learn(&mut there, 0, adam(FREE)).unwrap_err().to_string();
    assert!(error.contains("status 500: broken"), "{error}");
    assert_eq!(server.counts().n_requests - before, 8);
}

#[test]
fn slots_that_have_run_out_are_said_and_what_was_made_is_given_back() {
    let disk = Disk::new();
    let server = disk.server(|s| s.slots = 1);
    let first = learner(&server);
    let error = TinkerLearner::connect(&settings(&server.url), "here", None).err().unwrap();
    assert!(matches!(&error, TinkerError::NoSlot { .. }), "{error}");
    assert!(error.to_string().contains("max_lora_adapters"), "{error}");
    drop(first);
    let counts = server.counts();
    assert_eq!((server.n_loaded(), counts.n_created), (0, counts.n_unloaded), "whoever is dropped is unloaded");
    drop(learner(&server));
    // A rank that the server refuses leaves nothing either.
    let wide = TinkerSettings { rank: 1000, ..settings(&server.url) };
    let error = TinkerLearner::connect(&wide, "here", None).err().unwrap().to_string();
    assert!(error.contains("status 400") && error.contains("rank"), "{error}");
    assert_eq!(server.n_loaded(), 0);
}

#[test]
fn weights_that_are_not_those_that_were_scored_are_noticed() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let mut there = learner(&server);
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &[1, 2, 3]);
    batch.targets = vec![Target { from_idx: 0, token: 2 }, Target { from_idx: 1, token: 3 }];
    there.forward(&batch, 1.0, true).unwrap();
    there.backward(&batch, &[0.5, 0.5], &[]).unwrap();
    server.lose_weights();
    let steps = server.counts().n_steps;
    let error = there.step(&adam(FREE)).unwrap_err().to_string();
    assert!(error.contains("between scoring and training"), "{error}");
    assert_eq!(server.counts().n_steps, steps);
}

#[test]
fn what_a_server_cannot_do_is_refused_by_the_settings_name() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let mut there = learner(&server);
    let error = there.check(1.0).unwrap_err().to_string();
    assert!(error.contains("train.max_grad_norm") && error.contains("1e6"), "{error}");
    there.check(1e6).unwrap();
    assert!(matches!(there.step(&adam(1.0)), Err(PolicyError::Remote(_))));
    let batch = TreeBatch::default();
    let error = there.forward(&batch, 0.7, false).unwrap_err().to_string();
    assert!(error.contains("rollout.temperature"), "{error}");
    there.forward(&batch, 1.0, true).unwrap();
    assert!(there.backward(&batch, &[], &[0.5]).unwrap_err().to_string().contains("loss.entropy_coef"));
    assert!(matches!(there.backward(&batch, &[], &[]), Err(PolicyError::Misuse(_))), "no pass was kept");

    let silent = disk.server(|s| s.reports_norm = false);
    let error = TinkerLearner::connect(&settings(&silent.url), "here", None).err().unwrap().to_string();
    assert!(error.contains("no gradient norm"), "{error}");
    assert_eq!((silent.n_loaded(), silent.counts().n_unloaded), (0, 1), "the probe's model is unloaded all the same");

    let named = TinkerSettings { model: Some("other".to_owned()), ..settings(&server.url) };
    let error = TinkerLearner::connect(&named, "here", None).err().unwrap().to_string();
    assert!(error.contains("policy.train.base_model") && error.contains("fake"), "{error}");
}

#[test]
fn a_key_is_sent_and_shown_nowhere() {
    let disk = Disk::new();
    let server = disk.server(|s| s.key = Some("tml-0123456789".to_owned()));
    let error = TinkerLearner::connect(&settings(&server.url), "here", None).err().unwrap().to_string();
    assert!(error.contains("status 401"), "{error}");
    let with = |key: &str| {
        let key = Some(Secret::of(key).unwrap());
        TinkerLearner::connect_with_key(&settings(&server.url), key, "here", None)
    };
    let error = with("tml-9876543210").err().unwrap().to_string();
    assert!(error.contains("status 401") && !error.contains("9876543210"), "{error}");
    let mut there = with("tml-0123456789").unwrap();
    // The archive lies behind a redirect to the same server.
    assert_eq!(matrices(&mut there, &disk).len(), matrices(&mut disk.engine(), &disk).len());
}

#[test]
fn an_address_that_is_none_is_an_error() {
    for url in ["", "localhost:8000", "ftp://a", "http://key@a"] {
        assert!(TinkerLearner::connect(&TinkerSettings::of(url, RANK), "here", None).is_err(), "{url}");
    }
    // A server that speaks something else.
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let error = TinkerLearner::connect(&settings(&format!("{}/elsewhere", server.url)), "here", None).err().unwrap();
    assert!(matches!(&error, TinkerError::Refused { status: 404, .. }), "{error}");
    assert!(matches!(learn(&mut disk.engine(), 0, adam(FREE)), Ok(_) | Err(UpdateError::Policy(_))));
    assert_eq!(disk.engine().version().0, 0);
}
