//! Do replicas take new weights over, and does every token say which weights sampled it?

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aepo::policy::{Completion, Learner as _, PolicyVersion, SampleRequest, Sampler, StepParams};
use aepo::rollout::tree::RolloutTree;
use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::checkpoint::Precision;
use aepo_remote::fakes::{Fault, Plays};
use aepo_remote::publish::{Follower as _, Published, Weights};
use aepo_remote::sample::RemoteSampler;

use crate::support::{
    BOTH, aepo, assert_same, by_ids, connect, draws, engine, fake, grow, lora_engine, tasks, versions,
};

/// One step of training towards nothing in particular.
fn learn(engine: &mut Engine) {
    let tokens: Vec<u32> = (0..30).map(|i| i * 7 % 48).collect();
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &tokens);
    batch.targets = (1..30).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
    let params =
        StepParams { learning_rate: 0.05, weight_decay: 0.0, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };
    engine.forward(&batch, 1.0, true).unwrap();
    engine.backward(&batch, &[-1.0 / 29.0; 29], &[]).unwrap();
    assert!(engine.step(&params).unwrap().applied);
}

/// A fresh directory for a version.
fn dir(root: &Path, version: u64) -> PathBuf {
    let dir = root.join(format!("v{version}"));
    std::fs::create_dir(&dir).unwrap();
    dir
}

fn adapter(engine: &mut Engine, root: &Path, version: u64) -> Published {
    let dir = dir(root, version);
    engine.save(&dir, false).unwrap();
    Published { version: PolicyVersion(version), weights: Weights::Adapter(dir) }
}

fn model(engine: &mut Engine, root: &Path, version: u64) -> Published {
    let dir = dir(root, version);
    engine.export(&dir, Precision::F32).unwrap();
    Published { version: PolicyVersion(version), weights: Weights::Full(dir) }
}

fn trees(sampler: &mut dyn Sampler) -> Vec<RolloutTree> {
    grow(sampler, &by_ids(), &tasks(2), &aepo()).unwrap()
}

#[test]
fn adapters_are_loaded_under_a_name_per_version_and_sample_as_the_trainer() {
    for plays in BOTH {
        let root = tempfile::tempdir().unwrap();
        let fakes = [fake(plays), fake(plays)];
        let mut remote = connect(plays, &[&fakes[0], &fakes[1]]);
        let mut trainer = lora_engine();
        let before = trees(&mut remote);
        for version in 1..=3 {
            learn(&mut trainer);
            let published = adapter(&mut trainer, root.path(), version);
            remote.follow(&published).unwrap();
            assert_eq!(remote.version(), PolicyVersion(version));
            let found = trees(&mut remote);
            assert_same(&found, &trees(&mut trainer), 0.0, 1e-5);
            assert_eq!(versions(&found).keys().copied().collect::<Vec<_>>(), [version]);
            assert_ne!(found[0].nodes, before[0].nodes, "training changed nothing: a weak test");
        }
        for fake in &fakes {
            let calls = fake.calls();
            let of = |verb: &str| calls.iter().filter(|call| call.starts_with(verb)).cloned().collect::<Vec<_>>();
            let ends = |calls: &[String]| {
                calls.iter().map(|call| call.rsplit('-').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(ends(&of("load")), ["v1", "v2", "v3"], "{calls:?}");
            assert!(ends(&of("unload")).starts_with(&["v1".to_owned()]) || plays == Plays::Sglang, "{calls:?}");
            assert!(!of("load").windows(2).any(|pair| pair[0] == pair[1]), "{calls:?}");
        }
    }
}

#[test]
fn whole_weights_are_reloaded_between_requests_and_labelled() {
    for plays in BOTH {
        let root = tempfile::tempdir().unwrap();
        let fakes = [fake(plays), fake(plays)];
        let mut remote = connect(plays, &[&fakes[0], &fakes[1]]);
        let mut trainer = engine();
        for version in 1..=2 {
            learn(&mut trainer);
            remote.follow(&model(&mut trainer, root.path(), version)).unwrap();
            let found = trees(&mut remote);
            assert_same(&found, &trees(&mut trainer), 0.0, 1e-5);
            assert_eq!(versions(&found).keys().copied().collect::<Vec<_>>(), [version]);
        }
        let verbs: Vec<String> =
            fakes[0].calls().iter().map(|call| call.split(' ').next().unwrap_or_default().to_owned()).collect();
        match plays {
            Plays::Vllm => assert_eq!(verbs, ["pause", "rpc", "reset", "label", "resume"].repeat(2)),
            Plays::Sglang => assert_eq!(verbs, ["update", "update"]),
        }
    }
}

fn ask(remote: &mut RemoteSampler, seed: u64) -> aepo::policy::PathId {
    let path = remote.open(&[9, 8, 7, seed as u32 % 40]).unwrap();
    let (stop, params) = (aepo::stop::Stop::at(&[]), draws());
    remote.submit(SampleRequest { path, max_tokens: 12, stop, n_turn: 0, params, seed: Seed(seed) }).unwrap();
    path
}

fn all(remote: &mut RemoteSampler, n: usize) -> Vec<Completion> {
    let until = Instant::now() + Duration::from_secs(60);
    let mut done = Vec::new();
    while done.len() < n {
        done.extend(remote.poll().unwrap());
        assert!(Instant::now() < until, "{} of {n} came back", done.len());
    }
    done
}

#[test]
fn what_is_in_flight_during_an_update_is_marked_with_the_weights_that_it_began_with() {
    for plays in BOTH {
        for whole in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let fakes = [fake(plays)];
            let mut remote = connect(plays, &[&fakes[0]]);
            let mut trainer = if whole { engine() } else { lora_engine() };
            let old: Vec<Vec<f32>> = {
                let paths: Vec<_> = (0..4).map(|seed| ask(&mut remote, seed)).collect();
                let mut done = all(&mut remote, 4);
                done.sort_by_key(|completion| completion.path);
                paths.into_iter().for_each(|path| remote.close(path));
                done.iter().map(|c| c.tokens.iter().map(|t| t.logprob).collect()).collect()
            };
            fakes[0].fail(&[Fault::Slow(300); 4]);
            let early: Vec<_> = (0..4).map(|seed| ask(&mut remote, seed)).collect();
            // They have to be on their way before the update is.
            let n_sent = || fakes[0].counts().n_faults.load(std::sync::atomic::Ordering::Relaxed);
            while n_sent() < 4 {
                std::thread::sleep(Duration::from_millis(2));
            }
            learn(&mut trainer);
            let published = match whole {
                true => model(&mut trainer, root.path(), 1),
                false => adapter(&mut trainer, root.path(), 1),
            };
            remote.follow(&published).unwrap();
            let late: Vec<_> = (0..4).map(|seed| ask(&mut remote, seed)).collect();
            let mut done = all(&mut remote, 8);
            done.sort_by_key(|completion| completion.path);
            for (completion, (path, expected)) in done.iter().zip(early.iter().zip(&old)) {
                assert_eq!((completion.path, completion.version), (*path, PolicyVersion(0)), "{plays:?} {whole}");
                let found: Vec<f32> = completion.tokens.iter().map(|t| t.logprob).collect();
                assert_eq!(found, *expected, "the old weights sampled it");
            }
            for (completion, path) in done[4..].iter().zip(&late) {
                assert_eq!((completion.path, completion.version), (*path, PolicyVersion(1)), "{plays:?} {whole}");
                assert!(completion.changes.is_empty());
            }
        }
    }
}

#[test]
fn a_replica_that_was_started_anew_gets_its_weights_again() {
    for plays in BOTH {
        for whole in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let mut fakes = [fake(plays)];
            let mut remote = connect(plays, &[&fakes[0]]);
            let mut trainer = if whole { engine() } else { lora_engine() };
            learn(&mut trainer);
            let published = match whole {
                true => model(&mut trainer, root.path(), 1),
                false => adapter(&mut trainer, root.path(), 1),
            };
            remote.follow(&published).unwrap();
            let expected = trees(&mut trainer);
            assert_same(&trees(&mut remote), &expected, 0.0, 1e-5);
            fakes[0].kill();
            ask(&mut remote, 1);
            std::thread::sleep(Duration::from_millis(100));
            assert!(remote.poll().unwrap().is_empty());
            fakes[0].restart().unwrap();
            assert_eq!(all(&mut remote, 1)[0].version, PolicyVersion(1));
            let found = trees(&mut remote);
            assert_same(&found, &expected, 0.0, 1e-5);
            assert_eq!(versions(&found).keys().copied().collect::<Vec<_>>(), [1]);
        }
    }
}

