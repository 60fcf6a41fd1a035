//! Which bytes are a model's weights? The files of a directory, each tensor checked before memory is taken for any.
//!
//! Tensors are converted in the order of the parameter vector straight into it. One file is mapped at a time, so that
//! loading takes the parameters in f32 and one mapped file.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;

use super::convert::{append, is_readable};
use super::error::WeightsError;
use super::map::map;
use super::{CONFIG, GENERATION_CONFIG, INDEX, WEIGHTS};
use crate::config::{ConfigError, ModelConfig};
use crate::error::EngineError;
use crate::layout::{Layout, Tensor};
use crate::weights::Kept;

const HEAD: &str = "lm_head.weight";
/// No JSON file of a model directory is larger; the index of the largest models has some hundred kilobytes.
const MAX_JSON_BYTES: u64 = 1 << 26;

/// Reads a model directory. Returns the weights in layout order.
pub fn load_model(dir: &Path) -> Result<(ModelConfig, Vec<f32>), EngineError> {
    load_model_as(dir)
}

/// [`load_model`] into numbers of another precision.
pub fn load_model_as<N: Kept>(dir: &Path) -> Result<(ModelConfig, Vec<N>), EngineError> {
    let config = parse_config(&dir.join(CONFIG), &read_json(&dir.join(CONFIG))?)?;
    let (files, index) = find_files(dir)?;
    let params = load(&config, &files, index.as_ref())?;
    Ok((config, params))
}

/// Parses a model's two files; `label` names their directory in errors. Returns the weights in layout order.
pub fn parse_model(label: &Path, config: &[u8], weights: &[u8]) -> Result<(ModelConfig, Vec<f32>), EngineError> {
    let config = parse_config(&label.join(CONFIG), config)?;
    let params = load(&config, &[WeightsFile { path: label.join(WEIGHTS), bytes: Some(weights) }], None)?;
    Ok((config, params))
}

/// The `generation_config.json` of a directory, if it has one.
pub fn load_generation_config(dir: &Path) -> Result<Option<String>, EngineError> {
    let path = dir.join(GENERATION_CONFIG);
    let bytes = match read_json(&path) {
        Err(EngineError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let wrong = |e: String| weights_error(&path, WeightsError::GenerationConfig(e));
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).map_err(|e| wrong(e.to_string()))?;
    String::from_utf8(bytes).map(Some).map_err(|e| wrong(e.to_string()))
}

fn parse_config(path: &Path, bytes: &[u8]) -> Result<ModelConfig, EngineError> {
    let config_error = |source| EngineError::Config { path: path.to_owned(), source };
    let text = std::str::from_utf8(bytes).map_err(|_| config_error(ConfigError::Json("not UTF-8".into())))?;
    ModelConfig::from_json(text).map_err(config_error)
}

/// One file of weights.
struct WeightsFile<'a> {
    path: PathBuf,
    /// Its bytes, where they are in memory already.
    bytes: Option<&'a [u8]>,
}

enum Bytes<'a> {
    Mapped(Mmap),
    Borrowed(&'a [u8]),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Borrowed(bytes) => bytes,
        }
    }
}

impl<'a> WeightsFile<'a> {
    fn open(&self) -> Result<Bytes<'a>, EngineError> {
        match self.bytes {
            Some(bytes) => Ok(Bytes::Borrowed(bytes)),
            None => map(&self.path).map(Bytes::Mapped).map_err(|e| io_error(&self.path, e)),
        }
    }

    fn error(&self, e: WeightsError) -> EngineError {
        weights_error(&self.path, e)
    }
}

/// `model.safetensors.index.json`; its other keys are of no use here.
#[derive(Deserialize)]
struct Index {
    /// Tensor to file.
    weight_map: BTreeMap<String, String>,
}

/// Where a tensor lies and what it says of itself.
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

/// The weights file, or else the shards that the index names, in order of their names. `transformers` too looks for
/// them in this order.
fn find_files(dir: &Path) -> Result<(Vec<WeightsFile<'static>>, Option<Index>), EngineError> {
    let single = dir.join(WEIGHTS);
    if single.exists() {
        return Ok((vec![WeightsFile { path: single, bytes: None }], None));
    }
    let path = dir.join(INDEX);
    let bytes = match read_json(&path) {
        Err(EngineError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let hint = match dir.join("pytorch_model.bin").exists() || dir.join("pytorch_model.bin.index.json").exists()
            {
                true => "; pytorch_model.bin is not read: convert it to safetensors",
                false => "",
            };
            return Err(weights_error(dir, WeightsError::NoWeights(hint)));
        }
        bytes => bytes?,
    };
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|e| weights_error(&path, WeightsError::Index(e.to_string())))?;
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    for (tensor, file) in &index.weight_map {
        if !is_plain_name(file) {
            let (tensor, file) = (tensor.clone(), file.clone());
            return Err(weights_error(&path, WeightsError::ForeignShard { tensor, file }));
        }
        files.entry(file).or_insert(tensor);
    }
    let mut found = Vec::with_capacity(files.len());
    for (file, tensor) in files {
        let path = dir.join(file);
        if !path.exists() {
            return Err(weights_error(&path, WeightsError::MissingShard { tensor: tensor.into() }));
        }
        found.push(WeightsFile { path, bytes: None });
    }
    Ok((found, Some(index)))
}

/// Whether joining it to a directory gives a file in this directory.
fn is_plain_name(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !file.contains(['/', '\\', '\0'])
}

