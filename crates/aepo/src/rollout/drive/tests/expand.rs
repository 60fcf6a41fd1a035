//! Are the turns expanded that the rules choose, from where they say, and is everything closed behind it?

use std::collections::BTreeSet;

use super::{aepo, grow, model, tasks, trees};
use crate::policy::{Completion, Learner, PolicyError, SampleStop, Sampler};
use crate::rollout::branch::BranchRule;
use crate::rollout::budget::BudgetRule;
use crate::rollout::drive::DriveSettings;
use crate::rollout::expand::{expansion_score, turn_entropy};
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::{NodeKind, PathKey, RolloutTree};
use crate::seed::Seed;
use crate::testing::{ANSWER, CALL_PYTHON, ShuffledTools, TablePolicy, VOCAB};

pub(super) fn evenly() -> DriveSettings {
    DriveSettings {
        budget: BudgetRule::Fixed { initial_rollouts: 3 },
        branch: BranchRule::ExpandEvenly { per_round: 1 },
        k: 10,
        ..aepo()
    }
}

pub(super) fn ranked() -> DriveSettings {
    DriveSettings { branch: BranchRule::ExpandBest { per_round: 2, penalty: 0.05 }, ..evenly() }
}

fn key(numbers: &[u32]) -> PathKey {
    PathKey(numbers.to_vec())
}

/// The path's turns, and which of them were followed by a tool result and a further turn.
fn turns(path: &Trajectory<'_>) -> Vec<(Vec<crate::policy::SampledToken>, bool)> {
    let kinds: Vec<&NodeKind> = path.kinds().collect();
    let is_turn = |i: usize| kinds.get(i).is_some_and(|k| !k.sampled().is_empty());
    (0..kinds.len()).filter(|&i| is_turn(i)).map(|i| (kinds[i].sampled().to_vec(), is_turn(i + 2))).collect()
}

fn path<'a>(tree: &'a RolloutTree, key: &PathKey) -> Trajectory<'a> {
    Trajectory::new(tree, tree.leaves.iter().find(|l| l.key == *key).unwrap())
}

/// What a tree was before a round: the paths it had.
fn before(tree: &RolloutTree, round: u32) -> Vec<PathKey> {
    let later: BTreeSet<&PathKey> = tree.expansions.iter().filter(|e| e.round >= round).map(|e| &e.child).collect();
    tree.leaves.iter().map(|l| l.key.clone()).filter(|k| !later.contains(k)).collect()
}

