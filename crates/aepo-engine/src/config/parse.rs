//! What does a `config.json` ask for? Each key read with its type; what is not built is refused by its name.

use serde_json::{Map, Value};

use super::rope::RopeScaling;
use super::{ConfigError, FULL, Family, ModelConfig, SLIDING, SlidingWindow, TokenIds};

/// `head_dim` of a Qwen3 model whose file does not say.
const QWEN3_HEAD_DIM: usize = 128;

impl ModelConfig {
    /// Reads a `config.json`; the error names the key.
    pub fn from_json(text: &str) -> Result<ModelConfig, ConfigError> {
        let json: Map<String, Value> = serde_json::from_str(text).map_err(|e| ConfigError::Json(e.to_string()))?;
        let keys = Keys { map: &json, above: "" };
        let family = match keys.text("model_type")? {
            Some("llama") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            Some("qwen3") => Family::Qwen3,
            Some(other) => {
                return Err(unsupported("model_type", format!("`{other}`"), "llama, qwen2 and qwen3 are"));
            }
            None => return Err(ConfigError::Missing("model_type".into())),
        };
        refuse_unsupported(&keys, family)?;
        let heads = keys.required("num_attention_heads")?;
        let hidden_size = keys.required("hidden_size")?;
        let max_position_embeddings = keys.required("max_position_embeddings")?;
        let (rope_theta, rope_scaling) = rope(&keys, max_position_embeddings)?;
        let num_hidden_layers = keys.required("num_hidden_layers")?;
        let mut config = ModelConfig {
            model_type: family,
            vocab_size: keys.required("vocab_size")?,
            hidden_size,
            intermediate_size: keys.required("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: keys.count("num_key_value_heads")?.unwrap_or(heads),
            head_dim: match keys.count("head_dim")? {
                Some(dim) => dim,
                None if family == Family::Qwen3 => QWEN3_HEAD_DIM,
                None => hidden_size.checked_div(heads).unwrap_or(0),
            },
            rms_norm_eps: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            sliding_window: None,
            token_ids: TokenIds {
                bos: keys.ids("bos_token_id")?.first().copied(),
                eos: keys.ids("eos_token_id")?,
                pad: keys.ids("pad_token_id")?.first().copied(),
            },
        };
        // The number of layers is in range before anything of that length is made.
        config.validate()?;
        config.sliding_window = sliding_window(&keys, family, num_hidden_layers, max_position_embeddings)?;
        config.validate()?;
        Ok(config)
    }
}

/// The keys of one JSON object. `null` is as good as absent.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// The key of the object and a dot, or nothing.
    above: &'a str,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.above)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || ConfigError::Wrong { key: self.path(key), expected, found: brief(value) };
        read(value).map(Some).ok_or_else(wrong)
    }

    fn count(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.typed(key, "a whole number", |v| v.as_u64()?.try_into().ok())
    }

    fn required(&self, key: &str) -> Result<usize, ConfigError> {
        self.count(key)?.ok_or_else(|| ConfigError::Missing(self.path(key)))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.typed(key, "a text", Value::as_str)
    }

    fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
        self.typed(key, "an object", Value::as_object)
    }

    /// One token id or several. −1 is how some files say that there is none.
    fn ids(&self, key: &str) -> Result<Vec<u32>, ConfigError> {
        let id = |v: &Value| match v.as_i64() {
            Some(-1) => Some(None),
            id => Some(Some(u32::try_from(id?).ok()?)),
        };
        let ids = self.typed(key, "a token id or a list of them", |v| match v {
            Value::Array(ids) => ids.iter().map(id).collect::<Option<Vec<_>>>(),
            one => Some(vec![id(one)?]),
        })?;
        Ok(ids.unwrap_or_default().into_iter().flatten().collect())
    }
}

fn unsupported(key: &str, found: impl Into<String>, supported: &'static str) -> ConfigError {
    ConfigError::Unsupported { key: key.into(), found: found.into(), supported }
}

