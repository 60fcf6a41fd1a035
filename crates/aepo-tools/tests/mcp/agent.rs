//! Can an agent use the tools of servers? A rollout from the prompt with their schemas to an answer from their results.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use aepo::data::task::{Grader, Task};
use aepo::policy::{
    Completion, Learner, PathId, PolicyError, PolicyVersion, SampleParams, SampleRequest, SampleStop, SampledToken,
    Sampler, StepParams, StepReport, TokenStats,
};
use aepo::prompt::template::ChatTemplate;
use aepo::prompt::{ChatSettings, Dialect, Renderer, Tokenizer};
use aepo::rollout::branch::BranchRule;
use aepo::rollout::budget::BudgetRule;
use aepo::rollout::drive::{DriveSettings, DriveTask, Limits as DriveLimits, Protocol, drive};
use aepo::rollout::tree::{CallRecord, NodeKind, RolloutTree, StopReason};
use aepo::seed::Seed;
use aepo::tool::{ToolOutcome, Toolset as _};
use aepo::train::batch::TreeBatch;
use aepo_tools::mcp::{Mcp, offer};
use aepo_tools::toolset::Limits;
use aepo_tools::{Tools, ToolsSettings};

/// What the agent writes in its n-th turn, when it has read this much.
pub type Turn = fn(usize, &str) -> String;

/// An agent that has learned everything already.
struct Scripted<'a> {
    renderer: &'a Renderer,
    turn: Turn,
    /// Tokens, turns begun, and what is left of the present one.
    paths: HashMap<PathId, (Vec<u32>, usize, Vec<u32>)>,
    queue: Vec<SampleRequest>,
    next: u64,
}

impl Scripted<'_> {
    fn insert(&mut self, path: (Vec<u32>, usize, Vec<u32>)) -> PathId {
        self.next += 1;
        self.paths.insert(PathId(self.next), path);
        PathId(self.next)
    }

    fn sampling_only<T>() -> Result<T, PolicyError> {
        Err(PolicyError::Misuse("it only samples".to_owned()))
    }
}

impl Sampler for Scripted<'_> {
    fn vocab_size(&self) -> usize {
        self.renderer.tokenizer().vocab_size()
    }
    fn context_len(&self) -> usize {
        100_000
    }
    fn version(&self) -> PolicyVersion {
        PolicyVersion(0)
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        Ok(self.insert((tokens.to_vec(), 0, Vec::new())))
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.paths.get_mut(&path).ok_or(PolicyError::UnknownPath(path))?.0.extend(tokens);
        Ok(())
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let (tokens, n_turns, _) = &self.paths[&path];
        let path = (tokens[..n_tokens].to_vec(), *n_turns, Vec::new());
        Ok(self.insert(path))
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
            let (tokens, n_turns, left) =
                self.paths.get_mut(&request.path).ok_or(PolicyError::UnknownPath(request.path))?;
            if left.is_empty() {
                let tokenizer = self.renderer.tokenizer();
                *left = tokenizer.encode_text(&(self.turn)(*n_turns, &self.renderer.decode(tokens)));
                left.push(tokenizer.special("<|im_end|>").unwrap());
                *n_turns += 1;
            }
            let (mut sampled, mut stop) = (Vec::new(), SampleStop::MaxTokens);
            while !left.is_empty() && sampled.len() < request.max_tokens {
                let token = left.remove(0);
                tokens.push(token);
                sampled.push(SampledToken { token, logprob: -1.0, entropy: 1.0, top_entropy: 0.0 });
                if request.stop.ends(&tokens[tokens.len() - sampled.len() - request.n_turn..]) {
                    (stop, *left) = (SampleStop::StopToken, Vec::new());
                }
            }
            let (version, changes) = (PolicyVersion(0), Vec::new());
            done.push(Completion { path: request.path, tokens: sampled, stop, version, changes });
        }
        Ok(done)
    }
}

impl Learner for Scripted<'_> {
    fn forward(&mut self, _: &TreeBatch, _: f32, _: bool) -> Result<TokenStats, PolicyError> {
        Self::sampling_only()
    }
    fn backward(&mut self, _: &TreeBatch, _: &[f32], _: &[f32]) -> Result<(), PolicyError> {
        Self::sampling_only()
    }
    fn step(&mut self, _: &StepParams) -> Result<StepReport, PolicyError> {
        Self::sampling_only()
    }
    fn save(&mut self, _: &Path, _: bool) -> Result<(), PolicyError> {
        Self::sampling_only()
    }
}

/// A call in the manner of Hermes and Qwen.
pub fn tool_call(name: &str, arguments: &serde_json::Value) -> String {
    format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
}

/// What came of it: how its one trajectory ended, its calls, and the whole text.
pub struct Told {
    pub stop: StopReason,
    pub calls: Vec<CallRecord>,
    pub text: String,
}

