//! Does a run fit this machine, and how long will it take? Estimates from shapes and settings, before anything starts.

use aepo::config::{Config, Settings, Stored, TrainEngine};
use aepo::prompt::Protocol;
use aepo_engine::config::ModelConfig;
use aepo_engine::layout::Layout;
use aepo_engine::memory::{Estimate, Plan, Reference, estimate};
use aepo_engine::setup::{Setup, Train};
use aepo_tools::hub::What;

use crate::machine::{self, Free};
use crate::progress::Teller;
use crate::source::{self, Named};
use crate::table::bytes;

/// What a run does with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Reinforcement learning.
    Train,
    /// The cold start.
    Sft,
}

/// Memory that a run takes: where trajectories are a quarter as long as they may be and the paths of a tree have one
/// prompt, and where all are as long and share nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need {
    /// At least.
    pub low: Estimate,
    /// At most.
    pub high: Estimate,
    /// The program itself and its tools, bytes.
    pub besides: u64,
}

/// Of the longest trajectories, this share is what the low estimate counts.
const SHORT: usize = 4;
/// The program with its vocabulary, facts and search index, and one running interpreter, bytes.
const PROGRAM: u64 = 150 << 20;
const INTERPRETER: u64 = 30 << 20;

impl Need {
    /// Bytes at least.
    pub fn least(&self) -> u64 {
        self.low.total() + self.besides
    }

    /// Bytes at most.
    pub fn most(&self) -> u64 {
        self.high.total() + self.besides
    }
}

/// Tokens that stand before a question's trajectories: the system prompt with its tools, and the question.
fn prompt_tokens(settings: &Settings) -> usize {
    match settings.prompt.protocol {
        Protocol::Tags => 32,
        _ => 256,
    }
}

/// Tokens of a trajectory, the prompt included, and of a tree, each where responses have `response` tokens.
fn lengths(settings: &Settings, shape: &ModelConfig, response: usize) -> (usize, usize) {
    let prompt = prompt_tokens(settings);
    let path = (prompt + response).min(shape.max_position_embeddings);
    (path, prompt + settings.rollout.k * path.saturating_sub(prompt))
}

/// What a job takes of memory with a model of this shape.
pub fn need(settings: &Settings, needs_reference: bool, shape: &ModelConfig, job: Job) -> Need {
    let setup = Setup::of(settings, settings.train.threads);
    let n_workers = if settings.tools.n_workers == 0 { machine::n_cores() } else { settings.tools.n_workers };
    let plan = |response: usize, shares: bool| {
        let (path, tree) = lengths(settings, shape, response);
        // A tree's paths have one prompt among them; how much more they share is not known before they fork.
        let prompt = if shares { prompt_tokens(settings).div_ceil(settings.rollout.k) } else { 0 };
        let path_tokens = if shares { prompt + path.saturating_sub(prompt_tokens(settings)) } else { path };
        let t = &settings.train;
        let of_training = match settings.policy_train.engine {
            TrainEngine::Embedded => t.max_batch_tokens.max(tree).min(t.tasks_per_step * tree),
            // Batches go through a server; only a reference policy reads them here.
            TrainEngine::Tinker if needs_reference => t.max_batch_tokens.max(tree).min(t.tasks_per_step * tree),
            TrainEngine::Tinker => 1,
        };
        let n_paths = (t.tasks_per_step * settings.rollout.k).max(settings.eval.n_tasks * settings.eval.samples);
        let reference = match (needs_reference, &setup.train) {
            (false, _) => Reference::None,
            (true, Train::Lora(_)) => Reference::Shared,
            (true, _) => Reference::Own,
        };
        match job {
            Job::Train => Plan {
                setup: setup.clone(),
                pass_tokens: of_training,
                path_tokens,
                live_paths: settings.rollout.max_live_paths.max(settings.rollout.k).min(n_paths),
                reference,
            },
            Job::Sft => Plan {
                setup: setup.clone(),
                pass_tokens: settings.sft.max_batch_tokens.min(settings.sft.batch_tokens),
                path_tokens: shape.max_position_embeddings.min(settings.sft.max_batch_tokens),
                live_paths: 0,
                reference: Reference::None,
            },
        }
    };
    let most = settings.rollout.max_response_tokens;
    let besides = PROGRAM + if job == Job::Train { n_workers as u64 * INTERPRETER } else { 0 };
    Need { low: estimate(shape, &plan(most.div_ceil(SHORT), true)), high: estimate(shape, &plan(most, false)), besides }
}

/// Fails where a run cannot fit this machine, or its model is not what the recipe expects, before weights are read or
/// fetched.
pub fn before_weights(
    config: &Config,
    named: &Named,
    job: Job,
    offline: bool,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    let (place, _) = source::bring(named, What::Facts, offline, teller)?;
    let shape = source::shape(&place)?;
    if job == Job::Train {
        source::check_expected(config, &shape)?;
    }
    match machine::free_memory() {
        Some(free) => require(config, config.rules().needs_reference(), &shape, job, free),
        // A system that does not say how much memory it has will say when there is too little.
        None => Ok(()),
    }
}

