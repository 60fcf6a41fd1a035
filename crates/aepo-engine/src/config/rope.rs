//! At which speed does each pair of a head turn with the position? RoPE's frequencies, as published and as stretched to
//! longer contexts.
//!
//! Every variant changes the frequencies `f_i`, `i < d/2`, of a head of width `d`; YaRN also scales queries and keys.
//! Angles do not depend on how long a sequence is, so a cached key stays right. The variants that do depend on it
//! (`dynamic`, `longrope`) are refused.

use std::f64::consts::TAU;

use super::ConfigError;

/// How the frequencies were changed after pre-training; keys are those of the Hugging Face `rope_scaling`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// `default`: not at all.
    #[default]
    Unscaled,
    /// `linear`: all slowed down alike.
    Linear {
        /// By how much.
        factor: f64,
    },
    /// `llama3`: slow pairs are slowed down further, fast ones stay.
    Llama3 {
        /// By how much the slow ones are slowed down.
        factor: f64,
        /// Pairs that turn fewer times than this over the original context are slow.
        low_freq_factor: f64,
        /// Pairs that turn more often than this over the original context are fast.
        high_freq_factor: f64,
        /// Context of pre-training, tokens.
        original_max_position_embeddings: usize,
    },
    /// `yarn`: as `llama3` in spirit, with a ramp over the pair's index, and larger scores.
    Yarn {
        /// By how much the slow ones are slowed down.
        factor: f64,
        /// Context of pre-training, tokens.
        original_max_position_embeddings: usize,
        /// Factor on queries and keys; follows from `factor` where absent.
        attention_factor: Option<f64>,
        /// Pairs that turn more often than this over the original context stay.
        beta_fast: f64,
        /// Pairs that turn fewer times than this are slowed down in full.
        beta_slow: f64,
        /// Enters the factor on queries and keys together with the next.
        mscale: Option<f64>,
        /// See `mscale`.
        mscale_all_dim: Option<f64>,
        /// Whether the ends of the ramp are rounded outwards to whole pairs.
        truncate: bool,
    },
}

/// What the rotation needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    /// `[head_dim / 2]`, radians a token.
    pub inv_freq: Vec<f64>,
    /// Factor on cosines and sines.
    pub amplitude: f64,
}

/// `f_i = base^(−2i/d)` (arXiv 2104.09864, §3.2.2), changed by the scaling.
#[must_use]
pub fn frequencies(scaling: &RopeScaling, base: f64, head_dim: usize) -> Frequencies {
    let half = head_dim / 2;
    let mut inv_freq: Vec<f64> = (0..half).map(|i| base.powf(-(i as f64) / half as f64)).collect();
    let mut amplitude = 1.0;
    match *scaling {
        RopeScaling::Unscaled => {}
        // Position interpolation (arXiv 2306.15595): position m is rotated as m / factor.
        RopeScaling::Linear { factor } => inv_freq.iter_mut().for_each(|f| *f /= factor),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let context = original_max_position_embeddings as f64;
            inv_freq.iter_mut().for_each(|f| *f = llama3(*f, factor, low_freq_factor, high_freq_factor, context));
        }
        RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            attention_factor,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            truncate,
        } => {
            let context = original_max_position_embeddings as f64;
            let (low, high) = yarn_ramp(beta_fast, beta_slow, base, head_dim, context, truncate);
            for (i, f) in inv_freq.iter_mut().enumerate() {
                // How much of the pair is interpolated: 0 for fast pairs, 1 for slow ones.
                let slow = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                *f = *f / factor * slow + *f * (1.0 - slow);
            }
            amplitude = attention_factor.unwrap_or_else(|| yarn_amplitude(factor, mscale, mscale_all_dim));
        }
    }
    Frequencies { inv_freq, amplitude }
}

/// Llama 3.1's scaling (`apply_scaling` of the model's released code; no paper has it): with `n = context · f / 2π`
/// turns over the original context, `f` stays for `n > high`, is divided by the factor for `n < low`, and in between
/// is `(1−s)·f/factor + s·f` with `s = (n − low)/(high − low)`.
fn llama3(f: f64, factor: f64, low: f64, high: f64, context: f64) -> f64 {
    let n_turns = context * f / TAU;
    if n_turns > high {
        f
    } else if n_turns < low {
        f / factor
    } else {
        let fast = (n_turns - low) / (high - low);
        (1.0 - fast) * f / factor + fast * f
    }
}