/// `(path, number of the turn)` of all turns that could be expanded among `paths`, each at the path that sampled it.
fn candidates(tree: &RolloutTree, paths: &[PathKey]) -> Vec<(PathKey, u32)> {
    let of = |k: &PathKey| {
        let first = if k.0.len() > 1 { k.0[k.0.len() - 2] } else { 0 };
        let ok = turns(&path(tree, k)).into_iter().enumerate().filter(|(i, (_, ok))| *i as u32 >= first && *ok);
        ok.map(|(i, _)| (k.clone(), i as u32 + 1)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn finished_trees_grow_to_exactly_k_leaves_and_close_every_path() {
    let mut n_again = 0;
    for settings in [evenly(), ranked(), DriveSettings { k: 11, ..ranked() }] {
        for seed in 0..15 {
            for tree in trees(&settings, seed) {
                assert_eq!(tree.leaves.len(), settings.k);
                assert_eq!(tree.leaves.iter().map(|l| &l.key).collect::<BTreeSet<_>>().len(), settings.k);
                assert_eq!((tree.budget.n_global, tree.decisions.len()), (3, 0));
                let children: BTreeSet<_> = tree.expansions.iter().map(|e| &e.child).collect();
                assert_eq!(children.len(), tree.expansions.len());
                n_again += children.iter().filter(|k| k.0.len() > 3).count();
            }
        }
    }
    assert!(n_again > 20, "paths that were expanded into must be expanded themselves, saw {n_again}");
}

#[test]
fn a_round_draws_from_each_root_sample_what_can_be_expanded_there() {
    let (mut n, mut roots) = (0, BTreeSet::new());
    for tree in trees(&evenly(), 5) {
        for e in &tree.expansions {
            n += 1;
            roots.insert(e.path.0[0]);
            let all = candidates(&tree, &before(&tree, e.round));
            let below: Vec<_> = all.into_iter().filter(|(k, _)| k.0[0] == e.path.0[0]).collect();
            assert!(below.contains(&(e.path.clone(), e.turn)), "{e:?}");
            assert_eq!((e.n_candidates, e.score), (below.len(), None));
            // The new path starts behind the turn's result.
            assert_eq!(e.child.0[..e.child.0.len() - 2], e.path.0[..]);
            assert_eq!(e.child.0[e.child.0.len() - 2], e.turn);
            let (parent, child) = (path(&tree, &e.path), path(&tree, &e.child));
            let shared = parent.nodes.iter().zip(&child.nodes).take_while(|(a, b)| a == b).count();
            assert_eq!(shared, 1 + 2 * e.turn as usize, "prompt, and so many turns with results");
            assert_eq!(e.entropy, turn_entropy(&turns(&parent)[e.turn as usize - 1].0));
        }
        for round in 1.. {
            let Some(_) = tree.expansions.iter().find(|e| e.round == round) else { break };
            let of_round: Vec<u32> = tree.expansions.iter().filter(|e| e.round == round).map(|e| e.path.0[0]).collect();
            let open: BTreeSet<u32> =
                candidates(&tree, &before(&tree, round)).into_iter().map(|(k, _)| k.0[0]).collect();
            let n_free = 10 - before(&tree, round).len();
            assert_eq!(of_round, open.into_iter().take(n_free).collect::<Vec<_>>(), "one of each, in order");
        }
    }
    assert!(n > 15 && roots.len() == 3, "{n} {roots:?}");
}

#[test]
fn the_best_turns_are_sampled_anew() {
    let (mut n, mut of_roots, mut penalised) = (0, 0, 0);
    for tree in [5, 6, 7].into_iter().flat_map(|seed| trees(&ranked(), seed)) {
        let rounds = tree.expansions.last().map_or(0, |e| e.round);
        for round in 1..=rounds {
            let paths = before(&tree, round);
            // Each state by the tokens that led to it; how many turns were sampled from it.
            let state = |k: &PathKey, turn: u32| -> Vec<u32> {
                let p = path(&tree, k);
                p.kinds().take(2 * turn as usize - 1).flat_map(NodeKind::ids).collect()
            };
            let nodes: BTreeSet<(Vec<u32>, u32)> = paths
                .iter()
                .flat_map(|k| {
                    let p = path(&tree, k);
                    let turns: Vec<usize> = (1..p.nodes.len())
                        .filter(|&i| !p.tree.nodes[p.nodes[i].0 as usize].kind.sampled().is_empty())
                        .collect();
                    turns.into_iter().map(|i| (state(k, i.div_ceil(2) as u32), p.nodes[i].0)).collect::<Vec<_>>()
                })
                .collect();
            let score = |(k, turn): &(PathKey, u32)| {
                let at = state(k, *turn);
                let n_siblings = nodes.iter().filter(|(s, _)| *s == at).count() - 1;
                let entropy = turn_entropy(&turns(&path(&tree, k))[*turn as usize - 1].0);
                (expansion_score(entropy, 0.05, n_siblings), n_siblings)
            };
            let all = candidates(&tree, &paths);
            let mut expected: Vec<((f64, usize), (PathKey, u32))> = all.iter().map(|c| (score(c), c.clone())).collect();
            expected.sort_by(|a, b| b.0.0.total_cmp(&a.0.0).then_with(|| a.1.cmp(&b.1)));
            expected.truncate(2.min(10 - paths.len()));
            let seen: Vec<_> = tree
                .expansions
                .iter()
                .filter(|e| e.round == round)
                .map(|e| ((e.score.unwrap(), e.n_siblings), (e.path.clone(), e.turn)))
                .collect();
            assert_eq!(seen, expected);
            for e in tree.expansions.iter().filter(|e| e.round == round) {
                n += 1;
                assert_eq!(e.n_candidates, all.len());
                penalised += usize::from(e.n_siblings > 0);
                let (old, new) = (path(&tree, &e.path), path(&tree, &e.child));
                let shared = old.nodes.iter().zip(&new.nodes).take_while(|(a, b)| a == b).count();
                assert_eq!(shared, 2 * e.turn as usize - 1, "everything before the turn, and not the turn");
                of_roots += usize::from(e.child.0.len() == 1);
            }
        }
    }
    assert!(n > 30 && of_roots > 0 && of_roots < n && penalised > 0, "{n} {of_roots} {penalised}");
}

#[test]
fn without_a_tool_call_the_rest_starts_at_the_root_at_once() {
    let mut policy = model();
    for row in &mut policy.logits {
        row[ANSWER as usize] = 50.0;
    }
    for settings in [evenly(), ranked()] {
        policy.n_queued.clear();
        let tree = grow(&mut policy, &mut ShuffledTools::new(Seed(1)), &tasks(1, 1), &settings, &mut |_| {}).unwrap();
        assert_eq!(policy.n_queued, [3, 7]);
        assert!(tree[0].expansions.is_empty());
    }
}

#[test]
fn a_script_shows_which_turn_is_taken() {
    // Every path: one call, then an answer. One root sample, so the only turn is taken again and again.
    let mut policy = TablePolicy::new(VOCAB, 120, Seed(2));
    for (row, logits) in policy.logits.iter_mut().enumerate() {
        logits.iter_mut().for_each(|l| *l = 0.0);
        // Results hold the ids from 5 on, and so does the prompt's end.
        logits[if row == 7 { CALL_PYTHON } else { ANSWER } as usize] = 60.0;
    }
    let prompt = crate::rollout::drive::DriveTask { prompt: vec![0, 7], seed: Seed(4) };
    let one = DriveSettings { k: 4, budget: BudgetRule::Fixed { initial_rollouts: 1 }, entropy_tokens: 1, ..evenly() };
    let mut tools = ShuffledTools::new(Seed(1));
    let protocol = crate::rollout::drive::Protocol {
        stop: crate::testing::stop(),
        parse: &crate::testing::parse,
        render_result: &|_, _| Ok(vec![5, 6]),
    };
    let mut drive = |settings: &DriveSettings| {
        let tasks = std::slice::from_ref(&prompt);
        crate::rollout::drive::drive(&mut policy, &mut tools, &protocol, tasks, settings, &mut |_| {})
            .unwrap()
            .remove(0)
    };
    let tree = drive(&one);
    let keys: Vec<_> = tree.leaves.iter().map(|l| l.key.clone()).collect();
    assert_eq!(keys, [key(&[0]), key(&[0, 1, 0]), key(&[0, 1, 1]), key(&[0, 1, 2])]);
    assert_eq!(
        tree.expansions.iter().map(|e| (e.round, e.turn, e.n_siblings)).collect::<Vec<_>>(),
        [(1, 1, 0), (2, 1, 0), (3, 1, 0)]
    );
    // Sampled anew, the first turn is one from the root; each makes the next rank lower by the penalty.
    let tree = drive(&DriveSettings { branch: BranchRule::ExpandBest { per_round: 1, penalty: 0.5 }, ..one });
    let keys: Vec<_> = tree.leaves.iter().map(|l| l.key.clone()).collect();
    assert_eq!(keys, [key(&[0]), key(&[1]), key(&[2]), key(&[3])]);
    let scores: Vec<f64> = tree.expansions.iter().map(|e| e.score.unwrap()).collect();
    for (score, expected) in scores.iter().zip([0.0, -0.5, -1.0]) {
        assert!((score - expected).abs() < 1e-6, "{scores:?}");
    }
}

/// Counts open paths, and fails a fork after so many.
struct Watched {
    inner: TablePolicy,
    max_open: usize,
    forks_left: usize,
}

impl Sampler for Watched {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.inner.context_len()
    }
    fn version(&self) -> crate::policy::PolicyVersion {
        self.inner.version()
    }
    fn open(&mut self, tokens: &[u32]) -> Result<crate::policy::PathId, PolicyError> {
        self.inner.open(tokens)
    }
    fn append(&mut self, path: crate::policy::PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.inner.append(path, tokens)
    }
    fn fork(&mut self, path: crate::policy::PathId, n: usize) -> Result<crate::policy::PathId, PolicyError> {
        self.forks_left = self.forks_left.checked_sub(1).ok_or(PolicyError::Misuse("no more forks".into()))?;
        let id = self.inner.fork(path, n);
        self.max_open = self.max_open.max(self.inner.n_open());
        id
    }
    fn close(&mut self, path: crate::policy::PathId) {
        self.inner.close(path);
    }
    fn submit(&mut self, request: crate::policy::SampleRequest) -> Result<(), PolicyError> {
        self.inner.submit(request)
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let done = self.inner.poll()?;
        assert!(done.iter().all(|c| c.stop != SampleStop::ContextFull || !c.tokens.is_empty()));
        Ok(done)
    }
}

impl Learner for Watched {
    fn forward(
        &mut self,
        batch: &crate::train::batch::TreeBatch,
        t: f32,
        keep: bool,
    ) -> Result<crate::policy::TokenStats, PolicyError> {
        self.inner.forward(batch, t, keep)
    }
    fn backward(
        &mut self,
        batch: &crate::train::batch::TreeBatch,
        dlogp: &[f32],
        dentropy: &[f32],
    ) -> Result<(), PolicyError> {
        self.inner.backward(batch, dlogp, dentropy)
    }
    fn step(&mut self, params: &crate::policy::StepParams) -> Result<crate::policy::StepReport, PolicyError> {
        self.inner.step(params)
    }
    fn save(&mut self, dir: &std::path::Path, optimizer: bool) -> Result<(), PolicyError> {
        self.inner.save(dir, optimizer)
    }
}

#[test]
fn open_paths_are_bounded_by_the_trees_that_grow_and_an_error_closes_them_all() {
    let protocol = crate::rollout::drive::Protocol {
        stop: crate::testing::stop(),
        parse: &crate::testing::parse,
        render_result: &crate::testing::render_result,
    };
    for settings in [evenly(), ranked()] {
        let settings = DriveSettings { max_live_paths: 20, ..settings };
        let mut policy = Watched { inner: model(), max_open: 0, forks_left: usize::MAX };
        let mut tools = ShuffledTools::new(Seed(1));
        let drive = crate::rollout::drive::drive;
        drive(&mut policy, &mut tools, &protocol, &tasks(12, 3), &settings, &mut |_| {}).unwrap();
        assert_eq!(policy.inner.n_open(), 0);
        // Two trees at once, each with its leaves and its prompt.
        assert!(policy.max_open <= 2 * (10 + 1), "{} open", policy.max_open);
        for forks_left in [1, 4, 9, 17, 33] {
            let mut policy = Watched { inner: model(), max_open: 0, forks_left };
            let mut tools = ShuffledTools::new(Seed(1));
            assert!(drive(&mut policy, &mut tools, &protocol, &tasks(12, 3), &settings, &mut |_| {}).is_err());
            assert_eq!(policy.inner.n_open(), 0, "after {forks_left} forks");
        }
    }
}