/// Fails where a run cannot fit, and says what would.
pub fn require(
    settings: &Settings,
    needs_reference: bool,
    shape: &ModelConfig,
    job: Job,
    free: Free,
) -> anyhow::Result<()> {
    let need = need(settings, needs_reference, shape, job);
    if need.least() <= free.bytes {
        return Ok(());
    }
    let mut text = format!(
        "this run does not fit this machine: it takes {} of memory at least, and {} are free ({})",
        bytes(need.least()),
        bytes(free.bytes),
        free.by,
    );
    for (change, settings) in changes(settings, job) {
        let other = self::need(&settings, needs_reference, shape, job).least();
        if other < need.least() {
            let fits = if other <= free.bytes { ": it fits" } else { "" };
            text += &format!("\n  with {change} {}{fits}", bytes(other));
        }
    }
    anyhow::bail!(text)
}

/// Settings that take less memory, each and together.
fn changes(settings: &Settings, job: Job) -> Vec<(String, Settings)> {
    type Change = (&'static str, fn(&mut Settings));
    let lora: Change = ("lora.rank = 16 and model.frozen = \"bf16\"", |s| {
        s.lora.rank = 16;
        s.model.frozen = Stored::Bf16;
    });
    let recompute: Change = ("train.recompute = true", |s| s.train.recompute = true);
    let passes: Change = match job {
        Job::Train => {
            ("train.max_batch_tokens = 2048", |s| s.train.max_batch_tokens = s.train.max_batch_tokens.min(2048))
        }
        Job::Sft => ("sft.max_batch_tokens = 2048", |s| s.sft.max_batch_tokens = s.sft.max_batch_tokens.min(2048)),
    };
    let paths: Change =
        ("rollout.max_live_paths = 16", |s| s.rollout.max_live_paths = s.rollout.max_live_paths.min(16));
    let of_job = [lora, recompute, passes, paths];
    let with = |change: fn(&mut Settings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        settings
    };
    let mut all: Vec<(String, Settings)> =
        of_job.iter().map(|(name, change)| ((*name).to_owned(), with(*change))).collect();
    let mut together = settings.clone();
    of_job.iter().for_each(|(_, change)| change(&mut together));
    all.push(("all of these".to_owned(), together));
    all
}

/// The lines that tell of memory.
pub fn memory_lines(need: &Need, free: Free) -> Vec<String> {
    let e = &need.high;
    let parts = [
        ("weights", e.weights),
        ("gradients", e.gradients),
        ("moments", e.moments),
        ("activations", e.activations),
        ("keys and values of live paths", e.kv_cache),
        ("head", e.head),
        ("sampling", e.decoding),
        ("packed weights", e.packed),
        ("scratch", e.scratch),
        ("the program and its tools", need.besides),
    ];
    let parts = parts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {}", bytes(*n)));
    vec![
        format!(
            "Memory: {} with trajectories a quarter as long as allowed, {} with all at their limit.",
            bytes(need.least()),
            bytes(need.most())
        ),
        format!("  {}", parts.collect::<Vec<_>>().join(", ")),
        format!("Free on this machine: {} ({}).", bytes(free.bytes), free.by),
    ]
}

/// Products per second, as multiplications and additions: of a few rows at once, as paths are sampled, and of many, as
/// batches are trained on.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// FLOP/s while sampling.
    pub few_rows: f64,
    /// FLOP/s of passes over batches.
    pub many_rows: f64,
}

/// Measures this machine, for half a second or so, with products like those of the model.
pub fn measure(settings: &Settings, shape: &ModelConfig) -> Speed {
    // A matrix of the largest models would take longer to make than to multiply with.
    let (inner, cols) = (shape.hidden_size.min(2048), shape.intermediate_size.min(4096));
    let n_paths = (settings.train.tasks_per_step * settings.rollout.k).min(settings.rollout.max_live_paths);
    let (threads, arithmetic) = (settings.train.threads.max(1), settings.model.arithmetic);
    let speed = |rows: usize| machine::product_speed(rows, inner, cols, threads, arithmetic);
    Speed { few_rows: speed(n_paths.clamp(1, 128)), many_rows: speed(512) }
}