/// A value as it stands in the file, shortened.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Everything that would change the mathematics and is not built is refused by name.
fn refuse_unsupported(keys: &Keys<'_>, family: Family) -> Result<(), ConfigError> {
    for key in ["hidden_act", "hidden_activation"] {
        if let Some(act) = keys.text(key)?.filter(|act| *act != "silu") {
            return Err(unsupported(key, format!("`{act}`"), "silu is"));
        }
    }
    let (_, architecture) = family.names();
    if let Some(names) = keys.typed("architectures", "a list", Value::as_array)?
        && !names.is_empty()
        && !names.iter().any(|name| name == architecture)
    {
        let found = brief(&Value::Array(names.clone()));
        return Err(unsupported("architectures", found, "the family's …ForCausalLM is"));
    }
    match (family, keys.flag("attention_bias")?) {
        (Family::Qwen2, Some(false)) => {
            return Err(unsupported("attention_bias", "false", "qwen2 has biases on q, k and v"));
        }
        (Family::Llama | Family::Qwen3, Some(true)) => {
            return Err(unsupported("attention_bias", "true", "qwen2 alone has them, on q, k and v"));
        }
        _ => {}
    }
    for key in ["mlp_bias", "alibi", "use_mrope", "rope_interleaved", "qk_layernorm", "use_parallel_residual"] {
        if keys.flag(key)? == Some(true) {
            return Err(unsupported(key, "true", "this part of a model is not built"));
        }
    }
    if family != Family::Qwen3 && keys.flag("use_qk_norm")? == Some(true) {
        return Err(unsupported("use_qk_norm", "true", "qwen3 has norms on q and k"));
    }
    for key in [
        "quantization_config",
        "compression_config",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "query_pre_attn_scalar",
        "attention_chunk_size",
        "sliding_window_pattern",
        "no_rope_layers",
        "mlp_layer_types",
    ] {
        if let Some(value) = keys.get(key) {
            let supported = match key {
                "quantization_config" | "compression_config" => "load the weights in f32, f16 or bf16",
                _ => "this part of a model is not built",
            };
            return Err(unsupported(key, brief(value), supported));
        }
    }
    for key in ["num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts", "num_experts_per_tok"] {
        if keys.count(key)?.is_some_and(|n| n > 0) {
            return Err(unsupported(key, keys.map[key].to_string(), "mixtures of experts are not built"));
        }
    }
    for key in [
        "partial_rotary_factor",
        "rotary_pct",
        "logit_scale",
        "logits_scaling",
        "embedding_multiplier",
        "residual_multiplier",
        "attention_multiplier",
    ] {
        if let Some(x) = keys.number(key)?.filter(|&x| x != 1.0) {
            return Err(unsupported(key, x.to_string(), "1 is"));
        }
    }
    Ok(())
}

/// θ and scaling from the older layout (`rope_theta` and `rope_scaling`), the newer one (`rope_parameters`), or both
/// where they agree.
fn rope(keys: &Keys<'_>, context: usize) -> Result<(f64, RopeScaling), ConfigError> {
    let mut theta = keys.number("rope_theta")?.map(|theta| ("rope_theta".to_owned(), theta));
    let mut scaling: Option<(&str, RopeScaling)> = None;
    for (key, above) in [("rope_scaling", "rope_scaling."), ("rope_parameters", "rope_parameters.")] {
        let Some(map) = keys.object(key)?.filter(|map| !map.is_empty()) else { continue };
        let inner = Keys { map, above };
        if let Some(x) = inner.number("rope_theta")? {
            let (one, before) = theta.get_or_insert_with(|| (inner.path("rope_theta"), x));
            if *before != x {
                return Err(ConfigError::Contradiction { one: one.clone(), other: inner.path("rope_theta") });
            }
        }
        let found = rope_scaling(&inner, keys, context)?;
        match scaling {
            Some((one, before)) if before != found => {
                return Err(ConfigError::Contradiction { one: one.into(), other: key.into() });
            }
            _ => scaling = Some((key, found)),
        }
    }
    Ok((theta.map_or(10_000.0, |(_, theta)| theta), scaling.map_or(RopeScaling::Unscaled, |(_, scaling)| scaling)))
}

