//! Is training on a server the same as training here?

use aepo::policy::{Learner as _, StepParams};
use aepo::train::batch::{Target, TreeBatch};
use aepo_remote::fakes::tinker::FakeSettings;
use aepo_remote::tinker::model::Dialect;
use aepo_remote::tinker::probe::Reduction;
use aepo_remote::tinker::{TinkerLearner, TinkerSettings};

use crate::support::{Disk, adam, apart, learn, learner, matrices, settings};

const FREE: f32 = f32::INFINITY;

/// Three updates of two optimiser steps each: gradient norms, losses and matrices.
fn check(change: impl FnOnce(&mut FakeSettings), params: StepParams) {
    let disk = Disk::new();
    let server = disk.server(change);
    let (mut there, mut here) = (learner(&server), disk.engine());
    assert_eq!(server.counts().n_unloaded, 1, "the model of the probe is gone");
    let before = server.counts();
    for step in 0..3 {
        let (remote, local) = (learn(&mut there, step, params).unwrap(), learn(&mut here, step, params).unwrap());
        let norms = [(remote.grad_norm, local.grad_norm), (remote.grad_norm_max, local.grad_norm_max)];
        for (a, b) in norms.into_iter().chain([(remote.loss + 1.0, local.loss + 1.0)]) {
            assert!((a - b).abs() < 1e-5 * b.abs(), "step {step}: {a} {b}");
        }
        assert_eq!((remote.n_applied, remote.n_unique_tokens), (2, local.n_unique_tokens));
        assert_eq!((remote.sums.n_high, remote.sums.n_low), (local.sums.n_high, local.sums.n_low));
        assert!(remote.sums.entropy.is_nan(), "no entropy is made up");
    }
    assert_eq!(server.counts().n_steps - before.n_steps, 6);
    let (a, b, begin) = (matrices(&mut there, &disk), matrices(&mut here, &disk), matrices(&mut disk.engine(), &disk));
    assert!(apart(&b, &begin) > 1e-2, "the matrices have moved");
    assert!(apart(&a, &b) < 2e-5, "matrices differ by {:e}", apart(&a, &b));
    there.close().unwrap();
    assert_eq!((server.n_loaded(), server.counts().n_unloaded), (0, 2));
    assert_eq!(server.n_kept().1, 0, "archives that were fetched are gone");
}

#[test]
fn a_server_that_averages_learns_what_the_engine_learns() {
    check(|_| {}, adam(FREE));
}

#[test]
fn a_server_that_adds_up_learns_what_the_engine_learns() {
    check(|s| s.reduction = Reduction::Sum, adam(FREE));
}

#[test]
fn a_server_that_reads_json_learns_what_the_engine_learns() {
    check(
        |s| {
            s.dialect = Dialect::Json;
            s.numbered = false;
        },
        adam(FREE),
    );
}

#[test]
fn a_server_that_clips_is_found_and_clips_as_the_engine_does() {
    // Small gradients are divided by their own size: a larger ε keeps rounding from growing with it.
    check(|s| s.clips = true, StepParams { eps: 1e-3, ..adam(0.05) });
}

#[test]
fn what_a_server_can_do_is_found_out() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let can = learner(&server).can;
    assert_eq!((can.dialect, can.numbered, can.reduction), ("protobuf", true, Reduction::MeanOfMeans));
    assert_eq!(
        (can.losses, can.clips, can.context_len),
        (vec!["importance_sampling", "ppo", "cispo"], false, Some(512))
    );
    let server = disk.server(|s| {
        (s.dialect, s.numbered, s.reduction, s.clips) = (Dialect::Json, false, Reduction::Sum, true);
    });
    let can = learner(&server).can;
    assert_eq!((can.dialect, can.numbered, can.reduction, can.clips), ("json", false, Reduction::Sum, true));
}

