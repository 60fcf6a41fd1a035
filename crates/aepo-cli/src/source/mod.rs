//! Where does a model come from, and what comes with its weights? All kinds of places, brought to one form.

mod chat;
mod facts;
mod files;
mod gguf;
mod hub;

use std::path::{Path, PathBuf};

use aepo::policy::PolicyVersion;
use aepo_engine::Engine;
use aepo_engine::checkpoint::{ADAPTER_CONFIG, Adapter, load_adapter_config};
use aepo_engine::gguf::is_gguf;
use aepo_engine::setup::{Setup, Train};
use aepo_remote::tinker::ServerState;
use aepo_remote::tinker::learner::STATE;
use anyhow::Context as _;

pub use chat::Chat;
pub use facts::{check_expected, expected, look, shape};
pub use files::TokenizerFiles;
pub use hub::{Named, bring, hub_name, is_pinned, named};

use crate::assets::{self, QUICKSTART};
use crate::checkpoint;
use crate::error::usage;
use crate::export;
use crate::run_dir;

/// Where a model is.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// Inside the program.
    Embedded,
    /// A directory with `config.json`, weights as safetensors, and `tokenizer.json`.
    Directory(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
}

/// A model as it was found: weights that can be sampled from and trained, and what makes text of its ids.
pub struct Source {
    /// Weights.
    pub engine: Engine,
    /// What messages call the place of `files`.
    pub label: PathBuf,
    /// The files about text that lie beside weights, to be handed on with them.
    pub files: TokenizerFiles,
    /// How it wants conversations to be written.
    pub chat: Chat,
}

/// The model that `name` means: `quickstart`, a GGUF file, a model directory, or a run directory (the model that it
/// ended with, or its newest whole checkpoint).
pub fn place(name: &str) -> anyhow::Result<Place> {
    if name == QUICKSTART {
        return Ok(Place::Embedded);
    }
    let path = Path::new(name);
    if path.join(run_dir::CONFIG).is_file() {
        return in_run(path);
    }
    match path {
        _ if path.is_dir() => Ok(Place::Directory(path.to_owned())),
        _ if path.is_file() && is_gguf(path) => Ok(Place::Gguf(path.to_owned())),
        _ if path.exists() => Err(usage(format!("{name} is no model: neither a directory nor a .gguf file"), PLACES)),
        _ => Err(usage(format!("there is no model in {name}: no such directory"), PLACES)),
    }
}

const PLACES: &str = "name `quickstart`, a run directory, a .gguf file, a directory of config.json, \
                      model.safetensors and tokenizer.json, or org/name of the Hugging Face hub";

fn in_run(dir: &Path) -> anyhow::Result<Place> {
    if let Some(model) = export::model_of(dir) {
        return Ok(Place::Directory(model));
    }
    let checkpoints = dir.join("checkpoints");
    let checkpoint::Found { newest, damaged } = checkpoint::newest(&checkpoints)?;
    if let Some((path, _)) = newest {
        return Ok(Place::Directory(path));
    }
    let damaged: String = damaged.iter().map(|d| format!("; {}: {}", d.path.display(), d.why)).collect();
    anyhow::bail!("{} holds no whole checkpoint{damaged}", checkpoints.display());
}

/// Loads a model to sample from or to train afresh.
pub fn load(place: &Place, setup: &Setup) -> anyhow::Result<Source> {
    match place {
        Place::Embedded => {
            let label = Path::new("the model inside the program");
            let mut engine = Engine::from_bytes(label, assets::MODEL_CONFIG, assets::MODEL_WEIGHTS, setup)?;
            engine.base_name = QUICKSTART.to_owned();
            let files = TokenizerFiles::alone(assets::TOKENIZER.to_vec());
            Ok(Source { engine, label: label.to_owned(), files, chat: Chat::default() })
        }
        Place::Directory(dir) if is_adapter(dir) => with_adapter(dir, setup),
        Place::Directory(dir) => {
            let mut engine = Engine::load_as(dir, setup)?;
            engine.base_name = absolute(dir);
            in_directory(engine, dir)
        }
        Place::Gguf(path) => {
            let mut source = gguf::load(path, setup)?;
            source.engine.base_name = absolute(path);
            Ok(source)
        }
    }
}

/// Loads a checkpoint to go on from exactly.
pub fn load_checkpoint(dir: &Path, setup: &Setup) -> anyhow::Result<Source> {
    let mut source = load(&Place::Directory(dir.to_owned()), setup)?;
    match dir.join(STATE).is_file() {
        // The optimiser is on the server that trained it; here are the matrices, and how many steps made them.
        true => source.engine.take_adapter(dir, PolicyVersion(ServerState::read(dir)?.version))?,
        false => source.engine.load_optimizer(dir)?,
    }
    Ok(source)
}

/// Whether a directory holds what LoRA adds to a model, and not a model.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).is_file()
}

/// Loads the model that LoRA's matrices belong to, with them.
fn with_adapter(dir: &Path, setup: &Setup) -> anyhow::Result<Source> {
    let Adapter { spec, base } = load_adapter_config(dir)?;
    let at = || format!("{}: base_model_name_or_path is `{base}`", dir.join(ADAPTER_CONFIG).display());
    if setup.train == Train::All {
        let message = format!("{} holds what LoRA adds to a model: all weights cannot be trained", dir.display());
        return Err(usage(message, "set lora.rank, lora.alpha and lora.targets to those of its adapter_config.json"));
    }
    let base = match hub_name(&base, Path::new("")) {
        Some(name) => hub::from_cache(&name),
        None => place(&base),
    };
    let base = base.with_context(at)?;
    if matches!(&base, Place::Directory(dir) if is_adapter(dir)) {
        anyhow::bail!("{}, which holds what LoRA adds to a model, and not a model", at());
    }
    let train = if setup.train == Train::Nothing { Train::Lora(spec) } else { setup.train.clone() };
    let mut source = load(&base, &Setup { train, ..setup.clone() })?;
    source.engine.load_adapter(dir)?;
    // What a checkpoint was written with counts more than what lies beside the model.
    match dir.join(checkpoint::TOKENIZER).is_file() {
        true => in_directory(source.engine, dir),
        false => Ok(source),
    }
}

/// A path that means the same wherever it is read.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn in_directory(engine: Engine, dir: &Path) -> anyhow::Result<Source> {
    let files = TokenizerFiles::read(dir)?;
    let chat = Chat::of(dir, &files, engine.config())?;
    Ok(Source { engine, label: dir.to_owned(), files, chat })
}

#[cfg(test)]
mod tests;
