//! Can this run as it says? Impossible values, contradictions, and settings that nothing would read.

use crate::algo::{BaselineName, ClipName, Forks};
use crate::prompt::Protocol;
use crate::train::loss::RatioScope;

use super::tools::{CacheMode, Offered, Sandbox};
use super::{Config, ConfigError, KEYS, Key, Source, remote, served, tasks};

/// What a number must satisfy.
enum Range {
    AtLeast(f64),
    Above(f64),
    Between(f64, f64),
    /// `[low, high)`.
    Below(f64, f64),
    /// `(low, high]`.
    UpTo(f64, f64),
}

/// The bounds of every number that has one beyond its type.
const RANGES: &[(&str, Range)] = &[
    ("model.shape.hidden_size", Range::AtLeast(1.0)),
    ("model.shape.intermediate_size", Range::AtLeast(1.0)),
    ("model.shape.n_layers", Range::AtLeast(1.0)),
    ("model.shape.n_heads", Range::AtLeast(1.0)),
    ("model.shape.n_kv_heads", Range::AtLeast(1.0)),
    ("model.shape.head_dim", Range::AtLeast(2.0)),
    ("model.shape.rope_theta", Range::Above(1.0)),
    ("model.shape.context_len", Range::AtLeast(2.0)),
    ("lora.alpha", Range::Above(0.0)),
    ("tasks.n_train", Range::AtLeast(1.0)),
    ("rollout.k", Range::AtLeast(2.0)),
    ("rollout.beta", Range::AtLeast(0.0)),
    ("rollout.initial_rollouts", Range::AtLeast(1.0)),
    ("rollout.tau", Range::Below(0.0, 1.0)),
    ("rollout.penalty_slope", Range::AtLeast(0.0)),
    ("rollout.entropy_tokens", Range::AtLeast(1.0)),
    ("rollout.branch_width", Range::AtLeast(1.0)),
    ("rollout.expand_per_round", Range::AtLeast(1.0)),
    ("rollout.expand_penalty", Range::AtLeast(0.0)),
    ("rollout.call_limit", Range::AtLeast(1.0)),
    ("rollout.temperature", Range::Above(0.0)),
    ("rollout.top_p", Range::UpTo(0.0, 1.0)),
    ("rollout.max_response_tokens", Range::AtLeast(1.0)),
    ("rollout.max_turn_tokens", Range::AtLeast(1.0)),
    ("rollout.max_result_tokens", Range::AtLeast(1.0)),
    ("rollout.max_live_paths", Range::AtLeast(1.0)),
    ("advantage.entropy_weight", Range::AtLeast(0.0)),
    ("gigpo.gamma", Range::Between(0.0, 1.0)),
    ("gigpo.omega", Range::AtLeast(0.0)),
    ("reward.overlong_share", Range::Between(0.0, 1.0)),
    ("loss.clip_low", Range::Between(0.0, 1.0)),
    ("loss.clip_high", Range::AtLeast(0.0)),
    ("loss.dual_clip", Range::Above(1.0)),
    ("loss.kl_coef", Range::AtLeast(0.0)),
    ("loss.entropy_coef", Range::AtLeast(0.0)),
    ("loss.is_cap", Range::Above(0.0)),
    ("train.steps", Range::AtLeast(1.0)),
    ("train.tasks_per_step", Range::AtLeast(1.0)),
    ("train.minibatches", Range::AtLeast(1.0)),
    ("train.epochs", Range::AtLeast(1.0)),
    ("train.learning_rate", Range::Above(0.0)),
    ("train.weight_decay", Range::AtLeast(0.0)),
    ("train.max_grad_norm", Range::Above(0.0)),
    ("train.beta1", Range::Below(0.0, 1.0)),
    ("train.beta2", Range::Below(0.0, 1.0)),
    ("train.eps", Range::Above(0.0)),
    ("train.max_unavailable", Range::Between(0.0, 1.0)),
    ("train.max_batch_tokens", Range::AtLeast(1.0)),
    ("policy.train.patience_secs", Range::UpTo(0.0, 86_400.0)),
    ("policy.sample.top_logprobs", Range::AtLeast(10.0)),
    ("policy.sample.deadline_secs", Range::UpTo(0.0, 86_400.0)),
    ("policy.sample.try_secs", Range::UpTo(0.0, 86_400.0)),
    ("policy.sample.max_in_flight", Range::AtLeast(1.0)),
    ("policy.sample.staleness", Range::Between(0.0, 64.0)),
    ("eval.n_tasks", Range::AtLeast(1.0)),
    ("eval.samples", Range::AtLeast(1.0)),
    ("eval.temperature", Range::Above(0.0)),
    ("eval.top_p", Range::UpTo(0.0, 1.0)),
    ("tools.python.wall_secs", Range::Above(0.0)),
    ("tools.python.cpu_secs", Range::AtLeast(1.0)),
    ("tools.python.memory_mb", Range::AtLeast(1.0)),
    ("tools.python.total_memory_mb", Range::AtLeast(1.0)),
    ("tools.python.max_processes", Range::AtLeast(1.0)),
    ("tools.python.max_output_bytes", Range::AtLeast(1.0)),
    ("tools.search.n_results", Range::AtLeast(1.0)),
    ("tools.search.max_chars", Range::AtLeast(1.0)),
    ("tools.search.timeout_secs", Range::UpTo(0.0, 86_400.0)),
    ("tools.search.per_second", Range::AtLeast(0.0)),
    ("tools.visit.max_chars", Range::AtLeast(1.0)),
    ("tools.visit.page_secs", Range::UpTo(0.0, 3600.0)),
    ("tools.visit.summary_secs", Range::UpTo(0.0, 3600.0)),
    ("tools.mcp.call_secs", Range::UpTo(0.0, 3600.0)),
    ("tools.faults.share", Range::Between(0.0, 1.0)),
    ("tools.faults.call_secs", Range::UpTo(0.0, 3600.0)),
    ("sft.tokens", Range::AtLeast(1.0)),
    ("sft.epochs", Range::AtLeast(1.0)),
    ("sft.max_row_tokens", Range::AtLeast(2.0)),
    ("sft.batch_tokens", Range::AtLeast(1.0)),
    ("sft.learning_rate", Range::Above(0.0)),
    ("sft.warmup_share", Range::Between(0.0, 1.0)),
    ("sft.weight_decay", Range::AtLeast(0.0)),
    ("sft.max_grad_norm", Range::Above(0.0)),
    ("sft.beta1", Range::Below(0.0, 1.0)),
    ("sft.beta2", Range::Below(0.0, 1.0)),
    ("sft.eps", Range::Above(0.0)),
    ("sft.max_batch_tokens", Range::AtLeast(1.0)),
    ("sft.copy_share", Range::AtLeast(0.0)),
    ("sft.lookup_share", Range::AtLeast(0.0)),
    ("sft.task_share", Range::AtLeast(0.0)),
    ("sft.curriculum", Range::UpTo(0.0, 1.0)),
    ("sft.kind_shares", Range::AtLeast(0.0)),
    ("sft.invented", Range::Between(0.0, 1.0)),
    ("sft.head_answer", Range::Between(0.0, 1.0)),
    ("sft.wrong_query", Range::Between(0.0, 1.0)),
    ("sft.head_math", Range::Between(0.0, 1.0)),
    ("sft.needless_call", Range::Between(0.0, 1.0)),
    ("sft.bad_format", Range::Between(0.0, 1.0)),
];

