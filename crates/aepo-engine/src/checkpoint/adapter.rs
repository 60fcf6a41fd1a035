//! How are LoRA's matrices kept? As PEFT keeps them, so that either program reads what the other wrote.
//!
//! `adapter_config.json` says rank, factor, targets and which model they belong to; `adapter_model.safetensors` has the
//! matrices under PEFT's names. A description that asks for anything else than plain LoRA is refused by its key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use aepo::config::lora::{LoraTargets, Projection};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::convert::{Precision, append};
use super::error::WeightsError;
use super::map::map;
use super::read::{check_shape, damaged, io_error, read_json, weights_error};
use super::write::{write_tensors, write_whole};
use crate::error::EngineError;
use crate::layout::Tensor;
use crate::lora::Lora;
use crate::setup::LoraSpec;

/// Name of the description; a directory that has it holds LoRA's matrices.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What a description says.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Rank, factor and places.
    pub spec: LoraSpec,
    /// The model that the matrices belong to, a path or a name; empty where the file does not say.
    pub base: String,
}

/// Keys that change nothing about what the matrices mean: names, bookkeeping, how training began, and the dropout of
/// training, which is not applied here.
const HARMLESS: [&str; 9] = [
    "task_type",
    "inference_mode",
    "revision",
    "init_lora_weights",
    "lora_dropout",
    "auto_mapping",
    "peft_version",
    "megatron_core",
    "qalora_group_size",
];

/// Writes LoRA's matrices, and what they belong to, into `dir`.
pub fn save_adapter(dir: &Path, lora: &Lora<f32>, base: &str) -> Result<(), EngineError> {
    let targets: Vec<&str> = lora.spec.targets.projections().iter().map(|p| p.name()).collect();
    let config = json!({
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": number(lora.spec.alpha),
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.spec.rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    });
    let numbers = |t: &Tensor| Cow::Borrowed(&lora.params[t.range.clone()]);
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&dir.join(ADAPTER_WEIGHTS), &lora.layout.tensors, &numbers, Precision::F32, metadata)?;
    write_whole(&dir.join(ADAPTER_CONFIG), format!("{config:#}\n").as_bytes())
}

/// A whole number is written as one: PEFT's own type of α.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

/// Reads the description in `dir`.
pub fn load_adapter_config(dir: &Path) -> Result<Adapter, EngineError> {
    let path = dir.join(ADAPTER_CONFIG);
    let bytes = read_json(&path)?;
    let keys: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|e| weights_error(&path, WeightsError::AdapterConfig(e.to_string())))?;
    parse(&keys).map_err(|e| weights_error(&path, e))
}

fn parse(keys: &Map<String, Value>) -> Result<Adapter, WeightsError> {
    let wrong = |key: &str, wanted: &str| WeightsError::Adapter {
        key: key.to_owned(),
        found: keys.get(key).map_or("missing".to_owned(), |v| v.to_string()),
        wanted: wanted.to_owned(),
    };
    for (key, value) in keys {
        let (fine, wanted) = match key.as_str() {
            "peft_type" => (value == "LORA", "\"LORA\""),
            "bias" => (value == "none", "\"none\": biases are not trained"),
            "r" | "lora_alpha" | "target_modules" | "base_model_name_or_path" => (true, ""),
            key if HARMLESS.contains(&key) => (true, ""),
            _ => (is_off(value), "off: it asks for more than plain LoRA"),
        };
        if !fine {
            return Err(wrong(key, wanted));
        }
    }
    if !keys.contains_key("peft_type") {
        return Err(wrong("peft_type", "\"LORA\""));
    }
    let rank = keys.get("r").and_then(Value::as_u64).and_then(|r| usize::try_from(r).ok()).filter(|&r| r > 0);
    let rank = rank.ok_or_else(|| wrong("r", "a whole number above 0"))?;
    let alpha = keys.get("lora_alpha").and_then(Value::as_f64).filter(|a| a.is_finite() && *a > 0.0);
    let alpha = alpha.ok_or_else(|| wrong("lora_alpha", "a number above 0"))?;
    let names = keys.get("target_modules").and_then(Value::as_array);
    let projections: Option<Vec<Projection>> =
        names.and_then(|names| names.iter().map(|n| Projection::named(n.as_str()?)).collect());
    let targets = projections.and_then(|p| LoraTargets::new(&p)).ok_or_else(|| {
        let all: Vec<&str> = Projection::ALL.iter().map(|p| p.name()).collect();
        wrong("target_modules", &format!("a list of {}, each at most once", all.join(", ")))
    })?;
    let base = keys.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Adapter { spec: LoraSpec { rank, alpha, targets }, base })
}

/// Whether a key asks for nothing.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// Reads the matrices in `dir` that are laid out as those of `lora`; their description must say what `lora` was made
/// with.
pub fn load_adapter(dir: &Path, lora: &Lora<f32>) -> Result<Vec<f32>, EngineError> {
    let Adapter { spec, .. } = load_adapter_config(dir)?;
    let (found, wanted) = (&spec, &lora.spec);
    let differs = |key: &str, found: String, wanted: String| {
        let (key, wanted) = (key.to_owned(), format!("{wanted}, as the settings say"));
        Err(weights_error(&dir.join(ADAPTER_CONFIG), WeightsError::Adapter { key, found, wanted }))
    };
    if found.rank != wanted.rank {
        return differs("r", found.rank.to_string(), wanted.rank.to_string());
    }
    if found.alpha != wanted.alpha {
        return differs("lora_alpha", found.alpha.to_string(), wanted.alpha.to_string());
    }
    if found.targets != wanted.targets {
        let names = |t: &LoraTargets| t.projections().iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
        return differs("target_modules", names(&found.targets), names(&wanted.targets));
    }
    let path = dir.join(ADAPTER_WEIGHTS);
    let bytes = map(&path).map_err(|e| io_error(&path, e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&path, e))?;
    let known: std::collections::BTreeSet<&str> = lora.layout.tensors.iter().map(|t| t.name.as_str()).collect();
    if let Some(name) = tensors.names().into_iter().find(|&name| !known.contains(name)) {
        return Err(weights_error(&path, WeightsError::Unexpected { tensor: name.to_owned() }));
    }
    let mut numbers = Vec::with_capacity(lora.layout.n_parameters());
    for tensor in &lora.layout.tensors {
        let missing = || WeightsError::Missing { tensor: tensor.name.clone(), hint: "" };
        let view = tensors.tensor(&tensor.name).map_err(|_| weights_error(&path, missing()))?;
        check_shape(tensor, view.shape())
            .and_then(|()| append(&tensor.name, &view, &mut numbers))
            .map_err(|e| weights_error(&path, e))?;
    }
    Ok(numbers)
}
