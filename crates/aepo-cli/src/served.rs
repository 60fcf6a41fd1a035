//! How are paths sampled by servers, and which commands can do that?

use std::time::Duration;

use aepo::config::Config;
use aepo::config::served::Samples;
use aepo::policy::PolicyVersion;
use aepo::prompt::Renderer;
use aepo::tool::ToolSpec;
use aepo_remote::sample::{Key, RemoteSampler, SampleEngine, SampleSettings};
use anyhow::Context as _;

use crate::error::usage;
use crate::source::{self, Place};
use crate::world;

/// A served model with what makes text of its ids, which is read here.
pub struct Served {
    /// Paths at the servers.
    pub sampler: RemoteSampler,
    /// Prompts, and actions read back.
    pub renderer: Renderer,
}

/// An error where a recipe has servers sample for a command that cannot have them.
pub fn refuse(config: &Config) -> anyhow::Result<()> {
    match config.policy_sample.engine {
        Samples::Embedded => Ok(()),
        Samples::Vllm | Samples::Sglang => {
            let message = "this command samples in this program alone, not by the servers of policy.sample.urls";
            Err(usage(message.to_owned(), "`aepo rollout` can ask servers; else leave policy.sample.engine out"))
        }
    }
}

/// Connects to the servers that the recipe names; `None` where it names none. `place` is the model that they serve, of
/// which the weights are not read.
pub fn connect(place: &Place, config: &Config, tools: &[ToolSpec]) -> anyhow::Result<Option<Served>> {
    let s = &config.policy_sample;
    let engine = match s.engine {
        Samples::Embedded => return Ok(None),
        Samples::Vllm => SampleEngine::Vllm,
        Samples::Sglang => SampleEngine::Sglang,
    };
    let key = |name: &String| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.ok_or_else(|| usage(format!("policy.sample.key_env is {name}, which is not set"), ""))
    };
    let key = s.key_env.as_ref().map(key).transpose()?.map(Key);
    let facts = source::look(place)?;
    let vocab_size = facts.config.vocab_size;
    let tokenizer = world::tokenizer(&facts.label, &facts.files, vocab_size)?;
    let renderer = world::renderer(tokenizer, &facts.label, facts.chat, config, tools)?;
    let secs = |secs: f64| Duration::from_secs_f64(secs);
    let sampler = RemoteSampler::connect(SampleSettings {
        engine,
        urls: s.urls.clone(),
        model: s.model.clone(),
        key,
        n_top: s.top_logprobs,
        vocab_size,
        context_len: facts.config.max_position_embeddings,
        deadline: secs(s.deadline_secs),
        try_within: secs(s.try_secs),
        max_in_flight: s.max_in_flight,
        version: PolicyVersion(0),
    });
    let sampler = sampler.context("policy.sample.urls")?;
    Ok(Some(Served { sampler, renderer }))
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