impl Range {
    fn holds(&self, x: f64) -> bool {
        match *self {
            Range::AtLeast(low) => x >= low,
            Range::Above(low) => x > low,
            Range::Between(low, high) => (low..=high).contains(&x),
            Range::Below(low, high) => (low..high).contains(&x),
            Range::UpTo(low, high) => x > low && x <= high,
        }
    }

    fn words(&self) -> String {
        match *self {
            Range::AtLeast(low) => format!("at least {low}"),
            Range::Above(low) => format!("above {low}"),
            Range::Between(low, high) => format!("between {low} and {high}"),
            Range::Below(low, high) => format!("at least {low} and below {high}"),
            Range::UpTo(low, high) => format!("above {low} and at most {high}"),
        }
    }
}

/// The first thing that is wrong with the values together.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    for key in KEYS {
        let path = key.path();
        let source = config.source(&path);
        let explicit = matches!(source, Source::Recipe { .. } | Source::Set);
        if explicit && let Some(why) = no_effect(config, key) {
            return Err(ConfigError::Ineffective { place: source, key: path, why });
        }
    }
    for (path, range) in RANGES {
        let numbers = numbers(config, path);
        if !numbers.iter().all(|&x| range.holds(x)) {
            return Err(out_of_range(config, path, range.words()));
        }
    }
    expectations(config)?;
    together(config)
}

