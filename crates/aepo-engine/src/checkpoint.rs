//! How are weights kept? As safetensors with Hugging Face names beside a `config.json`, written whole or not at all.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::adamw::Moments;
use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::layout::Layout;

/// How numbers are stored in a weights file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Exact: what training goes on from.
    F32,
    /// Half the size, 8 bits of mantissa: what is shipped.
    Bf16,
}

/// Name of the weights file in a model directory.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the shape file in a model directory.
pub const CONFIG: &str = "config.json";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Writes `model.safetensors` and `config.json` into `dir`.
pub fn save_model(
    dir: &Path,
    config: &ModelConfig,
    layout: &Layout,
    params: &[f32],
    precision: Precision,
) -> Result<(), EngineError> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = layout
        .tensors
        .iter()
        .map(|t| (t.name.clone(), t.shape.clone(), to_bytes(&params[t.range.clone()], precision)))
        .collect();
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::Bf16 => Dtype::BF16,
    };
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&dir.join(WEIGHTS), &tensors, dtype, metadata)?;
    write_whole(&dir.join(CONFIG), config.to_json().as_bytes())
}

/// Parses a model's two files; `label` names their directory in errors. Returns the weights in layout order.
pub fn parse_model(label: &Path, config: &[u8], weights: &[u8]) -> Result<(ModelConfig, Vec<f32>), EngineError> {
    let path = label.join(CONFIG);
    let text = std::str::from_utf8(config)
        .map_err(|_| EngineError::Config { path: path.clone(), message: "not UTF-8".into() })?;
    let config = ModelConfig::from_json(text).map_err(|message| EngineError::Config { path, message })?;
    let layout = Layout::new(&config);
    let path = label.join(WEIGHTS);
    let tensors = parse_tensors(&path, weights)?;
    let mut params = vec![0.0; layout.n_parameters()];
    for t in &layout.tensors {
        let view =
            tensors.tensor(&t.name).map_err(|_| weights_error(&path, format!("tensor `{}` is missing", t.name)))?;
        if view.shape() != t.shape {
            let message =
                format!("tensor `{}` has shape {:?}, config.json asks for {:?}", t.name, view.shape(), t.shape);
            return Err(weights_error(&path, message));
        }
        read_numbers(&view, &mut params[t.range.clone()])
            .map_err(|message| weights_error(&path, format!("tensor `{}`: {message}", t.name)))?;
    }
    let known = |name: &str| layout.tensors.iter().any(|t| t.name == name);
    if let Some(name) = tensors.names().into_iter().find(|n| !known(n) && !is_redundant(n, &config)) {
        return Err(weights_error(&path, format!("tensor `{name}` belongs to no model that config.json describes")));
    }
    Ok((config, params))
}

/// Reads a model directory.
pub fn load_model(dir: &Path) -> Result<(ModelConfig, Vec<f32>), EngineError> {
    parse_model(dir, &read(&dir.join(CONFIG))?, &read(&dir.join(WEIGHTS))?)
}

/// Writes the optimiser's state into `dir`.
pub fn save_moments(dir: &Path, moments: &Moments) -> Result<(), EngineError> {
    let tensors = [("first", &moments.first), ("second", &moments.second)]
        .map(|(name, x)| (name.to_owned(), vec![x.len()], to_bytes(x, Precision::F32)));
    let metadata = HashMap::from([("n_steps".to_owned(), moments.n_steps.to_string())]);
    write_tensors(&dir.join(OPTIMIZER), &tensors, Dtype::F32, metadata)
}

/// Reads what [`save_moments`] wrote for a model of `n_parameters`.
pub fn load_moments(dir: &Path, n_parameters: usize) -> Result<Moments, EngineError> {
    let path = dir.join(OPTIMIZER);
    let bytes = read(&path)?;
    let tensors = parse_tensors(&path, &bytes)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| weights_error(&path, e.to_string()))?;
    let n_steps: Option<u64> = header.metadata().as_ref().and_then(|m| m.get("n_steps")?.parse().ok());
    let n_steps = n_steps.ok_or_else(|| weights_error(&path, "metadata key `n_steps` is missing".into()))?;
    let read = |name: &str| {
        let view = tensors.tensor(name).map_err(|_| weights_error(&path, format!("tensor `{name}` is missing")))?;
        // Before the first step there are no moments yet.
        if view.shape() != [n_parameters] && !(n_steps == 0 && view.shape() == [0]) {
            let message =
                format!("tensor `{name}` has shape {:?}, the model has {n_parameters} parameters", view.shape());
            return Err(weights_error(&path, message));
        }
        let mut numbers = vec![0.0; view.shape()[0]];
        read_numbers(&view, &mut numbers).map_err(|m| weights_error(&path, format!("tensor `{name}`: {m}")))?;
        Ok(numbers)
    };
    Ok(Moments { first: read("first")?, second: read("second")?, n_steps })
}