#[test]
fn answers_by_other_weights_are_not_taken() {
    for plays in BOTH {
        let root = tempfile::tempdir().unwrap();
        let fakes = [fake(plays), fake(plays)];
        let mut remote = connect(plays, &[&fakes[0], &fakes[1]]);
        // vLLM says by which name it sampled, SGLang by which label of whole weights.
        let mut trainer = if plays == Plays::Vllm { lora_engine() } else { engine() };
        learn(&mut trainer);
        let published = match plays {
            Plays::Vllm => adapter(&mut trainer, root.path(), 1),
            Plays::Sglang => model(&mut trainer, root.path(), 1),
        };
        remote.follow(&published).unwrap();
        fakes[0].fail(&[Fault::Skewed; 4]);
        let found = trees(&mut remote);
        assert_same(&found, &trees(&mut trainer), 0.0, 1e-5);
        let n_met = fakes[0].counts().n_faults.load(std::sync::atomic::Ordering::Relaxed);
        assert!(n_met > 0 && remote.take_tally().n_failed_tries == n_met, "{n_met}");
    }
}

#[test]
fn a_head_that_would_stay_behind_is_not_reloaded() {
    let root = tempfile::tempdir().unwrap();
    let fakes = [fake(Plays::Vllm)];
    let mut remote = connect(Plays::Vllm, &[&fakes[0]]);
    let published = model(&mut engine(), root.path(), 1);
    let path = root.path().join("v1/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["tie_word_embeddings"] = true.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let error = remote.follow(&published).unwrap_err().to_string();
    assert!(error.contains("tie_word_embeddings") && error.contains("a head of its own"), "{error}");
    assert!(fakes[0].calls().is_empty(), "nothing was touched: {:?}", fakes[0].calls());
}

#[test]
fn weights_that_nobody_can_load_are_an_error_with_the_reason() {
    for plays in BOTH {
        for weights in [Weights::Adapter(PathBuf::from("/nowhere/v1")), Weights::Full(PathBuf::from("/nowhere/v1"))] {
            let fakes = [fake(plays)];
            let mut remote = connect(plays, &[&fakes[0]]);
            let error = remote.follow(&Published { version: PolicyVersion(1), weights }).unwrap_err().to_string();
            assert!(error.contains(&fakes[0].url) && error.contains("/nowhere/v1"), "{error}");
            if plays == Plays::Vllm {
                let calls = fakes[0].calls();
                let n = |verb: &str| calls.iter().filter(|call| *call == verb).count();
                assert_eq!(n("pause"), n("resume"), "a failed update leaves it paused: {calls:?}");
            }
        }
    }
}