fn load<N: Kept>(
    config: &ModelConfig,
    files: &[WeightsFile<'_>],
    index: Option<&Index>,
) -> Result<Vec<N>, EngineError> {
    let layout = Layout::new(config);
    let entries = survey(files, index)?;
    check(config, &layout, files, &entries)?;
    let mut params: Vec<N> = Vec::new();
    let n_bytes = layout.n_parameters() * size_of::<N>();
    params.try_reserve_exact(layout.n_parameters()).map_err(|_| files[0].error(WeightsError::NoMemory { n_bytes }))?;
    // A tied head is read behind all others, compared, and dropped.
    let head = Tensor { name: HEAD.into(), shape: vec![config.vocab_size, config.hidden_size], range: 0..0 };
    let redundant = config.tie_word_embeddings && entries.contains_key(HEAD);
    let wanted: Vec<&Tensor> = layout.tensors.iter().chain(redundant.then_some(&head)).collect();
    let mut next = 0;
    while let Some(entry) = wanted.get(next).and_then(|t| entries.get(&t.name)) {
        let file = &files[entry.file];
        let bytes = file.open()?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&file.path, e))?;
        while let Some(&tensor) =
            wanted.get(next).filter(|t| entries.get(&t.name).is_some_and(|e| e.file == entry.file))
        {
            let missing = || file.error(missing(&tensor.name, config));
            let view = tensors.tensor(&tensor.name).map_err(|_| missing())?;
            // Checked again: the file has been opened anew since.
            check_shape(tensor, view.shape()).map_err(|e| file.error(e))?;
            if std::ptr::eq(tensor, &head) {
                let mut numbers = Vec::new();
                append(HEAD, &view, &mut numbers).map_err(|e| file.error(e))?;
                if params[layout.embed.clone()] != numbers {
                    return Err(file.error(WeightsError::HeadIsNotTied));
                }
            } else {
                append(&tensor.name, &view, &mut params).map_err(|e| file.error(e))?;
            }
            next += 1;
        }
    }
    Ok(params)
}

/// Reads the header of every file.
fn survey(files: &[WeightsFile<'_>], index: Option<&Index>) -> Result<BTreeMap<String, Entry>, EngineError> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (i, file) in files.iter().enumerate() {
        let bytes = file.open()?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&file.path, e))?;
        for (name, view) in tensors.iter() {
            let entry = Entry { file: i, dtype: view.dtype(), shape: view.shape().to_vec() };
            if let Some(other) = entries.insert(name.to_owned(), entry) {
                let other = files[other.file].path.clone();
                return Err(file.error(WeightsError::Duplicate { tensor: name.into(), other }));
            }
        }
    }
    for (tensor, name) in index.iter().flat_map(|index| &index.weight_map) {
        let promised = |file: &WeightsFile<'_>| file.path.file_name().is_some_and(|f| f == name.as_str());
        if !entries.get(tensor).is_some_and(|entry| promised(&files[entry.file])) {
            let file = files.iter().find(|file| promised(file)).unwrap_or(&files[0]);
            return Err(file.error(WeightsError::NotInShard { tensor: tensor.clone() }));
        }
    }
    Ok(entries)
}

/// Whether these are the tensors of the model, no fewer and no more.
fn check(
    config: &ModelConfig,
    layout: &Layout,
    files: &[WeightsFile<'_>],
    entries: &BTreeMap<String, Entry>,
) -> Result<(), EngineError> {
    let Some(first) = files.first() else {
        let all = &layout.tensors[0].name;
        return Err(weights_error(Path::new(INDEX), missing(all, config)));
    };
    for tensor in &layout.tensors {
        let entry = entries.get(&tensor.name).ok_or_else(|| first.error(missing(&tensor.name, config)))?;
        let file = &files[entry.file];
        check_shape(tensor, &entry.shape).map_err(|e| file.error(e))?;
        if !is_readable(entry.dtype) {
            let found = format!("{:?}", entry.dtype);
            return Err(file.error(WeightsError::Type { tensor: tensor.name.clone(), found }));
        }
    }
    let known: std::collections::BTreeSet<&str> = layout.tensors.iter().map(|t| t.name.as_str()).collect();
    for (name, entry) in entries {
        // Tensors that other programs store although the configuration makes them redundant.
        let redundant = (name == HEAD && config.tie_word_embeddings) || name.ends_with("rotary_emb.inv_freq");
        if !known.contains(name.as_str()) && !redundant {
            return Err(files[entry.file].error(WeightsError::Unexpected { tensor: name.clone() }));
        }
    }
    Ok(())
}

pub(super) fn check_shape(tensor: &Tensor, found: &[usize]) -> Result<(), WeightsError> {
    match found == tensor.shape {
        true => Ok(()),
        false => Err(WeightsError::Shape {
            tensor: tensor.name.clone(),
            found: found.to_vec(),
            expected: tensor.shape.clone(),
        }),
    }
}

fn missing(tensor: &str, config: &ModelConfig) -> WeightsError {
    let hint = match tensor == HEAD && !config.tie_word_embeddings {
        true => ": if the embedding is the head, config.json must say tie_word_embeddings",
        false => "",
    };
    WeightsError::Missing { tensor: tensor.into(), hint }
}

pub(super) fn weights_error(path: &Path, source: WeightsError) -> EngineError {
    EngineError::Weights { path: path.to_owned(), source }
}

pub(super) fn io_error(path: &Path, source: std::io::Error) -> EngineError {
    EngineError::Io { path: path.to_owned(), source }
}

pub(super) fn damaged(path: &Path, e: SafeTensorError) -> EngineError {
    weights_error(path, WeightsError::Damaged(e.to_string()))
}

pub(super) fn read_json(path: &Path) -> Result<Vec<u8>, EngineError> {
    let read = || {
        let metadata = std::fs::metadata(path)?;
        match metadata.is_file() && metadata.len() <= MAX_JSON_BYTES {
            true => std::fs::read(path),
            false => Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file of a sensible size")),
        }
    };
    read().map_err(|e| io_error(path, e))
}
