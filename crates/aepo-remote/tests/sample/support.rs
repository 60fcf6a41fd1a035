//! What do these tests share? A small model, servers of it, a world that answers at once, and trees held side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aepo::config::lora::LoraTargets;
use aepo::policy::polled::Polled;
use aepo::policy::{PolicyVersion, SampleParams, Sampler};
use aepo::prompt::{Action, Malformation, PromptError};
use aepo::rollout::branch::BranchRule;
use aepo::rollout::budget::BudgetRule;
use aepo::rollout::drive::{DriveSettings, DriveTask, Limits, Protocol, drive};
use aepo::rollout::tree::{NodeKind, RolloutTree};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::tool::{ToolCall, ToolName, ToolOutcome, ToolResult, ToolSpec, Toolset};
use aepo_engine::Engine;
use aepo_engine::checkpoint::ADAPTER_CONFIG;
use aepo_engine::config::ModelConfig;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use aepo_engine::weights::Weights;
use aepo_remote::fakes::{Fake, FakeSettings, MakeEngine, Mode, Plays};
use aepo_remote::sample::{RemoteSampler, SampleEngine, SampleSettings};

pub const VOCAB: usize = 48;
pub const BOTH: [Plays; 2] = [Plays::Vllm, Plays::Sglang];

/// Ids that end a turn: two calls and an answer.
const CALLS: [u32; 2] = [1, 2];
const ANSWER: u32 = 3;

pub fn config() -> ModelConfig {
    let text = format!(
        r#"{{"model_type":"qwen3","vocab_size":{VOCAB},"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,
        "num_attention_heads":2,"num_key_value_heads":1,"head_dim":8,"max_position_embeddings":256,
        "tie_word_embeddings":false}}"#
    );
    ModelConfig::from_json(&text).unwrap()
}

/// Weights large enough that tokens differ in their probability.
pub fn params() -> Vec<f32> {
    let n = Engine::random(config(), Seed(1), 1).unwrap().n_parameters();
    (0..n).map(|i| 0.9 * (2.0 * Seed(3).uniform(i as u64) - 1.0) as f32).collect()
}

pub fn engine() -> Engine {
    Engine::new(config(), params(), 1).unwrap()
}

/// An engine that trains LoRA's matrices on the same weights.
pub fn lora_engine() -> Engine {
    let spec = LoraSpec { rank: 2, alpha: 4.0, targets: LoraTargets::all() };
    let setup = Setup { train: Train::Lora(spec), seed: Seed(5), ..Setup::full(1) };
    Engine::with(config(), Weights::full(params()), &setup).unwrap()
}

/// What servers make of a directory.
fn made(dir: Option<&Path>) -> Result<Engine, String> {
    match dir {
        None => Ok(engine()),
        Some(dir) if dir.join(ADAPTER_CONFIG).exists() => {
            let mut engine = lora_engine();
            engine.load_adapter(dir).map_err(|e| e.to_string())?;
            Ok(engine)
        }
        Some(dir) => Engine::load(dir, 1).map_err(|e| e.to_string()),
    }
}

/// Ids as texts: a few of them spell `</a>` together.
pub fn pieces() -> Arc<[Box<[u8]>]> {
    let piece = |id: usize| match id {
        10..=19 => "<".to_owned(),
        20..=27 => "/a".to_owned(),
        28..=35 => ">".to_owned(),
        36..=39 => "a>".to_owned(),
        40 => "</a>!".to_owned(),
        _ => format!("w{id} "),
    };
    (0..VOCAB).map(|id| piece(id).into_bytes().into_boxed_slice()).collect::<Vec<_>>().into()
}

pub fn fake(plays: Plays) -> Fake {
    fake_with(plays, Mode::Scaled, pieces())
}

pub fn fake_with(plays: Plays, mode: Mode, pieces: Arc<[Box<[u8]>]>) -> Fake {
    let make: MakeEngine = Arc::new(made);
    Fake::start(FakeSettings { plays, make, pieces, mode }).unwrap()
}

pub fn settings(plays: Plays, fakes: &[&Fake]) -> SampleSettings {
    SampleSettings {
        engine: match plays {
            Plays::Vllm => SampleEngine::Vllm,
            Plays::Sglang => SampleEngine::Sglang,
        },
        urls: fakes.iter().map(|fake| fake.url.clone()).collect(),
        model: None,
        key: None,
        n_top: VOCAB,
        vocab_size: VOCAB,
        context_len: 256,
        deadline: Duration::from_secs(60),
        try_within: Duration::from_secs(30),
        max_in_flight: 64,
        version: PolicyVersion(0),
    }
}

pub fn connect(plays: Plays, fakes: &[&Fake]) -> RemoteSampler {
    RemoteSampler::connect(settings(plays, fakes)).unwrap()
}

pub fn draws() -> SampleParams {
    SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: true }
}

pub fn aepo() -> DriveSettings {
    DriveSettings {
        k: 6,
        budget: BudgetRule::Entropy { beta: 0.5 },
        branch: BranchRule::Entropy { alpha: 0.5, gamma: 0.2, tau: 0.4, penalty_slope: 0.05 },
        entropy_tokens: 3,
        branch_width: 1,
        limits: Limits {
            n_calls: 3,
            n_equal_calls: 0,
            n_python: 0,
            n_search: 0,
            response_tokens: 120,
            turn_tokens: 24,
            result_tokens: 18,
        },
        params: draws(),
        max_live_paths: 1000,
    }
}

