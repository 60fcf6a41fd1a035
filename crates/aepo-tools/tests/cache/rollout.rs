//! Does a rollout grow the same trees from its cache, whatever the tools would say now?

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aepo::policy::{
    Completion, Learner, PathId, PolicyError, PolicyVersion, SampleParams, SampleRequest, SampleStop, SampledToken,
    Sampler, StepParams, StepReport, TokenStats,
};
use aepo::prompt::{Action, Malformation};
use aepo::rollout::branch::BranchRule;
use aepo::rollout::budget::BudgetRule;
use aepo::rollout::drive::{DriveSettings, DriveTask, Limits, Protocol, drive};
use aepo::rollout::tree::{NodeKind, RolloutTree};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::tool::{ToolName, ToolOutcome, ToolSpec, Toolset as _};
use aepo::train::batch::TreeBatch;
use aepo_tools::cache::Mode;
use aepo_tools::toolset::{Answer, Basis};
use aepo_tools::{Tools, ToolsSettings};

use crate::{Say, offer, settings, silent};

const PYTHON: u32 = 1;
const SEARCH: u32 = 2;
const ANSWER: u32 = 3;
const VOCAB: u32 = 12;

/// A model without weights: each token follows from the one before and a draw.
#[derive(Default)]
struct Scripted {
    paths: HashMap<PathId, Vec<u32>>,
    queue: Vec<SampleRequest>,
    next: u64,
}

impl Scripted {
    fn path(&mut self, tokens: Vec<u32>) -> PathId {
        self.next += 1;
        self.paths.insert(PathId(self.next), tokens);
        PathId(self.next)
    }
}

impl Sampler for Scripted {
    fn vocab_size(&self) -> usize {
        VOCAB as usize
    }
    fn context_len(&self) -> usize {
        400
    }
    fn version(&self) -> PolicyVersion {
        PolicyVersion(0)
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        Ok(self.path(tokens.to_vec()))
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.paths.get_mut(&path).ok_or(PolicyError::UnknownPath(path))?.extend(tokens);
        Ok(())
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let tokens = self.paths[&path][..n_tokens].to_vec();
        Ok(self.path(tokens))
    }
    fn close(&mut self, path: PathId) {
        self.paths.remove(&path);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        self.queue.push(request);
        Ok(())
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let mut done = Vec::new();
        for request in std::mem::take(&mut self.queue) {
            let path = self.paths.get_mut(&request.path).ok_or(PolicyError::UnknownPath(request.path))?;
            let (mut tokens, mut stop) = (Vec::new(), SampleStop::MaxTokens);
            for i in 0..request.max_tokens as u64 {
                let last = path[path.len() - 1];
                let token = (request.seed.child(u64::from(last)).uniform(i) * f64::from(VOCAB)) as u32;
                // Only so that forks have something to follow.
                let entropy = 0.1 + f32::from(last as u8) / 4.0;
                tokens.push(SampledToken { token, logprob: -1.0, entropy, top_entropy: 0.0 });
                path.push(token);
                if request.stop.ends(&path[path.len() - tokens.len() - request.n_turn..]) {
                    stop = SampleStop::StopToken;
                    break;
                }
            }
            done.push(Completion { path: request.path, tokens, stop, version: PolicyVersion(0), changes: Vec::new() });
        }
        Ok(done)
    }
}

impl Learner for Scripted {
    fn forward(&mut self, _: &TreeBatch, _: f32, _: bool) -> Result<TokenStats, PolicyError> {
        Err(PolicyError::Misuse("it only samples".to_owned()))
    }
    fn backward(&mut self, _: &TreeBatch, _: &[f32], _: &[f32]) -> Result<(), PolicyError> {
        Err(PolicyError::Misuse("it only samples".to_owned()))
    }
    fn step(&mut self, _: &StepParams) -> Result<StepReport, PolicyError> {
        Err(PolicyError::Misuse("it only samples".to_owned()))
    }
    fn save(&mut self, _: &Path, _: bool) -> Result<(), PolicyError> {
        Err(PolicyError::Misuse("it only samples".to_owned()))
    }
}