fn rope_scaling(keys: &Keys<'_>, outer: &Keys<'_>, context: usize) -> Result<RopeScaling, ConfigError> {
    let kind = match (keys.text("rope_type")?, keys.text("type")?) {
        (Some(one), Some(other)) if one != other => {
            return Err(ConfigError::Contradiction { one: keys.path("rope_type"), other: keys.path("type") });
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => "default",
    };
    // `finetuned` is in some published files and was never read by anything.
    let mut known = vec!["rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned"];
    known.extend_from_slice(match kind {
        "default" => &[],
        "linear" => &["factor"][..],
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        "yarn" => &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ],
        other => {
            let key = keys.path("rope_type");
            return Err(unsupported(&key, format!("`{other}`"), "default, linear, llama3 and yarn are"));
        }
    });
    if let Some((key, value)) = keys.map.iter().find(|(k, v)| !v.is_null() && !known.contains(&k.as_str())) {
        return Err(unsupported(&keys.path(key), brief(value), "no published scaling of this type has the key"));
    }
    if let Some(x) = keys.number("partial_rotary_factor")?.filter(|&x| x != 1.0) {
        return Err(unsupported(&keys.path("partial_rotary_factor"), x.to_string(), "1 is"));
    }
    let number = |key: &str| keys.number(key)?.ok_or_else(|| ConfigError::Missing(keys.path(key)));
    // Some files have the original context beside the object. Where nothing has it, it is the context.
    let original = || -> Result<usize, ConfigError> {
        let key = "original_max_position_embeddings";
        match (keys.count(key)?, outer.count(key)?) {
            (Some(one), Some(other)) if one != other => {
                Err(ConfigError::Contradiction { one: keys.path(key), other: key.into() })
            }
            (one, other) => Ok(one.or(other).unwrap_or(context)),
        }
    };
    Ok(match kind {
        "linear" => RopeScaling::Linear { factor: number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_max_position_embeddings: original()?,
        },
        "yarn" => RopeScaling::Yarn {
            factor: number("factor")?,
            original_max_position_embeddings: original()?,
            attention_factor: keys.number("attention_factor")?,
            beta_fast: keys.number("beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.number("beta_slow")?.unwrap_or(1.0),
            mscale: keys.number("mscale")?,
            mscale_all_dim: keys.number("mscale_all_dim")?,
            truncate: keys.flag("truncate")?.unwrap_or(true),
        },
        _ => RopeScaling::Unscaled,
    })
}

/// Qwen's window: `layer_types` says which blocks have it, or in older files `max_window_layers` how many at the bottom
/// have not. Llama has none, so a window there is refused where it is shorter than the context.
fn sliding_window(
    keys: &Keys<'_>,
    family: Family,
    n_layers: usize,
    context: usize,
) -> Result<Option<SlidingWindow>, ConfigError> {
    let n_tokens = keys.count("sliding_window")?;
    let on = keys.flag("use_sliding_window")?;
    let layers = match keys.typed("layer_types", "a list", Value::as_array)? {
        None => None,
        Some(kinds) if kinds.len() != n_layers => {
            let found = format!("{} entries for {n_layers} layers", kinds.len());
            return Err(ConfigError::Wrong { key: "layer_types".into(), expected: "one entry a layer", found });
        }
        Some(kinds) => {
            let is_sliding = |kind: &Value| match kind.as_str() {
                Some(FULL) => Ok(false),
                Some(SLIDING) => Ok(true),
                _ => Err(unsupported("layer_types", brief(kind), "full_attention and sliding_attention are")),
            };
            Some(kinds.iter().map(is_sliding).collect::<Result<Vec<bool>, _>>()?)
        }
    };
    let asked = layers.as_ref().is_some_and(|layers| layers.contains(&true));
    if family == Family::Llama {
        let shorter = n_tokens.is_some_and(|n| n < context) && on != Some(false);
        return match asked || shorter {
            true => {
                Err(unsupported("sliding_window", format!("{n_tokens:?} of a llama model"), "qwen2 and qwen3 have one"))
            }
            false => Ok(None),
        };
    }
    if on != Some(true) {
        return match asked {
            true => {
                let (one, other) = ("use_sliding_window".to_owned(), "layer_types".to_owned());
                Err(ConfigError::Contradiction { one, other })
            }
            false => Ok(None),
        };
    }
    let n_tokens = n_tokens.ok_or_else(|| ConfigError::Missing("sliding_window".into()))?;
    let layers = match layers {
        Some(layers) => layers,
        None => {
            let first = keys.required("max_window_layers")?;
            (0..n_layers).map(|i| i >= first).collect()
        }
    };
    Ok(Some(SlidingWindow { n_tokens, layers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"model_type":"qwen3","vocab_size":50,"hidden_size":32,"intermediate_size":48,
        "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"rms_norm_eps":1e-6,
        "rope_theta":1000000.0,"max_position_embeddings":128,"tie_word_embeddings":true}"#;

    fn with(extra: &str) -> Result<ModelConfig, ConfigError> {
        ModelConfig::from_json(&GOOD.replacen("\"tie_word", &format!("{extra},\"tie_word"), 1))
    }

    const YARN: &str = r#""rope_scaling":{"type":"yarn","factor":4.0,"beta_fast":16,"mscale":0.7,"mscale_all_dim":0.5,
        "original_max_position_embeddings":32,"truncate":false}"#;
    const LLAMA3: &str = r#""rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
        "high_freq_factor":4.0,"original_max_position_embeddings":64}"#;

    #[test]
    fn reads_what_it_writes() {
        let window = r#""use_sliding_window":true,"sliding_window":7,"max_window_layers":1"#;
        let kinds = r#""use_sliding_window":true,"sliding_window":7,
            "layer_types":["sliding_attention","full_attention"]"#;
        let linear = r#""rope_parameters":{"rope_type":"linear","factor":2.0,"rope_theta":1000000.0}"#;
        let ids = r#""bos_token_id":1,"eos_token_id":[2,3],"pad_token_id":-1"#;
        for extra in ["\"x\":1", YARN, LLAMA3, linear, window, kinds, ids] {
            let config = with(extra).unwrap();
            assert_eq!(ModelConfig::from_json(&config.to_json("bfloat16")).unwrap(), config, "{extra}");
        }
        assert_eq!(with(window).unwrap().window(0), None);
        assert_eq!(with(window).unwrap().window(1), Some(7));
        assert_eq!(with(kinds).unwrap().window(0), Some(7));
        assert_eq!(with(ids).unwrap().token_ids, TokenIds { bos: Some(1), eos: vec![2, 3], pad: None });
    }

    #[test]
    fn both_layouts_of_rope_say_the_same() {
        for old in [YARN, LLAMA3] {
            let new = old.replace("rope_scaling", "rope_parameters").replace("\"type\"", "\"rope_type\"");
            let new = new.replacen('}', ",\"rope_theta\":5e5}", 1);
            let without_theta = GOOD.replace("\"rope_theta\":1000000.0,", "");
            let read = |json: &str, extra: &str| {
                ModelConfig::from_json(&json.replacen("\"tie_word", &format!("{extra},\"tie_word"), 1))
            };
            let mut expected = with(old).unwrap();
            expected.rope_theta = 5e5;
            assert_eq!(read(&without_theta, &new).unwrap(), expected);
            assert_eq!(read(&without_theta, &format!("{old},{new}")).unwrap(), expected);
            let error = read(GOOD, &new).unwrap_err();
            assert!(matches!(&error, ConfigError::Contradiction { one, .. } if one == "rope_theta"), "{error}");
        }
        let error = with(&format!("{YARN},\"rope_parameters\":{{\"rope_type\":\"default\"}}")).unwrap_err();
        assert!(error.to_string().contains("rope_parameters"), "{error}");
    }

    #[test]
    fn names_what_it_refuses() {
        for (from, to, word) in [
            ("qwen3", "gpt2", "gpt2"),
            ("\"vocab_size\":50,", "", "vocab_size"),
            ("\"vocab_size\":50", "\"vocab_size\":\"x\"", "vocab_size"),
            ("\"vocab_size\":50", "\"vocab_size\":99999999999", "vocab_size"),
            ("\"num_key_value_heads\":2", "\"num_key_value_heads\":3", "num_key_value_heads"),
            ("\"head_dim\":16", "\"head_dim\":15", "head_dim"),
            ("\"num_hidden_layers\":2", "\"num_hidden_layers\":1000000", "num_hidden_layers"),
            ("\"tie_word", "\"rope_scaling\":{\"type\":\"yarn\"},\"tie_word", "rope_scaling.factor"),
            ("\"tie_word", "\"hidden_act\":\"gelu\",\"tie_word", "hidden_act"),
            ("{", "", "JSON"),
            ("{", "[{", "JSON"),
        ] {
            let error = ModelConfig::from_json(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for (extra, word) in [
            (r#""rope_scaling":{"type":"dynamic","factor":2.0}"#, "rope_scaling.rope_type `dynamic`"),
            (r#""rope_scaling":{"type":"linear","factor":0.5}"#, "rope_scaling.factor"),
            (r#""rope_scaling":{"type":"linear","rope_type":"yarn","factor":2}"#, "rope_scaling.type"),
            (r#""rope_scaling":{"type":"linear","factor":2,"mrope_section":[1]}"#, "rope_scaling.mrope_section"),
            (r#""rope_parameters":{"full_attention":{"rope_type":"default"}}"#, "rope_parameters.full_attention"),
            (r#""rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5}"#, "partial_rotary_factor"),
            (r#""rope_scaling":3"#, "rope_scaling"),
            (r#""partial_rotary_factor":0.5"#, "partial_rotary_factor"),
            (r#""mlp_bias":true"#, "mlp_bias"),
            (r#""attention_bias":true"#, "attention_bias"),
            (r#""attention_bias":"no""#, "attention_bias"),
            (r#""num_experts":8"#, "num_experts"),
            (r#""quantization_config":{"bits":4}"#, "quantization_config"),
            (r#""final_logit_softcapping":30.0"#, "final_logit_softcapping"),
            (r#""architectures":["Qwen3ForSequenceClassification"]"#, "architectures"),
            (r#""use_sliding_window":true"#, "sliding_window"),
            (r#""use_sliding_window":true,"sliding_window":4"#, "max_window_layers"),
            (r#""layer_types":["sliding_attention","full_attention"]"#, "layer_types"),
            (r#""layer_types":["linear_attention","full_attention"]"#, "linear_attention"),
            (r#""layer_types":["full_attention"]"#, "layer_types"),
            (r#""use_sliding_window":true,"max_window_layers":0,"sliding_window":0"#, "sliding_window"),
        ] {
            let error = with(extra).unwrap_err().to_string();
            assert!(error.contains(word), "{extra}: {error}");
        }
    }

    #[test]
    fn a_window_of_llama_is_refused_where_it_would_matter() {
        let llama = |extra: &str| {
            let json = GOOD.replace("qwen3", "llama").replacen("\"tie_word", &format!("{extra},\"tie_word"), 1);
            ModelConfig::from_json(&json)
        };
        assert!(llama("\"sliding_window\":128").is_ok());
        assert!(llama("\"sliding_window\":4,\"use_sliding_window\":false").is_ok());
        let error = llama("\"sliding_window\":127").unwrap_err().to_string();
        assert!(error.contains("sliding_window"), "{error}");
    }
}
