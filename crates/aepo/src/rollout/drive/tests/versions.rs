//! Does a turn say which weights sampled each of its tokens, over all the requests that it took?

use super::{aepo, grow, model, tasks};
use crate::policy::polled::Polled;
use crate::policy::{Completion, PolicyError, PolicyVersion, Sampler, VersionChange};
use crate::rollout::drive::{Protocol, drive};
use crate::rollout::tree::NodeKind;
use crate::seed::Seed;
use crate::testing::{ShuffledTools, TablePolicy, parse, render_result, stop};

#[test]
fn a_turn_says_where_the_weights_changed_within_it() {
    let tools = |seed| ShuffledTools::new(Seed(seed));
    let mut still = model();
    let expected = grow(&mut still, &mut tools(1), &tasks(2, 3), &aepo(), &mut |_| {}).unwrap();
    // The same weights under a new number at each poll.
    let mut policy = model();
    let mut policy = Polled { policy: &mut policy, poll: renumbered };
    let protocol = Protocol { stop: stop(), parse: &parse, render_result: &render_result };
    let trees = drive(&mut policy, &mut tools(1), &protocol, &tasks(2, 3), &aepo(), &mut |_| {}).unwrap();
    let mut n_mixed = 0;
    for (tree, expected) in trees.iter().zip(&expected) {
        assert_eq!(tree.nodes.len(), expected.nodes.len());
        for (node, plain) in tree.nodes.iter().zip(&expected.nodes) {
            let NodeKind::Sampled { tokens, version, changes } = &node.kind else { continue };
            assert_eq!(tokens, plain.kind.sampled());
            let NodeKind::Sampled { changes: none, .. } = &plain.kind else { panic!("another kind of node") };
            assert!(none.is_empty());
            n_mixed += usize::from(!changes.is_empty());
            // One token a poll and one number a poll, over all the requests of a turn.
            assert_eq!(changes.len(), tokens.len() - 1);
            let mut last = *version;
            for (i, change) in changes.iter().enumerate() {
                assert_eq!(change.from_idx as usize, i + 1);
                assert!(change.version > last, "{version:?} {changes:?}");
                last = change.version;
            }
        }
    }
    assert!(n_mixed > 0);
}

/// Says after every token that the weights are others now, though they are not.
fn renumbered(policy: &mut TablePolicy) -> Result<Vec<Completion>, PolicyError> {
    policy.version += 1;
    let mut done = policy.poll()?;
    for completion in &mut done {
        // Sampled at this poll and at those just before it, a token each.
        let n = completion.tokens.len() as u64;
        let at = |i: u64| PolicyVersion(policy.version + 1 + i - n);
        completion.version = at(0);
        completion.changes = (1..n).map(|i| VersionChange { from_idx: i as u32, version: at(i) }).collect();
    }
    Ok(done)
}
