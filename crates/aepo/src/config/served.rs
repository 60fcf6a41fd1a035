//! Which programs can sample for a run? A closed set, what each is called, and which settings belong to which.

use toml::Value;

use super::Config;
use super::value::{Setting, TrainEngine};

/// What samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Samples {
    /// This program.
    #[default]
    Embedded,
    /// vLLM servers.
    Vllm,
    /// SGLang servers.
    Sglang,
}

impl Setting for Samples {
    const EXPECTED: &'static str = "\"embedded\", \"vllm\" or \"sglang\"";
    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "embedded" => Some(Samples::Embedded),
            "vllm" => Some(Samples::Vllm),
            "sglang" => Some(Samples::Sglang),
            _ => None,
        }
    }
    fn write(&self) -> Option<Value> {
        let name = match self {
            Samples::Embedded => "embedded",
            Samples::Vllm => "vllm",
            Samples::Sglang => "sglang",
        };
        Some(Value::String(name.to_owned()))
    }
}

/// Why nothing would read a key of where paths are sampled.
pub(super) fn no_effect(c: &Config, path: &str) -> Option<String> {
    match (c.policy_sample.engine, path) {
        (_, "policy.sample.engine") => None,
        (Samples::Embedded, "policy.sample.staleness") => (c.policy_train.engine == TrainEngine::Embedded)
            .then(|| "one program samples and learns, and takes turns".to_owned()),
        (Samples::Embedded, _) => Some("policy.sample.engine is \"embedded\", and no server is asked".to_owned()),
        (Samples::Sglang, "policy.sample.model") => {
            Some("an SGLang server has one model and no name for it".to_owned())
        }
        _ => None,
    }
}

/// What contradicts sampling on servers: the key to change, and to what.
pub(super) fn contradiction(c: &Config) -> Option<(&'static str, &'static str)> {
    let s = &c.policy_sample;
    if s.staleness > 0 && c.loss.is_cap.is_none() {
        return Some((
            "loss.is_cap",
            "set where policy.sample.staleness is above 0, for example 2: it corrects for sampling by older weights",
        ));
    }
    if s.engine == Samples::Embedded {
        return None;
    }
    let is_address = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    let wrong = [
        (
            s.urls.is_empty() || !s.urls.iter().all(is_address),
            "policy.sample.urls",
            "a list of addresses like \"http://127.0.0.1:8000\" where policy.sample.engine is not \"embedded\"",
        ),
        (
            (1..s.urls.len()).any(|i| s.urls[..i].contains(&s.urls[i])),
            "policy.sample.urls",
            "a list of different addresses",
        ),
        (s.try_secs > s.deadline_secs, "policy.sample.try_secs", "at most policy.sample.deadline_secs"),
    ];
    wrong.iter().find(|(wrong, ..)| *wrong).map(|(_, key, wanted)| (*key, *wanted))
}
