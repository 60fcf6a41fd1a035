//! How is a language model read from a GGUF file? Shape, weights and tokenizer from one file, refused where in doubt.
//!
//! `reader` finds what the file says it holds, `names` makes a shape of it, `quants` numbers of blocks, `tokenizer` a
//! `tokenizer.json`; here the weights come into the engine's layout. No memory is asked for on the word of a file that
//! its length does not bear out: what is held stays within a small multiple of the file.

pub mod error;
pub mod names;
pub mod quants;
pub mod reader;
pub mod rope;
pub mod tokenizer;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

pub use error::GgufError;
use reader::GgufFile;
pub use tokenizer::SpecialIds;

use crate::config::{MAX_HEAD_DIM, ModelConfig};
use crate::error::EngineError;
use crate::layout::Layout;
use crate::weights::Kept;

/// A language model, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufModel<N = f32> {
    /// Its shape.
    pub config: ModelConfig,
    /// Its weights in the order of [`Layout`], dequantised.
    pub params: Vec<N>,
    /// What it says about text.
    pub text: GgufText,
}

/// What makes text of a model's ids.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufText {
    /// The tokenizer as the text of a `tokenizer.json`.
    pub tokenizer_json: String,
    /// Ids with a meaning.
    pub special_ids: SpecialIds,
    /// The Jinja template of its conversations; the default one where the file has several.
    pub chat_template: Option<String>,
}

/// Whether a path names a GGUF file.
#[must_use]
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Reads a file.
pub fn load(path: &Path) -> Result<GgufModel, EngineError> {
    load_as(path)
}

/// [`load`] into numbers of another precision.
pub fn load_as<N: Kept>(path: &Path) -> Result<GgufModel<N>, EngineError> {
    let file = File::open(path).map_err(|source| EngineError::Io { path: path.to_owned(), source })?;
    read_as(file).map_err(|source| EngineError::Gguf { path: path.to_owned(), source })
}

/// Reads a file from an open source.
pub fn read(source: impl Read + Seek) -> Result<GgufModel, GgufError> {
    read_as(source)
}

/// [`read`] into numbers of another precision.
pub fn read_as<N: Kept>(source: impl Read + Seek) -> Result<GgufModel<N>, GgufError> {
    let (mut file, config, layout, text) = head(source)?;
    // The vocabulary is copied; its room is worth having before the weights take theirs.
    file.keys.clear();
    let mut params: Vec<N> = Vec::with_capacity(layout.n_parameters());
    for tensor in &layout.tensors {
        let name = names::in_file(&tensor.name);
        let info = file.tensors.get(&name).cloned().ok_or_else(|| GgufError::MissingTensor { name: name.clone() })?;
        N::extend(&mut params, tensor.range.len(), |out| {
            file.read_tensor(&info, out)?;
            if names::is_interleaved(config.model_type, &tensor.name) {
                names::rotate_halves(out, config.head_dim, config.hidden_size);
            }
            Ok::<(), GgufError>(())
        })?;
        if let Some(at) = params[tensor.range.clone()].iter().position(|x| !x.is_a_number()) {
            return Err(GgufError::tensor(&name, format!("holds a number that is not finite, at {at}")));
        }
    }
    Ok(GgufModel { config, params, text })
}

/// Reads what a file says besides its weights.
pub fn look(path: &Path) -> Result<(ModelConfig, GgufText), EngineError> {
    let file = File::open(path).map_err(|source| EngineError::Io { path: path.to_owned(), source })?;
    let (_, config, _, text) = head(file).map_err(|source| EngineError::Gguf { path: path.to_owned(), source })?;
    Ok((config, text))
}

fn head<R: Read + Seek>(source: R) -> Result<(GgufFile<R>, ModelConfig, Layout, GgufText), GgufError> {
    let mut file = GgufFile::open(source)?;
    let factors = rope_factors(&mut file)?;
    let config = names::config(&file.keys, &file.tensors, factors.as_deref())?;
    let layout = Layout::new(&config);
    check_tensors(&file, &config, &layout)?;
    let (tokenizer_json, special_ids) = tokenizer::tokenizer(&file.keys, config.vocab_size)?;
    let chat_template = names::text(&file.keys, "tokenizer.chat_template")?.map(str::to_owned);
    Ok((file, config, layout, GgufText { tokenizer_json, special_ids, chat_template }))
}

/// Takes out the tensor that is no weight.
fn rope_factors<R: Read + Seek>(file: &mut GgufFile<R>) -> Result<Option<Vec<f32>>, GgufError> {
    let Some(info) = file.tensors.remove(rope::FACTORS) else { return Ok(None) };
    match info.shape[..] {
        [n] if n <= MAX_HEAD_DIM / 2 => {
            let mut factors = vec![0.0; n];
            file.read_tensor(&info, &mut factors)?;
            Ok(Some(factors))
        }
        _ => Err(GgufError::tensor(rope::FACTORS, format!("has the shape {:?}: the file is damaged", info.shape))),
    }
}

/// That the file has every tensor of the layout in its shape, and no other. After this the file's length bounds what
/// the weights take.
fn check_tensors<R>(file: &GgufFile<R>, config: &ModelConfig, layout: &Layout) -> Result<(), GgufError> {
    let mut known = BTreeSet::new();
    for tensor in &layout.tensors {
        let name = names::in_file(&tensor.name);
        let info = file.tensors.get(&name).ok_or_else(|| GgufError::MissingTensor { name: name.clone() })?;
        if info.shape != tensor.shape {
            let problem = format!("has the shape {:?}, but the file's keys ask for {:?}", info.shape, tensor.shape);
            return Err(GgufError::tensor(&name, problem));
        }
        known.insert(name);
    }
    match file.tensors.keys().find(|name| !known.contains(*name)) {
        Some(name) => {
            let problem = format!("has no place in the architecture {:?} as it is built here", config.model_type);
            Err(GgufError::tensor(name, problem))
        }
        None => Ok(()),
    }
}