pub fn tasks(n: u64) -> Vec<DriveTask> {
    // Prompts differ from their beginning and are longer than a block of the servers' caches.
    let prompt = |i: u64| (0..40).map(|j| 5 + ((i + 1) * (j + 3) * 7 % 43) as u32).collect();
    (0..n).map(|i| DriveTask { prompt: prompt(i), seed: Seed(77).child(i) }).collect()
}

/// Ends turns at ids.
pub fn by_ids() -> Arc<Stop> {
    Stop::at(&[CALLS[0], CALLS[1], ANSWER])
}

/// Ends turns at a text over several tokens, and at an id.
pub fn by_texts() -> Arc<Stop> {
    Arc::new(Stop { ids: vec![ANSWER], texts: vec!["</a>".to_owned()], pieces: pieces() })
}

/// Grows trees with tools that answer at once.
pub fn grow(policy: &mut dyn Sampler, stop: &Arc<Stop>, tasks: &[DriveTask], settings: &DriveSettings) -> Trees {
    let render = |text: &str, n: usize| -> Result<Vec<u32>, PromptError> {
        Ok(text.bytes().map(|b| 5 + u32::from(b) % 43).take(n).collect())
    };
    let parse = |turn: &[u32]| match turn.last() {
        Some(&ANSWER) => Action::Answer(format!("{turn:?}")),
        Some(_) if stop.ends(turn) => Action::Call { tool: ToolName::SEARCH, input: format!("{turn:?}") },
        _ => Action::Malformed(Malformation::NoAction),
    };
    let protocol = Protocol { stop: Arc::clone(stop), parse: &parse, render_result: &render };
    drive(policy, &mut Echo::default(), &protocol, tasks, settings, &mut |_| {})
}

pub type Trees = Result<Vec<RolloutTree>, aepo::rollout::drive::RolloutError>;

#[derive(Default)]
struct Echo {
    held: Vec<ToolCall>,
}

impl Toolset for Echo {
    fn tools(&self) -> &[ToolSpec] {
        &[]
    }
    fn submit(&mut self, call: ToolCall) {
        self.held.push(call);
    }
    fn poll(&mut self, _block: bool) -> Vec<ToolResult> {
        let answer = |call: ToolCall| {
            let text = format!("{}{}", call.seed.0, call.input);
            ToolResult { id: call.id, outcome: ToolOutcome::Ok, text, wall_secs: 0.0 }
        };
        self.held.drain(..).map(answer).collect()
    }
}

/// That the same was sampled: every token, log-probabilities within `logprob`, entropies within `entropy`, every
/// decision, every leaf.
#[track_caller]
pub fn assert_same(found: &[RolloutTree], expected: &[RolloutTree], logprob: f32, entropy: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.leaves, expected.leaves);
        assert_eq!(found.budget, expected.budget);
        assert_eq!(found.nodes.len(), expected.nodes.len());
        let outcomes = |tree: &RolloutTree| -> Vec<_> {
            tree.decisions.iter().map(|d| (d.time, d.path.clone(), d.n_calls, d.outcome)).collect()
        };
        assert_eq!(outcomes(found), outcomes(expected));
        for (a, b) in found.nodes.iter().zip(&expected.nodes) {
            assert_eq!((a.parent, a.kind.ids()), (b.parent, b.kind.ids()));
            for (a, b) in a.kind.sampled().iter().zip(b.kind.sampled()) {
                assert!((a.logprob - b.logprob).abs() <= logprob, "{a:?} {b:?}");
                assert!((a.entropy - b.entropy).abs() <= entropy, "{a:?} {b:?}");
                assert!((a.top_entropy - b.top_entropy).abs() <= 1e-5, "{a:?} {b:?}");
            }
        }
    }
}

/// Turns, and tokens in them, by the versions that sampled them.
pub fn versions(trees: &[RolloutTree]) -> BTreeMap<u64, usize> {
    let mut n_tokens = BTreeMap::new();
    for node in trees.iter().flat_map(|tree| &tree.nodes) {
        let NodeKind::Sampled { tokens, version, changes } = &node.kind else { continue };
        let mut at = (0, *version);
        for change in changes {
            *n_tokens.entry(at.1.0).or_insert(0) += change.from_idx as usize - at.0;
            at = (change.from_idx as usize, change.version);
        }
        *n_tokens.entry(at.1.0).or_insert(0) += tokens.len() - at.0;
    }
    n_tokens
}

/// Requests that the driver makes for these trees in this process; each comes back once.
pub fn n_requests(stop: &Arc<Stop>, tasks: &[DriveTask], settings: &DriveSettings) -> u64 {
    let mut n = 0;
    let poll = |engine: &mut Engine| {
        let done = engine.poll()?;
        n += done.len() as u64;
        Ok(done)
    };
    grow(&mut Polled { policy: &mut engine(), poll }, stop, tasks, settings).unwrap();
    n
}