/// `[model.expect]` says everything or nothing, and names a family that there is.
fn expectations(c: &Config) -> Result<(), ConfigError> {
    let mut keys = KEYS.iter().filter(|key| key.section == "model.expect").map(Key::path);
    let n_set = keys.clone().filter(|path| value(c, path).is_some()).count();
    if let Some(missing) = keys.find(|path| n_set > 0 && value(c, path).is_none()) {
        return Err(out_of_range(c, &missing, "set where another key of [model.expect] is".to_owned()));
    }
    match c.expect.family.as_deref() {
        None | Some("llama" | "qwen2" | "qwen3") => Ok(()),
        Some(_) => Err(out_of_range(c, "model.expect.family", "\"llama\", \"qwen2\" or \"qwen3\"".to_owned())),
    }
}

/// Values that are each possible but not together; the key named is the one to change.
fn together(c: &Config) -> Result<(), ConfigError> {
    let bundle = c.algorithm.name.bundle();
    let (r, t, s) = (&c.rollout, &c.train, &c.sft);
    let wrong: &[(bool, &str, String)] = &[
        (!s.kind_shares.iter().any(|&x| x > 0.0), "sft.kind_shares", "above 0 for one kind at least".into()),
        (
            (0..2).any(|i| s.copy_share[i] + s.lookup_share[i] + s.task_share[i] <= 0.0),
            "sft.task_share",
            "above 0 where copy_share and lookup_share are 0".into(),
        ),
        (
            s.source != "quickstart" && c.prompt.protocol == Protocol::Tags,
            "prompt.protocol",
            "\"aepo\", \"hermes\" or \"llama3\" where sft.source is a file: conversations need a chat template".into(),
        ),
        (
            bundle.branches() && !r.pre_monitor && r.initial_rollouts >= r.k,
            "rollout.initial_rollouts",
            format!("below rollout.k = {}, or no branch could ever start", r.k),
        ),
        (
            bundle.branches() && !bundle.expands() && r.branch_width >= r.k,
            "rollout.branch_width",
            format!("below rollout.k = {}: a tree has that many leaves in all", r.k),
        ),
        (
            c.loss.clip == ClipName::Cispo && c.loss.ratio != RatioScope::Token,
            "loss.ratio",
            "\"token\" with loss.clip = \"cispo\", which weighs each token's own log-probability".into(),
        ),
        (
            r.max_equal_calls >= r.call_limit,
            "rollout.max_equal_calls",
            format!("below rollout.call_limit = {}: no trajectory makes more calls", r.call_limit),
        ),
        (
            c.eval.python_calls >= r.call_limit,
            "eval.python_calls",
            format!("below rollout.call_limit = {}: no answer has more calls", r.call_limit),
        ),
        (
            c.eval.search_calls >= r.call_limit,
            "eval.search_calls",
            format!("below rollout.call_limit = {}: no answer has more calls", r.call_limit),
        ),
        (
            r.max_turn_tokens > r.max_response_tokens,
            "rollout.max_turn_tokens",
            format!("at most rollout.max_response_tokens = {}", r.max_response_tokens),
        ),
        (
            r.entropy_tokens > r.max_turn_tokens,
            "rollout.entropy_tokens",
            format!("at most rollout.max_turn_tokens = {}", r.max_turn_tokens),
        ),
        (
            t.tasks_per_step > c.tasks.n_train,
            "train.tasks_per_step",
            format!("at most tasks.n_train = {}", c.tasks.n_train),
        ),
        (
            t.minibatches > t.tasks_per_step,
            "train.minibatches",
            format!("at most train.tasks_per_step = {}: a task's group is never divided", t.tasks_per_step),
        ),
        (
            c.tools.offer.has(Offered::Mcp) && c.mcp.file.is_none(),
            "tools.mcp.file",
            "set where tools.offer has \"mcp\": the servers' commands and addresses are in it".into(),
        ),
        (
            c.visit.summary_endpoint.is_some() && c.visit.summary_model.is_none(),
            "tools.visit.summary_model",
            "set where tools.visit.summary_endpoint is: the name under which the server knows the model".into(),
        ),
        (
            c.tools.offer.has(Offered::Python)
                && c.python.backend == Sandbox::SandboxFusion
                && c.python.endpoint.is_none(),
            "tools.python.endpoint",
            "set where tools.python.backend is \"sandboxfusion\": the server's address".into(),
        ),
        (
            c.prompt.protocol == Protocol::Tags && [Offered::Visit, Offered::Mcp].iter().any(|&o| c.tools.offer.has(o)),
            "tools.offer",
            "of \"python\" and \"search\" where prompt.protocol is \"tags\", which has tokens for no other tools"
                .into(),
        ),
        (
            c.cache.mode != CacheMode::Off && c.cache.path.is_none(),
            "tools.cache.path",
            "set where tools.cache.mode is not \"off\"".into(),
        ),
        (t.warmup_steps > t.steps, "train.warmup_steps", format!("at most train.steps = {}", t.steps)),
        (
            !c.shape.n_heads.is_multiple_of(c.shape.n_kv_heads),
            "model.shape.n_kv_heads",
            format!("a divisor of model.shape.n_heads = {}", c.shape.n_heads),
        ),
        (!c.shape.head_dim.is_multiple_of(2), "model.shape.head_dim", "even".into()),
    ];
    match wrong.iter().find(|(wrong, ..)| *wrong) {
        Some((_, path, wanted)) => Err(out_of_range(c, path, wanted.clone())),
        None => match tasks::contradiction(c).or_else(|| remote::contradiction(c)).or_else(|| served::contradiction(c))
        {
            Some((path, wanted)) => Err(out_of_range(c, path, wanted.to_owned())),
            None => Ok(()),
        },
    }
}