fn parse(turn: &[u32]) -> Action {
    // Few different inputs, so that paths ask the same.
    let text = format!("{}", turn.len() % 4);
    match turn.last() {
        Some(&PYTHON) => Action::Call { tool: ToolName::PYTHON, input: text },
        Some(&SEARCH) => Action::Call { tool: ToolName::SEARCH, input: text },
        Some(&ANSWER) => Action::Answer(text),
        _ => Action::Malformed(Malformation::NoAction),
    }
}

fn trees(tools: &mut Tools) -> Vec<RolloutTree> {
    let render = |text: &str, max: usize| Ok(text.bytes().map(|b| 4 + u32::from(b) % 8).take(max).collect());
    let protocol = Protocol { stop: Stop::at(&[PYTHON, SEARCH, ANSWER]), parse: &parse, render_result: &render };
    let settings = DriveSettings {
        k: 8,
        budget: BudgetRule::Entropy { beta: 0.5 },
        branch: BranchRule::Entropy { alpha: 0.5, gamma: 0.2, tau: 0.5, penalty_slope: 0.05 },
        entropy_tokens: 3,
        branch_width: 1,
        limits: Limits {
            n_calls: 5,
            response_tokens: 200,
            turn_tokens: 30,
            result_tokens: 12,
            n_equal_calls: 0,
            n_python: 0,
            n_search: 0,
        },
        params: SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false },
        max_live_paths: 1000,
    };
    let tasks: Vec<DriveTask> =
        (0..6).map(|i| DriveTask { prompt: vec![0, 5 + i], seed: Seed(3).child(u64::from(i)) }).collect();
    let trees = drive(&mut Scripted::default(), tools, &protocol, &tasks, &settings, &mut |_| {});
    trees.unwrap_or_else(|e| panic!("{e}"))
}

/// The trees without the time that calls took, and how many calls there were.
fn repeatable(mut trees: Vec<RolloutTree>) -> (Vec<RolloutTree>, usize) {
    let mut n_calls = 0;
    for node in trees.iter_mut().flat_map(|tree| &mut tree.nodes) {
        if let NodeKind::Context { call: Some(call), .. } = &mut node.kind {
            call.wall_secs = 0.0;
            n_calls += 1;
        }
    }
    (trees, n_calls)
}

/// The number makes every answer another one.
const CHANGING: Say = |call, n| match n % 5 {
    4 => Answer { outcome: ToolOutcome::Raised, text: format!("no {n}") },
    _ => Answer::ok(format!("{} {} {n}", call.input, call.seed.0 % 1000)),
};

fn tools(cache: Option<(&PathBuf, Mode)>, say: Say) -> Tools {
    let (python, _) = offer(&ToolSpec::python(), Basis::Session, say);
    let (search, _) = offer(&ToolSpec::search(), Basis::Input, say);
    let cache = cache.map(|(path, mode)| settings(path, mode));
    Tools::of(vec![python, search], &ToolsSettings { cache, ..ToolsSettings::default() }).unwrap()
}

#[test]
fn a_rollout_is_repeated_from_its_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.redb");
    let mut recording = tools(Some((&path, Mode::Record)), CHANGING);
    let (first, n_calls) = repeatable(trees(&mut recording));
    let search = recording.stats()[&ToolName::SEARCH].clone();
    assert!(n_calls > 50 && search.n_hits > 0, "{n_calls} calls, {search:?}");
    drop(recording);
    for say in [silent as Say, CHANGING] {
        let mut replaying = tools(Some((&path, Mode::Replay)), say);
        let (again, n_again) = repeatable(trees(&mut replaying));
        assert_eq!(n_again, n_calls);
        assert!(again == first, "the trees are others");
        assert!(replaying.stats().values().all(|stats| stats.n_hits == stats.n_calls && stats.n_made == 0));
    }
    // Recorded on, nothing new is asked either.
    let mut recording = tools(Some((&path, Mode::Record)), CHANGING);
    assert!(repeatable(trees(&mut recording)).0 == first);
    drop(recording);
    // The test would see a difference: without the cache the same tools give other trees each time.
    assert!(repeatable(trees(&mut tools(None, CHANGING))).0 != first);
    assert_eq!(tools(None, CHANGING).tools(), ToolSpec::python_and_search());
}