/// YaRN's "NTK-by-parts" (arXiv 2309.00071, §3.2), in the form of its released code: the pair that turns `β` times over
/// the original context has the index `d·ln(context / (2πβ)) / (2·ln base)`; between the indices of `β_fast` and
/// `β_slow` runs a straight ramp (the paper's runs over the number of turns instead).
fn yarn_ramp(fast: f64, slow: f64, base: f64, head_dim: usize, context: f64, truncate: bool) -> (f64, f64) {
    let d = head_dim as f64;
    let index_of = |n_turns: f64| d * (context / (n_turns * TAU)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (index_of(fast), index_of(slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, high) = (low.max(0.0), high.min(d - 1.0));
    // A ramp without length would divide by zero; the released code makes it a steep step.
    (low, if low == high { high + 0.001 } else { high })
}

/// YaRN's temperature (arXiv 2309.00071, §3.4): `√(1/t) = 0.1·ln factor + 1` on queries and on keys, so that scores
/// grow by its square. With both `mscale` keys (DeepSeek-V2's code) it is the ratio of two such terms.
fn yarn_amplitude(factor: f64, mscale: Option<f64>, mscale_all_dim: Option<f64>) -> f64 {
    let term = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    match (mscale, mscale_all_dim) {
        (Some(m), Some(all)) if m != 0.0 && all != 0.0 => term(m) / term(all),
        _ => term(1.0),
    }
}

impl RopeScaling {
    /// Checks that the numbers make sense; the error names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |key: &'static str, ok: bool, expected: &'static str, found: f64| match ok {
            true => Ok(()),
            false => Err(ConfigError::Wrong { key: key.into(), expected, found: found.to_string() }),
        };
        let factor_is_sound =
            |x: f64| check("rope_scaling.factor", (1.0..1e6).contains(&x), "a number of at least 1", x);
        let context_is_sound = |n: usize| {
            let key = "rope_scaling.original_max_position_embeddings";
            check(key, n > 0 && n <= super::MAX_DIM, "a number of tokens", n as f64)
        };
        match *self {
            RopeScaling::Unscaled => Ok(()),
            RopeScaling::Linear { factor } => factor_is_sound(factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                factor_is_sound(factor)?;
                context_is_sound(original_max_position_embeddings)?;
                let (low, high) = (low_freq_factor, high_freq_factor);
                check("rope_scaling.low_freq_factor", low > 0.0 && low.is_finite(), "a number above 0", low)?;
                let above = high > low && high.is_finite();
                check("rope_scaling.high_freq_factor", above, "a number above low_freq_factor", high)
            }
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                attention_factor,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
                truncate: _,
            } => {
                factor_is_sound(factor)?;
                context_is_sound(original_max_position_embeddings)?;
                check("rope_scaling.beta_slow", beta_slow > 0.0, "a number above 0", beta_slow)?;
                let above = beta_fast > beta_slow && beta_fast.is_finite();
                check("rope_scaling.beta_fast", above, "a number above beta_slow", beta_fast)?;
                for (key, x) in [
                    ("rope_scaling.attention_factor", attention_factor.unwrap_or(1.0)),
                    ("rope_scaling.mscale", mscale.unwrap_or(1.0) + 1.0),
                    ("rope_scaling.mscale_all_dim", mscale_all_dim.unwrap_or(1.0) + 1.0),
                ] {
                    check(key, x > 0.0 && x < 1e6, "a number that leaves the scores a positive factor", x)?;
                }
                Ok(())
            }
        }
    }

    /// The value of `rope_scaling` in a `config.json`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = match *self {
            RopeScaling::Unscaled => return serde_json::Value::Null,
            RopeScaling::Linear { factor } => serde_json::json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                serde_json::json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                })
            }
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                attention_factor,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
                truncate,
            } => serde_json::json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_max_position_embeddings,
                "attention_factor": attention_factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "mscale": mscale,
                "mscale_all_dim": mscale_all_dim,
                "truncate": truncate,
            }),
        };
        if let Some(map) = json.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by `transformers` 5.23.0, `ROPE_INIT_FUNCTIONS[kind](LlamaConfig(head_dim=16, rope_theta=10000.0, …))`,
    /// which computes in f32.
    #[test]
    fn frequencies_are_those_of_transformers() {
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        };
        let yarn = |beta_fast, beta_slow, mscale, mscale_all_dim, truncate| RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: 64,
            attention_factor: None,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            truncate,
        };
        for (scaling, expected, amplitude) in [
            (
                RopeScaling::Linear { factor: 2.5 },
                [4e-1, 1.264911e-1, 4e-2, 1.264911e-2, 4e-3, 1.264911e-3, 4e-4, 1.264911e-4],
                1.0,
            ),
            (llama3, [1.0, 0.24438459, 0.013042256, 0.0039528473, 0.00125, 0.00039528473, 0.000125, 3.9528473e-5], 1.0),
            (
                yarn(32.0, 1.0, None, None, true),
                [1.0, 0.23717082, 0.05, 0.0079056947, 0.0025, 0.00079056947, 0.00025, 7.9056947e-5],
                1.138629436111989,
            ),
            (
                yarn(8.0, 0.5, Some(0.7), Some(0.3), false),
                [1.0, 0.23840846, 0.044248302, 0.0079056947, 0.0025, 0.00079056947, 0.00025, 7.9056947e-5],
                1.0532376815143234,
            ),
        ] {
            let got = frequencies(&scaling, 10_000.0, 16);
            for (g, e) in got.inv_freq.iter().zip(expected) {
                assert!((g - e).abs() <= 3e-7 * e, "{scaling:?}: {g} {e}");
            }
            assert!((got.amplitude - amplitude).abs() < 1e-12, "{scaling:?}: {}", got.amplitude);
        }
    }
}
