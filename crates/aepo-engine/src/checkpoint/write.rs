//! How does a model come onto the disk? Each file under a temporary name, flushed and renamed; large ones in shards.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use super::convert::{Precision, write as write_numbers};
use super::read::{damaged, io_error};
use super::{CONFIG, GENERATION_CONFIG, INDEX, MAX_SHARD_BYTES, WEIGHTS};
use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::layout::{Layout, Tensor};

/// Gives the numbers of a tensor when its turn to be written comes, so that no second copy of all is made.
pub type Source<'a> = dyn Fn(&Tensor) -> Cow<'a, [f32]> + 'a;

/// [`save_shards`] with [`MAX_SHARD_BYTES`].
pub fn save_model(
    dir: &Path,
    config: &ModelConfig,
    layout: &Layout,
    params: &[f32],
    precision: Precision,
) -> Result<(), EngineError> {
    let numbers = |t: &Tensor| Cow::Borrowed(&params[t.range.clone()]);
    save_shards(dir, config, layout, &numbers, precision, MAX_SHARD_BYTES)
}

/// Writes weights and `config.json` into `dir`: one file where `max_shard_bytes` allows it, or shards and their index.
/// Weights of an earlier, differently divided model are removed when the new ones are there.
pub fn save_shards(
    dir: &Path,
    config: &ModelConfig,
    layout: &Layout,
    numbers: &Source<'_>,
    precision: Precision,
    max_shard_bytes: u64,
) -> Result<(), EngineError> {
    let shards = divide(&layout.tensors, precision, max_shard_bytes);
    let name = |i: usize| match shards.len() {
        1 => WEIGHTS.to_owned(),
        n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
    };
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut weight_map: BTreeMap<&str, String> = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        weight_map.extend(shard.iter().map(|t| (t.name.as_str(), name(i))));
        write_tensors(&dir.join(name(i)), shard, numbers, precision, metadata.clone())?;
    }
    let mut kept: Vec<String> = (0..shards.len()).map(name).collect();
    if shards.len() > 1 {
        let total_size = layout.n_parameters() * precision.n_bytes();
        let index = serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
        write_whole(&dir.join(INDEX), format!("{index:#}\n").as_bytes())?;
        kept.push(INDEX.to_owned());
    }
    write_whole(&dir.join(CONFIG), config.to_json(precision.torch_name()).as_bytes())?;
    remove_others(dir, &kept).map_err(|e| io_error(dir, e))
}

/// Hands a source model's sampling defaults on.
pub fn save_generation_config(dir: &Path, text: &str) -> Result<(), EngineError> {
    write_whole(&dir.join(GENERATION_CONFIG), text.as_bytes())
}

/// Consecutive tensors, as many in a file as fit.
fn divide(tensors: &[Tensor], precision: Precision, max_shard_bytes: u64) -> Vec<&[Tensor]> {
    let size = |t: &Tensor| (t.range.len() * precision.n_bytes()) as u64;
    let mut shards = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        if i > start && filled + size(tensor) > max_shard_bytes {
            shards.push(&tensors[start..i]);
            (start, filled) = (i, 0);
        }
        filled += size(tensor);
    }
    shards.push(&tensors[start..]);
    shards
}

/// Removes weights files of this module's naming that are not `kept`.
fn remove_others(dir: &Path, kept: &[String]) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let numbers = name.strip_prefix("model-").and_then(|n| n.strip_suffix(".safetensors")?.split_once("-of-"));
        let is_number = |n: &str| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit());
        let is_shard = numbers.is_some_and(|(i, n)| is_number(i) && is_number(n));
        if (is_shard || name == WEIGHTS || name == INDEX) && !kept.iter().any(|kept| kept == name) {
            std::fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

/// Writes a safetensors file, tensor by tensor.
pub(super) fn write_tensors(
    path: &Path,
    tensors: &[Tensor],
    numbers: &Source<'_>,
    precision: Precision,
    metadata: HashMap<String, String>,
) -> Result<(), EngineError> {
    // In the order of names, as other writers do.
    let mut sorted: Vec<&Tensor> = tensors.iter().collect();
    sorted.sort_by_key(|t| &t.name);
    let mut end = 0;
    let mut infos = Vec::with_capacity(sorted.len());
    for tensor in &sorted {
        let start = end;
        end += tensor.range.len() * precision.n_bytes();
        let info = TensorInfo { dtype: precision.dtype(), shape: tensor.shape.clone(), data_offsets: (start, end) };
        infos.push((tensor.name.clone(), info));
    }
    let header = Metadata::new(Some(metadata), infos).map_err(|e| damaged(path, e))?;
    let mut header = serde_json::to_vec(&header).map_err(|e| damaged(path, e.into()))?;
    // The data begins at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    write_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        sorted.iter().try_for_each(|tensor| write_numbers(&numbers(tensor), precision, file))
    })
}

/// Writes a file under a temporary name, flushes it to the disk and renames it into place.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    write_with(path, |file| file.write_all(bytes))
}

fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), EngineError> {
    let temporary = path.with_extension("tmp");
    let result = File::create(&temporary).and_then(|file| {
        let mut file = BufWriter::new(file);
        fill(&mut file)?;
        file.into_inner()?.sync_all()
    });
    result.and_then(|()| std::fs::rename(&temporary, path)).map_err(|e| {
        // The error that matters is the first one; a leftover temporary file is harmless.
        let _ = std::fs::remove_file(&temporary);
        io_error(path, e)
    })
}