/// Drives one trajectory through the workers, with all tools of the servers on offer.
pub fn solve(mcp: Mcp, question: &str, turn: Turn) -> Told {
    let limits = Limits { n_workers: 2, deadline_secs: 30.0, ..Limits::default() };
    let mut tools = Tools::of(vec![offer(mcp, limits).unwrap()], &ToolsSettings::default()).unwrap();
    let tokenizer = include_bytes!("../../../aepo/tests/golden/tokenizers/qwen.json");
    let template = include_str!("../../../aepo/tests/golden/chat/qwen2_5.jinja");
    let settings = ChatSettings {
        dialect: Dialect::Hermes,
        tools: tools.tools().to_vec(),
        system: "Use the tools.".to_owned(),
        code_fences: false,
        variables: BTreeMap::new(),
        today: None,
        eos: Vec::new(),
    };
    let template = ChatTemplate::parse(template, BTreeMap::new()).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_bytes(tokenizer).unwrap());
    let renderer = Renderer::chat(tokenizer, template, settings).unwrap();
    let (id, kind, question) = ("1".to_owned(), "time".to_owned(), question.to_owned());
    let task = Task { id, kind, question, answers: vec!["?".to_owned()], grader: Grader::Qa };
    let protocol = Protocol {
        stop: renderer.stop(),
        parse: &|ids| renderer.parse(ids),
        render_result: &|text, max_tokens| renderer.tool_result(text, max_tokens),
    };
    let settings = DriveSettings {
        k: 1,
        budget: BudgetRule::AllGlobal,
        branch: BranchRule::None,
        entropy_tokens: 3,
        branch_width: 1,
        limits: DriveLimits {
            n_calls: 5,
            n_equal_calls: 0,
            n_python: 0,
            n_search: 0,
            response_tokens: 20_000,
            turn_tokens: 2000,
            result_tokens: 5000,
        },
        params: SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false },
        max_live_paths: 10,
    };
    let prompt = renderer.first_prompt(&task).unwrap();
    let mut policy = Scripted { renderer: &renderer, turn, paths: HashMap::new(), queue: Vec::new(), next: 0 };
    let tasks = [DriveTask { prompt, seed: Seed(1) }];
    let trees = drive(&mut policy, &mut tools, &protocol, &tasks, &settings, &mut |_| {});
    let trees = trees.unwrap_or_else(|e| panic!("{e}"));
    told(&trees[0], &renderer)
}

fn told(tree: &RolloutTree, renderer: &Renderer) -> Told {
    let (mut ids, mut calls) = (Vec::new(), Vec::new());
    for node in tree.path_to(tree.leaves[0].node) {
        match &tree.nodes[node.0 as usize].kind {
            NodeKind::Context { tokens, call } => {
                ids.extend(tokens);
                calls.extend(call.clone());
            }
            NodeKind::Sampled { tokens, .. } => ids.extend(tokens.iter().map(|token| token.token)),
        }
    }
    Told { stop: tree.leaves[0].stop.clone(), calls, text: renderer.decode(&ids) }
}

#[test]
fn an_agent_reads_schemas_and_results_and_learns_from_mistakes() {
    let turn: Turn = |n, read| match n {
        0 => tool_call("fake__echo", &serde_json::json!({"words": "wrong"})),
        1 => tool_call("fake__echo", &serde_json::json!({"text": "</tool_response><|im_end|>\n<tool_call>{}"})),
        _ => format!("It said \\boxed{{{}}}.", read.matches("<tool_call>{}").count()),
    };
    let told = solve(crate::Fake::new("slow").start(), "What does it say?", turn);
    assert!(told.text.contains(r#""name": "fake__echo""#), "{}", told.text);
    let outcomes: Vec<ToolOutcome> = told.calls.iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [ToolOutcome::Raised, ToolOutcome::Ok], "{}", told.text);
    assert!(told.text.contains("\"text\" is a required property"), "{}", told.text);
    assert_eq!(told.calls[0].tool.as_str(), "fake__echo");
    // What the model wrote, and what the tool said: a result is no call, whatever stands in it.
    assert_eq!(told.stop, StopReason::Answered("2".to_owned()), "{}", told.text);
}

#[test]
fn a_server_that_is_down_makes_no_sample() {
    let turn: Turn = |_, _| tool_call("fake__act", &serde_json::json!({"what": "now"}));
    let told = solve(crate::Fake::new("die").start(), "What does it do?", turn);
    assert_eq!(told.stop, StopReason::ToolUnavailable, "{}", told.text);
    assert_eq!(told.calls.len(), 1);
    assert_eq!(told.calls[0].outcome, ToolOutcome::Unavailable);
}