/// Seconds of a run, from the shortest to the longest that is likely.
///
/// A token costs `2·W` operations, W being the weights that it is multiplied with (all but the embedding, the head
/// always), and `4·L·q·s/2` for attention over s tokens on average. A backward pass costs twice a forward pass, half of
/// that where weights are frozen under LoRA, and one forward pass more where blocks are computed again. What is no matrix
/// product is counted as none in the lower bound, and as half of the whole time in the upper.
pub fn seconds(settings: &Settings, needs_reference: bool, shape: &ModelConfig, job: Job, speed: Speed) -> [f64; 2] {
    let setup = Setup::of(settings, settings.train.threads);
    let backward = match setup.train {
        Train::Lora(_) => 1.0,
        Train::All | Train::Nothing => 2.0,
    } + if setup.recompute { 1.0 } else { 0.0 };
    let n_matrices = Layout::new(shape).n_parameters()
        - if shape.tie_word_embeddings { 0 } else { shape.vocab_size * shape.hidden_size };
    let per_token =
        |context: usize| 2.0 * n_matrices as f64 + 2.0 * (shape.num_hidden_layers * shape.q_dim() * context) as f64;
    let bound = |response: usize, slower: f64| {
        let (path, tree) = lengths(settings, shape, response);
        let forward = per_token(path);
        if job == Job::Sft {
            let rows = (settings.sft.tokens as f64) * per_token(settings.sft.batch_tokens.min(path));
            return slower * rows * (1.0 + backward) / speed.many_rows;
        }
        let t = &settings.train;
        let response = path.saturating_sub(prompt_tokens(settings)) as f64;
        let n_sampled = t.steps as f64 * (t.tasks_per_step * settings.rollout.k) as f64 * response;
        let n_trained = t.steps as f64 * (t.tasks_per_step * tree) as f64;
        let n_evals = 2 + t.steps.saturating_sub(1).checked_div(settings.eval.every).unwrap_or(0);
        let n_measured = (n_evals as usize * settings.eval.n_tasks * settings.eval.samples) as f64 * response;
        let n_forward = 1.0 + if needs_reference { 1.0 } else { 0.0 } + t.epochs as f64 * (1.0 + backward);
        slower * forward * ((n_sampled + n_measured) / speed.few_rows + n_trained * n_forward / speed.many_rows)
    };
    let most = settings.rollout.max_response_tokens;
    [bound(most.div_ceil(SHORT), 1.0), bound(most, 2.0)]
}

/// The line that tells of time.
pub fn time_line([low, high]: [f64; 2], speed: Speed) -> String {
    format!(
        "Time: {} to {}, an estimate from {:.0} and {:.0} GFLOP/s that this machine's matrix product was just measured at \
         (sampling, training).",
        duration(low),
        duration(high),
        speed.few_rows / 1e9,
        speed.many_rows / 1e9,
    )
}

/// A stretch of time in the largest unit of which there are two.
fn duration(secs: f64) -> String {
    let units = [(365.25 * 86_400.0, "years"), (86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")];
    match units.iter().find(|(unit, _)| secs >= 2.0 * unit) {
        Some((unit, name)) => format!("{:.0} {name}", secs / unit),
        None => format!("{secs:.0} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(hidden_size: usize, layers: usize) -> ModelConfig {
        let text = format!(
            r#"{{"model_type":"qwen3","vocab_size":32000,"hidden_size":{hidden_size},"intermediate_size":{},
            "num_hidden_layers":{layers},"num_attention_heads":8,"num_key_value_heads":2,"head_dim":64,
            "max_position_embeddings":4096,"tie_word_embeddings":true}}"#,
            4 * hidden_size
        );
        ModelConfig::from_json(&text).unwrap()
    }

    fn free(bytes: u64) -> Free {
        Free { bytes, by: "as this test says" }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let settings = Settings::default();
        let shape = shape(1024, 16);
        let need = need(&settings, false, &shape, Job::Train);
        assert!(need.least() < need.most());
        require(&settings, false, &shape, Job::Train, free(need.least())).unwrap();
        let refused = require(&settings, false, &shape, Job::Train, free(need.least() - 1)).unwrap_err().to_string();
        assert!(refused.starts_with("this run does not fit this machine: it takes "), "{refused}");
        assert!(refused.contains("\n  with train.recompute = true ") && refused.contains(": it fits"), "{refused}");
        let hopeless = require(&settings, false, &shape, Job::Sft, free(1)).unwrap_err().to_string();
        assert!(!hopeless.contains("it fits"), "{hopeless}");
    }

    #[test]
    fn a_reference_longer_paths_and_more_weights_take_more() {
        let settings = Settings::default();
        let least =
            |settings: &Settings, reference, shape: &ModelConfig| need(settings, reference, shape, Job::Train).least();
        let plain = least(&settings, false, &shape(256, 4));
        assert!(least(&settings, true, &shape(256, 4)) > plain);
        assert!(least(&settings, false, &shape(256, 8)) > plain);
        let mut longer = settings.clone();
        longer.rollout.max_response_tokens *= 2;
        assert!(least(&longer, false, &shape(256, 4)) > plain);
    }

    #[test]
    fn time_grows_with_steps_and_falls_with_speed() {
        let mut settings = Settings::default();
        let at = |settings: &Settings, rate: f64| {
            seconds(settings, false, &shape(256, 4), Job::Train, Speed { few_rows: rate, many_rows: rate })
        };
        let [low, high] = at(&settings, 1e9);
        assert!(low > 0.0 && high > low);
        let [half, _] = at(&settings, 2e9);
        assert!((half / low - 0.5).abs() < 1e-9);
        settings.train.steps *= 10;
        assert!(at(&settings, 1e9)[0] > 5.0 * low);
    }

    #[test]
    fn durations_have_a_unit_of_their_size() {
        let texts = [12.0, 300.0, 7300.0, 400_000.0, 1e9].map(duration);
        assert_eq!(texts, ["12 seconds", "5 minutes", "2 hours", "5 days", "32 years"]);
    }
}