/// Coefficients of shared tokens go into one sequence, and what has none is not sent.
#[test]
fn sequences_without_a_coefficient_are_not_sent_and_those_with_one_are_counted_once() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let (mut there, mut here) = (learner(&server), disk.engine());
    let mut batch = TreeBatch::default();
    let root = batch.push_segment(None, &[1, 2, 3]);
    for tokens in [[4, 5], [6, 7], [8, 9]] {
        batch.push_segment(Some(root), &tokens);
    }
    let target = |from_idx, token| Target { from_idx, token };
    // The root's own token is on all three sequences.
    batch.targets = vec![target(1, 3), target(2, 4), target(3, 5), target(2, 6), target(2, 8), target(7, 9)];
    let dlogp = [0.7, 0.0, 0.0, -0.4, 0.0, 0.0];
    let before = server.counts();
    let mut norms = Vec::new();
    for learner in [&mut there as &mut dyn aepo::policy::Learner, &mut here] {
        let stats = learner.forward(&batch, 1.0, true).unwrap();
        assert_eq!(stats.logprobs.len(), 6);
        learner.backward(&batch, &dlogp, &[]).unwrap();
        norms.push(learner.step(&adam(FREE)).unwrap().grad_norm);
    }
    assert!((norms[0] - norms[1]).abs() < 1e-5 * norms[1], "{norms:?}");
    assert_eq!(server.counts().n_rows - before.n_rows, 2, "of three sequences two have a coefficient");
    assert_eq!(server.counts().n_passes - before.n_passes, 1);
}

#[test]
fn a_coefficient_that_is_no_number_moves_nothing_and_leaves_nothing_behind() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let mut there = learner(&server);
    let begin = matrices(&mut there, &disk);
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &[1, 2, 3]);
    batch.targets = vec![Target { from_idx: 0, token: 2 }, Target { from_idx: 1, token: 3 }];
    let before = server.counts();
    for dlogp in [[0.5, 0.25], [f32::NAN, 0.25]] {
        there.forward(&batch, 1.0, true).unwrap();
        there.backward(&batch, &dlogp, &[]).unwrap();
    }
    let report = there.step(&adam(FREE)).unwrap();
    assert!(!report.applied && report.grad_norm.is_nan());
    assert_eq!(server.counts().n_rows, before.n_rows);
    assert_eq!(matrices(&mut there, &disk), begin);
    // The next batch is learned as if nothing had been.
    there.forward(&batch, 1.0, true).unwrap();
    there.backward(&batch, &[0.5, 0.25], &[]).unwrap();
    assert!(there.step(&adam(FREE)).unwrap().applied);
    assert_eq!(server.counts().n_rows - before.n_rows, 1);
}

#[test]
fn training_goes_on_from_what_the_server_keeps() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let mut whole = disk.engine();
    let mut first = learner(&server);
    for step in 0..2 {
        learn(&mut first, step, adam(FREE)).unwrap();
        learn(&mut whole, step, adam(FREE)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    first.save(dir.path(), true).unwrap();
    first.close().unwrap();
    let state = aepo_remote::tinker::ServerState::read(dir.path()).unwrap();
    assert_eq!((state.version, state.url.as_str()), (4, server.url.as_str()));
    let mut second = TinkerLearner::connect(&settings(&server.url), "here", Some(&state)).unwrap();
    learn(&mut second, 2, adam(FREE)).unwrap();
    learn(&mut whole, 2, adam(FREE)).unwrap();
    let (a, b) = (matrices(&mut second, &disk), matrices(&mut whole, &disk));
    assert!(apart(&a, &b) < 2e-5, "moments were kept too: {:e}", apart(&a, &b));
    // As many states as there are checkpoints.
    for _ in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        second.save(dir.path(), true).unwrap();
    }
    assert_eq!(server.n_kept(), (3, 0), "two of this run, and that of the first");
    // Another server has never heard of it.
    let elsewhere = TinkerSettings { url: "http://127.0.0.1:1".to_owned(), ..settings(&server.url) };
    let error = TinkerLearner::connect(&elsewhere, "here", Some(&state)).err().unwrap().to_string();
    assert!(error.contains("policy.train.url") && error.contains(&server.url), "{error}");
}
