//! Of which distribution are a server's log-probabilities, and what makes of them those that the pipeline speaks of?
//!
//! The pipeline's are of the whole vocabulary at the temperature of sampling, before top-p and top-k cut it. vLLM gives
//! those before the temperature (`--logprobs-mode raw_logprobs`, the default) or those after temperature and cuts
//! (`processed_logprobs`); SGLang those after the temperature and before the cuts, or before both
//! (`SGLANG_RETURN_ORIGINAL_LOGPROB`). Which it is, is measured: log-probabilities at temperature ½ lie twice as far
//! apart as at 1, or just as far.

use aepo::policy::{N_TOP, SampleParams, SampledToken};

use super::SampleEngine;
use super::entropy::{bounds, partial};
use super::wire::Token;

/// What a server's log-probabilities know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: they are of the model at temperature 1.
    Raw,
    /// The temperature; in vLLM the cuts too.
    Scaled,
    /// All likeliest tokens of the probe were equally likely, so it told nothing.
    Unknown,
}

impl Mode {
    /// From the likeliest tokens behind one prompt at temperature 1 and at ½, each falling.
    pub(crate) fn measured(at_one: &[f32], at_half: &[f32]) -> Mode {
        let spread = |top: &[f32]| match top {
            [first, .., last] => f64::from(first - last),
            _ => 0.0,
        };
        let (one, half) = (spread(at_one), spread(at_half));
        match () {
            () if one < 1e-3 => Mode::Unknown,
            () if half > 1.5 * one => Mode::Scaled,
            () => Mode::Raw,
        }
    }
}

/// How log-probabilities are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reading {
    /// They are the pipeline's.
    AsTheyAre,
    /// All tokens' are there, at temperature 1: `ln p_T = l/T − ln Σ exp(l/T)`.
    Tempered(f64),
}

/// How what a server says is to be read, or what it would have to be told at its start.
pub(crate) fn reading(
    engine: SampleEngine,
    mode: Mode,
    params: SampleParams,
    is_whole: bool,
) -> Result<Reading, String> {
    let is_one = params.temperature == 1.0;
    let is_cut = params.top_p < 1.0 || params.top_k > 0;
    match (engine, mode) {
        (_, Mode::Raw | Mode::Unknown) if is_one => Ok(Reading::AsTheyAre),
        (SampleEngine::Sglang, Mode::Scaled) => Ok(Reading::AsTheyAre),
        (SampleEngine::Vllm, Mode::Scaled) if !is_cut => Ok(Reading::AsTheyAre),
        (_, Mode::Raw) if is_whole => Ok(Reading::Tempered(f64::from(params.temperature))),
        (SampleEngine::Vllm, Mode::Scaled) if is_one => Err(format!(
            "with top_p {} or top_k {} this server's log-probabilities are those of the cut distribution; start vLLM \
             with --logprobs-mode raw_logprobs",
            params.top_p, params.top_k
        )),
        (SampleEngine::Vllm, _) if !is_cut => Err(format!(
            "the temperature is {}, and this server's log-probabilities are those at 1; start vLLM with \
             --logprobs-mode processed_logprobs",
            params.temperature
        )),
        (SampleEngine::Vllm, _) => Err(format!(
            "vLLM has no log-probabilities at temperature {} before top_p or top_k; sample with a temperature of 1, or \
             without these cuts",
            params.temperature
        )),
        (SampleEngine::Sglang, _) => Err(format!(
            "the temperature is {}, and this server's log-probabilities are those at 1; start SGLang without \
             SGLANG_RETURN_ORIGINAL_LOGPROB",
            params.temperature
        )),
    }
}

