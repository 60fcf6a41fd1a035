//! How are paths sampled by servers, and which commands can do that?

use std::time::Duration;

use aepo::config::Config;
use aepo::config::served::Samples;
use aepo::policy::PolicyVersion;
use aepo_remote::sample::{Key, RemoteSampler, SampleEngine, SampleSettings};
use anyhow::Context as _;

use crate::error::usage;

/// An error where a recipe has servers sample for a command that cannot have them.
pub fn refuse(config: &Config) -> anyhow::Result<()> {
    match engine(config) {
        None => Ok(()),
        Some(_) => {
            let message = "this command samples in this program alone, not by the servers of policy.sample.urls";
            Err(usage(
                message.to_owned(),
                "`aepo train` and `aepo rollout` can ask servers; here, leave policy.sample.engine at \"embedded\"",
            ))
        }
    }
}

/// What serves the paths; `None` where this program samples.
pub fn engine(config: &Config) -> Option<SampleEngine> {
    match config.policy_sample.engine {
        Samples::Embedded => None,
        Samples::Vllm => Some(SampleEngine::Vllm),
        Samples::Sglang => Some(SampleEngine::Sglang),
    }
}

/// Connects to the servers that the recipe names. `version` says which weights they have.
pub fn connect(
    engine: SampleEngine,
    config: &Config,
    vocab_size: usize,
    context_len: usize,
    version: PolicyVersion,
) -> anyhow::Result<RemoteSampler> {
    connect_to(&config.policy_sample.urls, engine, config, vocab_size, context_len, version)
}

/// The same with other servers than the recipe's.
pub fn connect_to(
    urls: &[String],
    engine: SampleEngine,
    config: &Config,
    vocab_size: usize,
    context_len: usize,
    version: PolicyVersion,
) -> anyhow::Result<RemoteSampler> {
    let s = &config.policy_sample;
    let key = |name: &String| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.ok_or_else(|| usage(format!("policy.sample.key_env is {name}, which is not set"), ""))
    };
    let key = s.key_env.as_ref().map(key).transpose()?.map(Key);
    let secs = |secs: f64| Duration::from_secs_f64(secs);
    let sampler = RemoteSampler::connect(SampleSettings {
        engine,
        urls: urls.to_vec(),
        model: s.model.clone(),
        key,
        n_top: s.top_logprobs,
        vocab_size,
        context_len,
        deadline: secs(s.deadline_secs),
        try_within: secs(s.try_secs),
        max_in_flight: s.max_in_flight,
        version,
    });
    sampler.with_context(|| format!("sampling by {}", urls.join(", ")))
}

/// What the servers did, for a reader.
pub fn told(sampler: &mut RemoteSampler) -> String {
    let t = sampler.take_tally();
    let mut text = format!("{} requests", t.n_completions);
    if t.n_failed_tries > 0 {
        text += &format!(", {} tries failed", t.n_failed_tries);
    }
    if t.n_prompt_tokens > 0 {
        text += &format!(", {} of {} tokens of their prompts were cached there", t.n_cached_tokens, t.n_prompt_tokens);
    }
    text + &format!("; entropies are known to within {:.4} nats", 0.5 * t.widest_gap)
}