/// Writes a file under a temporary name, flushes it to the disk and renames it into place.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let io = |source| EngineError::Io { path: path.to_owned(), source };
    let temporary = path.with_extension("tmp");
    let result = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    result.and_then(|()| std::fs::rename(&temporary, path)).map_err(|e| {
        // The error that matters is the first one; a leftover temporary file is harmless.
        let _ = std::fs::remove_file(&temporary);
        io(e)
    })
}

/// Tensors that other tools store although the configuration makes them redundant.
fn is_redundant(name: &str, config: &ModelConfig) -> bool {
    (name == "lm_head.weight" && config.tie_word_embeddings) || name.ends_with("rotary_emb.inv_freq")
}

fn weights_error(path: &Path, message: String) -> EngineError {
    EngineError::Weights { path: path.to_owned(), message }
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    std::fs::read(path).map_err(|source| EngineError::Io { path: path.to_owned(), source })
}

fn parse_tensors<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, EngineError> {
    SafeTensors::deserialize(bytes)
        .map_err(|e| weights_error(path, format!("damaged or truncated safetensors file ({e})")))
}

fn read_numbers(view: &TensorView<'_>, to: &mut [f32]) -> Result<(), String> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => {
            for (x, b) in to.iter_mut().zip(data.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        Dtype::F16 => {
            for (x, b) in to.iter_mut().zip(data.as_chunks::<2>().0) {
                *x = f16::from_le_bytes(*b).to_f32();
            }
        }
        Dtype::BF16 => {
            for (x, b) in to.iter_mut().zip(data.as_chunks::<2>().0) {
                *x = bf16::from_le_bytes(*b).to_f32();
            }
        }
        other => return Err(format!("type {other:?} is not supported (F32, F16, BF16 are)")),
    }
    match to.iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err("holds a number that is not finite".into()),
    }
}

fn to_bytes(numbers: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Precision::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}

fn write_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<u8>)],
    dtype: Dtype,
    metadata: HashMap<String, String>,
) -> Result<(), EngineError> {
    let views: Result<Vec<_>, _> =
        tensors.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(dtype, shape.clone(), bytes)?))).collect();
    let bytes = views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|e| weights_error(path, e.to_string()))?;
    write_whole(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;
    use crate::testing::{config, random};

    fn saved(precision: Precision) -> (tempfile::TempDir, ModelConfig, Vec<f32>) {
        let dir = tempfile::tempdir().unwrap();
        let config = config(Family::Qwen3, true);
        let layout = Layout::new(&config);
        let params: Vec<f32> = random(1, layout.n_parameters()).into_iter().map(|x| x as f32).collect();
        save_model(dir.path(), &config, &layout, &params, precision).unwrap();
        (dir, config, params)
    }

    #[test]
    fn weights_come_back() {
        let (dir, config, params) = saved(Precision::F32);
        assert_eq!(load_model(dir.path()).unwrap(), (config, params));
        let (dir, _, params) = saved(Precision::Bf16);
        for (a, b) in load_model(dir.path()).unwrap().1.iter().zip(&params) {
            assert!((a - b).abs() <= b.abs() / 256.0);
        }
    }

    #[test]
    fn moments_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let moments = Moments { first: vec![1.0, 2.0], second: vec![3.0, 4.0], n_steps: 7 };
        save_moments(dir.path(), &moments).unwrap();
        let back = load_moments(dir.path(), 2).unwrap();
        assert_eq!((back.first, back.second, back.n_steps), (moments.first, moments.second, 7));
        assert!(load_moments(dir.path(), 3).is_err());
    }

    #[test]
    fn damage_is_an_error_that_names_the_file_and_the_tensor() {
        let (dir, config, _) = saved(Precision::F32);
        let weights = std::fs::read(dir.path().join(WEIGHTS)).unwrap();
        let json = config.to_json();
        for cut in [0, 4, 8, 100, weights.len() / 2, weights.len() - 1] {
            let error = parse_model(Path::new("m"), json.as_bytes(), &weights[..cut]).unwrap_err().to_string();
            assert!(error.contains("m/model.safetensors"), "{error}");
        }
        let wider = json.replace("\"intermediate_size\": 20", "\"intermediate_size\": 22");
        let error = parse_model(Path::new("m"), wider.as_bytes(), &weights).unwrap_err().to_string();
        assert!(error.contains("model.layers.0.mlp.gate_proj.weight") && error.contains("[20, 24]"), "{error}");
        let error = load_model(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/config.json"), "{error}");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        write_whole(&path, b"old").unwrap();
        // The temporary name is taken by a directory, so the new file cannot even be created.
        std::fs::create_dir(path.with_extension("tmp")).unwrap();
        assert!(write_whole(&path, b"new").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
