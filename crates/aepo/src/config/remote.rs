//! Can this run be trained elsewhere? What a server that speaks the Tinker protocol does not have.

use super::value::TrainEngine;
use super::{Config, lora::Projection};

/// The factor α that such servers give LoRA; the protocol has no field for it.
pub const ALPHA: f64 = 32.0;

/// Why nothing would read a key of where the model is trained.
pub(super) fn no_effect(c: &Config, path: &str) -> Option<String> {
    let here = c.policy_train.engine == TrainEngine::Embedded && path != "policy.train.engine";
    here.then(|| "policy.train.engine is \"embedded\", and no server is asked".to_owned())
}

/// What contradicts training on a server: the key to change, and to what.
pub(super) fn contradiction(c: &Config) -> Option<(&'static str, &'static str)> {
    if c.policy_train.engine == TrainEngine::Embedded {
        return None;
    }
    let (attention, mlp) = Projection::ALL.split_at(4);
    let halves = [attention, mlp].map(|half| half.iter().filter(|&&p| c.lora.targets.has(p)).count());
    let wrong = [
        (
            c.policy_train.url.is_none(),
            "policy.train.url",
            "set where policy.train.engine is \"tinker\": the server's address",
        ),
        (
            c.lora.rank == 0,
            "lora.rank",
            "at least 1 where policy.train.engine is \"tinker\": such servers train LoRA's matrices only",
        ),
        (c.lora.alpha != ALPHA, "lora.alpha", "32 where policy.train.engine is \"tinker\": such servers take no other"),
        (
            !matches!(halves, [0 | 4, 0 | 3]),
            "lora.targets",
            "\"all\", \"attention\" or \"mlp\" where policy.train.engine is \"tinker\": such servers take no other",
        ),
        (
            c.rollout.temperature != 1.0,
            "rollout.temperature",
            "1 where policy.train.engine is \"tinker\": such servers give log-probabilities at no other",
        ),
        (
            c.loss.entropy_coef != 0.0,
            "loss.entropy_coef",
            "0 where policy.train.engine is \"tinker\": such servers give no entropies",
        ),
    ];
    wrong.iter().find(|(wrong, ..)| *wrong).map(|(_, key, wanted)| (*key, *wanted))
}
