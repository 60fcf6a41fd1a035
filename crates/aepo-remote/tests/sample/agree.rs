//! Are trees that servers sample those that the engine samples in this process?

use aepo::policy::{SampleParams, Sampler};
use aepo::rollout::branch::BranchRule;
use aepo::rollout::budget::BudgetRule;
use aepo::rollout::drive::DriveSettings;
use aepo_remote::fakes::{Mode, Plays};
use aepo_remote::sample::{RemoteSampler, SampleSettings};

use crate::support::{
    BOTH, VOCAB, aepo, assert_same, by_ids, by_texts, connect, engine, fake, fake_with, grow, n_requests, pieces,
    settings, tasks, versions,
};

#[test]
fn a_tree_through_servers_is_the_tree_of_the_process() {
    for plays in BOTH {
        for stop in [by_ids(), by_texts()] {
            let expected = grow(&mut engine(), &stop, &tasks(5), &aepo()).unwrap();
            assert!(expected.iter().map(|tree| tree.n_branches()).sum::<usize>() > 3, "hardly a fork: a weak test");
            let fakes = [fake(plays), fake(plays)];
            let mut remote = connect(plays, &[&fakes[0], &fakes[1]]);
            let trees = grow(&mut remote, &stop, &tasks(5), &aepo()).unwrap();
            assert_same(&trees, &expected, 0.0, 1e-5);
            assert_eq!(remote.n_open(), 0);
            let tally = remote.take_tally();
            assert_eq!(tally.n_completions, n_requests(&stop, &tasks(5), &aepo()), "{tally:?}");
            assert_eq!((tally.n_failed_tries, tally.n_continued), (0, 0), "{tally:?}");
            assert!(tally.replicas.iter().all(|r| r.n_answers > 0), "{tally:?}");
            assert_eq!(versions(&trees).keys().copied().collect::<Vec<_>>(), [0]);
        }
    }
}

#[test]
fn few_log_probabilities_leave_entropies_within_what_is_told() {
    let grpo = DriveSettings { budget: BudgetRule::AllGlobal, branch: BranchRule::None, ..aepo() };
    let expected = grow(&mut engine(), &by_ids(), &tasks(3), &grpo).unwrap();
    for plays in BOTH {
        let fakes = [fake(plays)];
        let few = SampleSettings { n_top: 12, ..settings(plays, &[&fakes[0]]) };
        let mut remote = RemoteSampler::connect(few).unwrap();
        let trees = grow(&mut remote, &by_ids(), &tasks(3), &grpo).unwrap();
        let gap = remote.take_tally().widest_gap;
        assert!(gap > 0.01 && gap < (VOCAB as f64).ln(), "{gap}");
        assert_same(&trees, &expected, 0.0, 0.5 * gap as f32 + 1e-5);
    }
}

#[test]
fn temperatures_and_cuts_give_the_pipelines_log_probabilities_or_say_what_is_missing() {
    let table = [
        (Plays::Vllm, Mode::Scaled, 0.7, 1.0, VOCAB, None),
        (Plays::Vllm, Mode::Raw, 1.0, 0.8, VOCAB, None),
        (Plays::Vllm, Mode::Raw, 0.7, 0.8, VOCAB, None),
        (Plays::Sglang, Mode::Scaled, 0.7, 0.8, VOCAB, None),
        (Plays::Vllm, Mode::Raw, 0.7, 1.0, 20, Some("--logprobs-mode processed_logprobs")),
        (Plays::Vllm, Mode::Scaled, 1.0, 0.8, 20, Some("--logprobs-mode raw_logprobs")),
        (Plays::Sglang, Mode::Raw, 0.7, 1.0, 20, Some("without SGLANG_RETURN_ORIGINAL_LOGPROB")),
    ];
    for (plays, mode, temperature, top_p, n_top, refused) in table {
        let params = SampleParams { temperature, top_p, ..aepo().params };
        let drive = DriveSettings { params, ..aepo() };
        let fakes = [fake_with(plays, mode, pieces())];
        let at = SampleSettings { n_top, ..settings(plays, &[&fakes[0]]) };
        let mut remote = RemoteSampler::connect(at).unwrap();
        let trees = grow(&mut remote, &by_ids(), &tasks(2), &drive);
        match (refused, trees) {
            (None, Ok(trees)) => {
                let expected = grow(&mut engine(), &by_ids(), &tasks(2), &drive).unwrap();
                assert_same(&trees, &expected, 1e-5, 1e-5);
            }
            (Some(hint), Err(error)) => assert!(error.to_string().contains(hint), "{error}"),
            (_, other) => panic!("{plays:?} {mode:?} {temperature} {top_p}: {:?}", other.map(|trees| trees.len())),
        }
        assert_eq!(remote.n_open(), 0, "an error leaves no path open");
    }
}

#[test]
fn branches_go_where_their_prefix_is() {
    for plays in BOTH {
        let trees = |n: usize| {
            let fakes: Vec<_> = (0..n).map(|_| fake(plays)).collect();
            let mut remote = connect(plays, &fakes.iter().collect::<Vec<_>>());
            let trees = grow(&mut remote, &by_ids(), &tasks(6), &aepo()).unwrap();
            (trees, remote.take_tally())
        };
        let (alone, one) = trees(1);
        let (shared, three) = trees(3);
        assert_same(&shared, &alone, 0.0, 0.0);
        // Prompts have nothing in common, so each tree has its whole cache where it lives.
        assert!(one.n_cached_tokens * 2 > one.n_prompt_tokens, "{one:?}");
        assert_eq!((three.n_cached_tokens, three.n_prompt_tokens), (one.n_cached_tokens, one.n_prompt_tokens));
        assert!(three.replicas.iter().all(|r| r.n_answers > 0), "{three:?}");
    }
}

#[test]
fn what_a_path_cannot_do_is_said_as_the_engine_says_it() {
    let fakes = [fake(Plays::Vllm)];
    let mut remote = connect(Plays::Vllm, &[&fakes[0]]);
    assert!(remote.open(&[]).is_err() && remote.open(&[VOCAB as u32]).is_err() && remote.open(&[1; 257]).is_err());
    let path = remote.open(&[5, 6, 7]).unwrap();
    assert!(remote.fork(path, 0).is_err() && remote.fork(path, 4).is_err());
    let child = remote.fork(path, 2).unwrap();
    remote.close(path);
    assert!(remote.append(path, &[5]).is_err() && remote.fork(path, 1).is_err());
    remote.append(child, &[8]).unwrap();
    remote.close(child);
    remote.close(child);
    assert_eq!(remote.n_open(), 0);
}
