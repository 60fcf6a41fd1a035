//! Does a turn say which weights sampled each of its tokens, over all the requests that it took?

use super::{aepo, grow, model, tasks};
use crate::policy::{Completion, PathId, PolicyError, PolicyVersion, SampleRequest, Sampler, VersionChange};
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
    let mut policy = Renumbered { inner: model() };
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
struct Renumbered {
    inner: TablePolicy,
}

impl Sampler for Renumbered {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.inner.context_len()
    }
    fn version(&self) -> PolicyVersion {
        self.inner.version()
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        self.inner.open(tokens)
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.inner.append(path, tokens)
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        self.inner.fork(path, n_tokens)
    }
    fn close(&mut self, path: PathId) {
        self.inner.close(path);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        self.inner.submit(request)
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        self.inner.version += 1;
        let mut done = self.inner.poll()?;
        for completion in &mut done {
            // Sampled at this poll and at those just before it, a token each.
            let n = completion.tokens.len() as u64;
            let at = |i: u64| PolicyVersion(self.inner.version + 1 + i - n);
            completion.version = at(0);
            completion.changes = (1..n).map(|i| VersionChange { from_idx: i as u32, version: at(i) }).collect();
        }
        Ok(done)
    }
}