/// Why nothing would read a key under the other settings; `None` when something does.
pub(super) fn no_effect(c: &Config, key: &Key) -> Option<String> {
    let bundle = c.algorithm.name.bundle();
    let name = bundle.name;
    let one_update = c.train.minibatches * c.train.epochs == 1;
    let drawn = matches!(bundle.forks, Forks::DrawnAepo | Forks::DrawnArpo);
    let scored = bundle.forks == Forks::Entropy;
    let (when, why) = match key.path().as_str() {
        "rollout.pre_monitor" if bundle.branches() => {
            (!bundle.pre_monitors, format!("{name} takes a fixed rollout.initial_rollouts"))
        }
        "rollout.beta" if bundle.forks == Forks::DrawnAepo => (true, format!("{name} has 0.5 built in")),
        "rollout.beta" if bundle.pre_monitors => (!c.rollout.pre_monitor, "rollout.pre_monitor is false".to_owned()),
        "rollout.beta" if bundle.branches() => (true, format!("{name} takes a fixed rollout.initial_rollouts")),
        "rollout.initial_rollouts" if bundle.branches() => {
            (c.rollout.pre_monitor, "rollout.pre_monitor divides rollout.k by entropies".to_owned())
        }
        "rollout.alpha" | "rollout.gamma" | "rollout.tau" | "rollout.penalty_slope" if drawn => {
            (true, format!("{name} forks by a draw with built-in constants"))
        }
        "rollout.alpha" | "rollout.gamma" | "rollout.tau" | "rollout.penalty_slope" if bundle.branches() && !scored => {
            (true, format!("{name} expands finished trees, by a rule of its own"))
        }
        "rollout.branch_width" if bundle.expands() => {
            (true, format!("{name} samples one path for each turn that it expands"))
        }
        "rollout.expand_per_round" if bundle.branches() => {
            (!bundle.expands(), format!("{name} forks while its trees grow and expands none later"))
        }
        "rollout.expand_penalty" if bundle.expands() => {
            (bundle.forks == Forks::Expansion, format!("{name} draws the turns that it expands, whatever they are"))
        }
        "rollout.expand_penalty" if bundle.branches() => {
            (true, format!("{name} forks while its trees grow and expands none later"))
        }
        "rollout.penalty_slope" if bundle.branches() => (!bundle.penalises, format!("{name} has no branch penalty")),
        "rollout.pre_monitor"
        | "rollout.beta"
        | "rollout.initial_rollouts"
        | "rollout.alpha"
        | "rollout.gamma"
        | "rollout.tau"
        | "rollout.penalty_slope"
        | "rollout.branch_width"
        | "rollout.expand_per_round"
        | "rollout.expand_penalty" => {
            (!bundle.branches(), format!("{name} starts every trajectory at the root and never forks"))
        }
        "advantage.shared" => (!bundle.branches(), format!("the trajectories of {name} share no tokens")),
        "gigpo.omega" => {
            (bundle.baseline != BaselineName::Anchors, format!("{name} does not compare turns with each other"))
        }
        "gigpo.gamma" if bundle.baseline == BaselineName::Anchors => {
            (c.gigpo.omega == 0.0, "gigpo.omega is 0".to_owned())
        }
        "gigpo.gamma" => (true, format!("{name} does not discount rewards")),
        "train.max_refills" => (!c.train.dynamic_sampling, "train.dynamic_sampling is false".to_owned()),
        "loss.dual_clip" if c.loss.clip == ClipName::Cispo => {
            (true, "cispo bounds the weight of every token already".to_owned())
        }
        "advantage.entropy_weight" => {
            (!bundle.entropy_advantage, format!("the advantage of {name} does not depend on entropies"))
        }
        // CISPO's term is another than PPO's where nothing is clipped, too.
        "loss.clip" if c.loss.clip == ClipName::Cispo => (false, String::new()),
        "loss.clip" | "loss.dual_clip" => (
            one_update,
            "with train.minibatches = 1 and train.epochs = 1 every ratio is 1 and nothing is ever clipped".to_owned(),
        ),
        "lora.alpha" | "lora.targets" => (c.lora.rank == 0, "lora.rank is 0: all weights are trained".to_owned()),
        "model.frozen" => (
            c.lora.rank == 0 && !c.rules().needs_reference(),
            "lora.rank is 0 and there is no reference policy: no weights are frozen".to_owned(),
        ),
        "prompt.system" | "prompt.code_fences" | "prompt.thinking" | "prompt.date" => (
            c.prompt.protocol == Protocol::Tags,
            "the quickstart's own tags (prompt.protocol) follow no chat template".to_owned(),
        ),
        path if path.starts_with("tasks.") => return tasks::no_effect(c, path),
        path if path.starts_with("policy.train.") => return remote::no_effect(c, path),
        path if path.starts_with("policy.sample.") => return served::no_effect(c, path),
        path if path.starts_with("tools.") => return no_effect_on_tools(c, path),
        path => return no_effect_on_cold_start(c, path),
    };
    when.then_some(why)
}

