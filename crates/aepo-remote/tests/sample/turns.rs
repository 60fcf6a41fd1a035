//! Does a turn end where our own rule ends it, whatever the server knows of texts?

use std::sync::Arc;

use aepo::policy::{SampleRequest, SampleStop, Sampler};
use aepo::seed::Seed;
use aepo_remote::fakes::{Fault, Mode};

use crate::support::{
    BOTH, VOCAB, aepo, assert_same, by_ids, by_texts, connect, draws, engine, fake, fake_with, grow, pieces, tasks,
    versions,
};

#[test]
fn what_a_server_samples_behind_the_end_of_a_turn_is_dropped() {
    let expected = grow(&mut engine(), &by_texts(), &tasks(3), &aepo()).unwrap();
    for plays in BOTH {
        // It knows no texts at all.
        let mute: Arc<[Box<[u8]>]> = vec![Box::from(&b""[..]); VOCAB].into();
        let fakes = [fake_with(plays, Mode::Scaled, mute)];
        let mut remote = connect(plays, &[&fakes[0]]);
        let trees = grow(&mut remote, &by_texts(), &tasks(3), &aepo()).unwrap();
        assert_same(&trees, &expected, 0.0, 1e-5);
        let tally = remote.take_tally();
        assert!(tally.n_surplus_tokens > 0 && tally.n_continued == 0, "{tally:?}");
    }
}

#[test]
fn a_turn_that_ends_for_the_server_alone_goes_on() {
    for plays in BOTH {
        // Every `<` is the whole text to it.
        let eager: Vec<Box<[u8]>> =
            pieces().iter().map(|p| if &**p == b"<" { b"</a>"[..].into() } else { p.clone() }).collect();
        let fakes = [fake_with(plays, Mode::Scaled, eager.into())];
        let mut remote = connect(plays, &[&fakes[0]]);
        let trees = grow(&mut remote, &by_texts(), &tasks(3), &aepo()).unwrap();
        let tally = remote.take_tally();
        assert!(tally.n_continued > 0, "{tally:?}");
        // The engine's own log-probabilities of what was sampled.
        check_logprobs(&trees);
        for tree in &trees {
            for leaf in &tree.leaves {
                let turn = tree.nodes[leaf.node.0 as usize].kind.ids();
                let n = (1..=turn.len()).find(|&n| by_texts().ends(&turn[..n]));
                assert!(n.is_none_or(|n| n == turn.len()), "a turn goes on behind its end: {turn:?}");
                assert!(n.is_some() || leaf.stop.name().starts_with("max-"), "{} {turn:?}", leaf.stop.name());
            }
        }
    }
}

#[test]
fn what_an_aborted_request_has_sampled_is_kept() {
    for plays in BOTH {
        let fakes = [fake(plays)];
        let mut remote = connect(plays, &[&fakes[0]]);
        fakes[0].fail(&[Fault::Aborted; 10]);
        let trees = grow(&mut remote, &by_ids(), &tasks(3), &aepo()).unwrap();
        check_logprobs(&trees);
        let tally = remote.take_tally();
        assert!(tally.n_continued > 0 && tally.n_failed_tries == 0, "{tally:?}");
        assert_eq!(versions(&trees).len(), 1, "one version, so nothing is marked as mixed");
    }
}

#[test]
fn a_text_may_begin_before_the_request_and_limits_are_the_engines() {
    for plays in BOTH {
        let fakes = [fake(plays)];
        let mut remote = connect(plays, &[&fakes[0]]);
        let mut local = engine();
        for n_prompt in [20, 250] {
            for (n_turn, seed) in (0..40).map(|seed| (seed as usize % 3, seed)) {
                // `<` and `/` stand before the request; a `>` or `a>` behind them ends the turn.
                let mut prompt: Vec<u32> = (0..n_prompt).map(|i| 41 + (i + seed as u32) % 6).collect();
                prompt.extend([12, 22]);
                let mut both = Vec::new();
                for sampler in [&mut remote as &mut dyn Sampler, &mut local] {
                    let path = sampler.open(&prompt).unwrap();
                    let (stop, params) = (by_texts(), draws());
                    let request = SampleRequest { path, max_tokens: 8, stop, n_turn, params, seed: Seed(seed) };
                    sampler.submit(request).unwrap();
                    let done = loop {
                        if let Some(done) = sampler.poll().unwrap().pop() {
                            break done;
                        }
                    };
                    sampler.close(path);
                    both.push((done.tokens.iter().map(|t| t.token).collect::<Vec<_>>(), done.stop));
                }
                assert_eq!(both[0], both[1], "{plays:?} {n_prompt} {n_turn} {seed}");
                if n_prompt == 250 && both[0].0.len() == 4 {
                    assert!(matches!(both[0].1, SampleStop::ContextFull | SampleStop::StopToken));
                }
            }
        }
    }
}

/// That every sampled token has the log-probability that the engine gives it where it stands.
fn check_logprobs(trees: &[aepo::rollout::tree::RolloutTree]) {
    use aepo::policy::Learner as _;
    use aepo::train::batch::{Target, TreeBatch};
    let mut engine = engine();
    for tree in trees {
        for leaf in &tree.leaves {
            let (mut tokens, mut told) = (Vec::new(), Vec::new());
            for id in tree.path_to(leaf.node) {
                let kind = &tree.nodes[id.0 as usize].kind;
                let at = |(i, t): (usize, &aepo::policy::SampledToken)| (tokens.len() + i, t.logprob);
                told.extend(kind.sampled().iter().enumerate().map(at));
                tokens.extend(kind.ids());
            }
            let mut batch = TreeBatch::default();
            batch.push_segment(None, &tokens);
            let target = |&(at, _): &(usize, f32)| Target { from_idx: at as u32 - 1, token: tokens[at] };
            batch.targets = told.iter().map(target).collect();
            let stats = engine.forward(&batch, 1.0, false).unwrap();
            for (a, b) in stats.logprobs.iter().zip(&told) {
                assert!((a - b.1).abs() < 1e-5, "{a} {b:?}");
            }
        }
    }
}
