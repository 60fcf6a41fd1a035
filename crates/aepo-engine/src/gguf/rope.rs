//! What was done to RoPE's frequencies? The scaling that a file's keys ask for, or the one its table of factors is of.

use super::error::GgufError;
use super::names::{Keys, clip, integer, number, required, text, unsupported};
use crate::config::rope::{RopeScaling, frequencies};

/// The tensor with a factor for each pair of dimensions, by which its frequency is divided: `[head_dim / 2]`.
pub const FACTORS: &str = "rope_freqs.weight";

/// Keys that are read here, behind the name of the architecture.
pub const READ: &[&str] =
    &["rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned"];

/// The scaling of a model with frequencies of this base; `factors` are those of [`FACTORS`]. Without a type a factor
/// is that of linear scaling, as in llama.cpp.
pub fn scaling(
    keys: &Keys,
    architecture: &str,
    factors: Option<&[f32]>,
    base: f64,
    head_dim: usize,
) -> Result<RopeScaling, GgufError> {
    let key = |suffix: &str| format!("{architecture}.rope.scaling.{suffix}");
    let factor = number(keys, &key("factor"))?.unwrap_or(1.0);
    let by_keys = match text(keys, &key("type"))?.unwrap_or("linear") {
        "none" => RopeScaling::Unscaled,
        "linear" if factor == 1.0 => RopeScaling::Unscaled,
        "linear" => RopeScaling::Linear { factor },
        "yarn" => RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: {
                let key = key("original_context_length");
                required(integer(keys, &key)?, &key)?
            },
            attention_factor: None,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        },
        other => return Err(unsupported(&key("type"), format!("`{}`", clip(other)), "none, linear and yarn are")),
    };
    match (factors, &by_keys) {
        (None, _) => Ok(by_keys),
        (Some(factors), RopeScaling::Unscaled) => llama3(factors, base, head_dim),
        (Some(_), _) => Err(GgufError::tensor(FACTORS, "scales RoPE's frequencies once more, beside the file's keys")),
    }
}

/// Converters write Llama 3's scaling as its effect, a factor for each pair. The largest factor is that of the slow
/// pairs; every published model has the other numbers below, and a table that they do not explain is refused.
fn llama3(factors: &[f32], base: f64, head_dim: usize) -> Result<RopeScaling, GgufError> {
    let scaling = RopeScaling::Llama3 {
        factor: factors.iter().copied().fold(1.0, f32::max).into(),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let (before, after) = (frequencies(&RopeScaling::Unscaled, base, head_dim), frequencies(&scaling, base, head_dim));
    let expected = before.inv_freq.iter().zip(&after.inv_freq).map(|(b, a)| b / a);
    // The converter computed them in single precision, or rounded them to it.
    let explains = expected.zip(factors).all(|(e, f)| (e - f64::from(*f)).abs() <= 1e-5 * e);
    match explains && factors.len() == head_dim / 2 {
        true => Ok(scaling),
        false => Err(GgufError::tensor(FACTORS, "scales RoPE's frequencies in another way than Llama 3.1 to 3.3 do")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::reader::Value;

    /// What llama.cpp's converter writes for Llama 3.2 (`rope_scaling` with factor 32), from its formula over wave
    /// lengths.
    fn converted(factor: f64, base: f64, head_dim: usize) -> Vec<f32> {
        let context = 8192.0;
        let one = |i: usize| {
            let wave_len = std::f64::consts::TAU * base.powf(2.0 * i as f64 / head_dim as f64);
            if wave_len < context / 4.0 {
                1.0
            } else if wave_len > context {
                factor
            } else {
                let smooth = (context / wave_len - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        (0..head_dim / 2).map(|i| one(i) as f32).collect()
    }

    #[test]
    fn a_table_of_factors_is_llama_3s_scaling_or_refused() {
        for factor in [8.0, 32.0] {
            let mut factors = converted(factor, 500_000.0, 64);
            let found = scaling(&Keys::new(), "llama", Some(&factors), 500_000.0, 64).unwrap();
            assert!(matches!(found, RopeScaling::Llama3 { factor: f, .. } if f == factor), "{found:?}");
            for bad in [0.5, f32::NAN, 0.0, f32::INFINITY] {
                factors[20] = bad;
                let error = scaling(&Keys::new(), "llama", Some(&factors), 500_000.0, 64).unwrap_err().to_string();
                assert!(error.contains(FACTORS), "{error}");
            }
        }
        assert!(scaling(&Keys::new(), "llama", Some(&[]), 500_000.0, 64).is_err());
    }

    #[test]
    fn keys_ask_for_a_scaling() {
        let key = |suffix: &str| format!("qwen2.rope.scaling.{suffix}");
        let mut keys = Keys::from([(key("factor"), Value::F32(4.0))]);
        let found = |keys: &Keys| scaling(keys, "qwen2", None, 1e6, 64);
        assert_eq!(found(&Keys::new()).unwrap(), RopeScaling::Unscaled);
        assert_eq!(found(&keys).unwrap(), RopeScaling::Linear { factor: 4.0 });
        keys.insert(key("type"), Value::Text("yarn".into()));
        assert!(found(&keys).unwrap_err().to_string().contains("original_context_length"));
        keys.insert(key("original_context_length"), Value::Integer(32768));
        assert!(matches!(found(&keys).unwrap(), RopeScaling::Yarn { factor: 4.0, .. }));
        assert!(scaling(&keys, "qwen2", Some(&[1.0; 32]), 1e6, 64).is_err());
        keys.insert(key("type"), Value::Text("longrope".into()));
        assert!(found(&keys).unwrap_err().to_string().contains("longrope"));
    }
}