/// The same for what tools read.
fn no_effect_on_tools(c: &Config, path: &str) -> Option<String> {
    let sections = Offered::ALL.map(|offered| (offered, format!("tools.{}.", offered.name())));
    if let Some((offered, _)) = sections.iter().find(|(_, section)| path.starts_with(section))
        && !c.tools.offer.has(*offered)
    {
        return Some(format!("tools.offer has no \"{}\"", offered.name()));
    }
    let (when, why) = match path {
        "tools.python.min_level" => {
            (c.python.backend != Sandbox::Auto, "tools.python.backend names the sandbox itself")
        }
        "tools.search.timeout_secs" | "tools.search.per_second" => {
            (!over_network(&c.search.source), "tools.search.source is on this machine")
        }
        "tools.visit.summary_model" | "tools.visit.summary_key_env" | "tools.visit.summary_secs" => {
            (c.visit.summary_endpoint.is_none(), "tools.visit.summary_endpoint is not set")
        }
        "tools.python.endpoint" => {
            (c.python.backend != Sandbox::SandboxFusion, "tools.python.backend is not \"sandboxfusion\"")
        }
        "tools.python.interpreter"
        | "tools.python.cpu_secs"
        | "tools.python.total_memory_mb"
        | "tools.python.max_processes" => {
            (c.python.backend == Sandbox::SandboxFusion, "the SandboxFusion server decides on it")
        }
        "tools.cache.path" => (c.cache.mode == CacheMode::Off, "tools.cache.mode is \"off\""),
        "tools.cache.negative_secs" => (c.cache.mode != CacheMode::Record, "tools.cache.mode is not \"record\""),
        "tools.faults.call_secs" | "tools.faults.seed" => (c.faults.share == 0.0, "tools.faults.share is 0"),
        _ => (false, ""),
    };
    when.then(|| why.to_owned())
}