/// A token with its entropy, and how far the bounds of that are apart, nats.
pub(crate) fn sampled(token: &Token, reading: Reading, vocab_size: usize, top_entropy: bool) -> (SampledToken, f64) {
    let tempered;
    let (logprob, top) = match reading {
        Reading::AsTheyAre => (token.logprob, &token.top),
        Reading::Tempered(t) => {
            let scaled = token.top.iter().map(|&l| f64::from(l) / t);
            let log_sum = scaled.clone().map(f64::exp).sum::<f64>().ln();
            tempered = scaled.map(|l| (l - log_sum) as f32).collect();
            ((f64::from(token.logprob) / t - log_sum) as f32, &tempered)
        }
    };
    let entropy = bounds(top, vocab_size);
    let few = &top[..top.len().min(N_TOP)];
    let top_entropy = if top_entropy { partial(few).max(0.0) as f32 } else { 0.0 };
    let token =
        SampledToken { token: token.id, logprob: logprob.min(0.0), entropy: entropy.middle() as f32, top_entropy };
    (token, entropy.gap())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(temperature: f32, top_p: f32) -> SampleParams {
        SampleParams { temperature, top_p, top_k: 0, top_entropy: true }
    }

    fn at(logits: &[f64], t: f64) -> Vec<f32> {
        let log_sum = logits.iter().map(|l| (l / t).exp()).sum::<f64>().ln();
        logits.iter().map(|l| (l / t - log_sum) as f32).collect()
    }

    const LOGITS: [f64; 4] = [2.0, 1.0, 0.3, -1.0];

    #[test]
    fn what_a_server_speaks_of_is_measured() {
        let (one, half) = (at(&LOGITS, 1.0), at(&LOGITS, 0.5));
        assert_eq!(Mode::measured(&one, &half), Mode::Scaled);
        assert_eq!(Mode::measured(&one, &one), Mode::Raw);
        assert_eq!(Mode::measured(&at(&[1.0; 4], 1.0), &at(&[1.0; 4], 0.5)), Mode::Unknown);
    }

    #[test]
    fn only_what_the_pipeline_means_is_taken() {
        use SampleEngine::{Sglang, Vllm};
        let can = |engine, mode, params| reading(engine, mode, params, false).is_ok();
        assert!(can(Vllm, Mode::Raw, params(1.0, 1.0)) && can(Vllm, Mode::Raw, params(1.0, 0.9)));
        assert!(!can(Vllm, Mode::Raw, params(0.7, 1.0)) && !can(Vllm, Mode::Unknown, params(0.7, 1.0)));
        assert!(can(Vllm, Mode::Scaled, params(0.7, 1.0)) && can(Vllm, Mode::Scaled, params(1.0, 1.0)));
        assert!(!can(Vllm, Mode::Scaled, params(1.0, 0.9)) && !can(Vllm, Mode::Scaled, params(0.7, 0.9)));
        assert!(can(Sglang, Mode::Scaled, params(0.7, 0.9)) && can(Sglang, Mode::Raw, params(1.0, 0.9)));
        assert!(!can(Sglang, Mode::Raw, params(0.7, 1.0)));
        let hint = reading(Vllm, Mode::Raw, params(0.7, 1.0), false).unwrap_err();
        assert!(hint.contains("--logprobs-mode processed_logprobs"), "{hint}");
    }

    #[test]
    fn all_tokens_at_temperature_one_give_those_at_any() {
        let reading = reading(SampleEngine::Vllm, Mode::Raw, params(0.7, 0.9), true).unwrap();
        let token = Token { id: 2, logprob: at(&LOGITS, 1.0)[2], top: at(&LOGITS, 1.0) };
        let (token, gap) = sampled(&token, reading, 4, true);
        let expected = at(&LOGITS, 0.7);
        let entropy: f64 = expected.iter().map(|&l| -f64::from(l).exp() * f64::from(l)).sum();
        assert!((token.logprob - expected[2]).abs() < 1e-6, "{token:?}");
        assert!((f64::from(token.entropy) - entropy).abs() < 1e-6 && gap == 0.0, "{token:?}");
        assert!((token.top_entropy - token.entropy).abs() < 1e-6, "{token:?}");
    }
}
