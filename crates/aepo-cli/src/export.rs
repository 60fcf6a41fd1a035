//! What does a run hand on when it has ended? `model/`, a directory that every program loads, whole or not at all.

use std::path::{Path, PathBuf};

use aepo_engine::Engine;
use aepo_engine::checkpoint::Precision;
use anyhow::Context as _;

use crate::source::TokenizerFiles;

const MODEL: &str = "model";

/// The model of a run, where it has left one. Whoever trains further takes it away first, so that it is never older
/// than the newest checkpoint.
pub fn model_of(run: &Path) -> Option<PathBuf> {
    let path = run.join(MODEL);
    path.join("config.json").is_file().then_some(path)
}

/// Writes `model/`: weights and the files about text, for shipping and for training to start from. Weights are in bf16,
/// half their size; where LoRA's matrices were merged into them they are in f32, because what those add is often smaller
/// than a step of bf16.
pub fn write(run: &Path, engine: &Engine, tokenizer: &TokenizerFiles) -> anyhow::Result<PathBuf> {
    let precision = if engine.has_lora() { Precision::F32 } else { Precision::Bf16 };
    let (path, temporary) = (run.join(MODEL), run.join(".model.tmp"));
    let write = || -> anyhow::Result<()> {
        // Of a writer that was killed.
        remove_all(&temporary)?;
        std::fs::create_dir(&temporary)?;
        engine.export(&temporary, precision)?;
        tokenizer.write(&temporary)?;
        remove(run)?;
        std::fs::rename(&temporary, &path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Takes `model/` away, where there is one.
pub fn remove(run: &Path) -> anyhow::Result<()> {
    let (path, old) = (run.join(MODEL), run.join(".model.old"));
    let remove = || -> std::io::Result<()> {
        remove_all(&old)?;
        // Under its name it is whole at every moment.
        match std::fs::rename(&path, &old) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| remove_all(&old)),
        }
    };
    remove().with_context(|| format!("cannot remove {}", path.display()))
}

fn remove_all(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