/// Whether a source of search results is asked over the network.
fn over_network(source: &str) -> bool {
    let lower = source.to_ascii_lowercase();
    let web = ["serper", "brave", "exa", "tavily", "brightdata"];
    lower.starts_with("http://") || lower.starts_with("https://") || web.contains(&source)
}

/// The same for what only a cold start reads.
fn no_effect_on_cold_start(c: &Config, path: &str) -> Option<String> {
    let generated = c.sft.source == "quickstart";
    let (when, why) = match path {
        "sft.epochs" => (generated, "the quickstart's demonstrations are generated, as many as sft.tokens says"),
        "sft.tokens" => (!generated, "sft.source is a file, and sft.epochs says how often it is learned"),
        "sft.copy_share" | "sft.lookup_share" | "sft.task_share" | "sft.curriculum" | "sft.kind_shares"
        | "sft.invented" | "sft.head_answer" | "sft.wrong_query" | "sft.head_math" | "sft.needless_call"
        | "sft.bad_format" => (!generated, "sft.source is a file, and nothing is generated"),
        "sft.eval_every" => (c.sft.holdout == 0, "sft.holdout is 0"),
        _ => (
            path.starts_with("model.shape.") && c.sft.init != "random",
            "sft.init names a model, which has a shape of its own",
        ),
    };
    when.then(|| why.to_owned())
}

fn numbers(config: &Config, path: &str) -> Vec<f64> {
    fn of(value: &toml::Value) -> Vec<f64> {
        match value {
            toml::Value::Integer(i) => vec![*i as f64],
            toml::Value::Float(f) => vec![*f],
            toml::Value::Array(items) => items.iter().flat_map(of).collect(),
            _ => Vec::new(),
        }
    }
    value(config, path).as_ref().map(of).unwrap_or_default()
}

fn value(config: &Config, path: &str) -> Option<toml::Value> {
    KEYS.iter().find(|key| key.path() == path).and_then(|key| config.settings.get(key))
}

fn out_of_range(config: &Config, path: &str, wanted: String) -> ConfigError {
    ConfigError::OutOfRange {
        place: config.source(path),
        key: path.to_owned(),
        found: value(config, path).map_or("not set".to_owned(), |v| v.to_string()),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_names_a_key_with_numbers() {
        for (path, _) in RANGES {
            assert!(KEYS.iter().any(|k| k.path() == *path), "{path}");
        }
    }
}
