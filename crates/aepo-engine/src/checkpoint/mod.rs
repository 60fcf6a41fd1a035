//! How are weights kept? As safetensors with Hugging Face names beside a `config.json`, in one file or in shards.
//!
//! `read` finds the files and checks every tensor before it takes memory for any, `convert` turns bytes into numbers and
//! back, `write` fills a directory, `optimizer` keeps what training needs besides, `adapter` LoRA's matrices as PEFT does. A file appears under its name when it
//! is whole, or not at all.

mod adapter;
mod convert;
mod error;
mod map;
mod optimizer;
mod read;
mod write;

pub use adapter::{ADAPTER_CONFIG, Adapter, load_adapter, load_adapter_config, save_adapter};
pub use convert::Precision;
pub use error::WeightsError;
pub use optimizer::{load_moments, save_moments};
pub use read::{load_generation_config, load_model, load_model_as, parse_model};
pub use write::{Source, save_generation_config, save_model, save_shards, write_whole};

/// Name of the weights file in a model directory.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
/// Name of the shape file in a model directory.
pub const CONFIG: &str = "config.json";
/// Name of the file with another program's sampling defaults, which is handed on unread.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// Bytes of weights in a file at most, where nothing else is asked for; a larger tensor has a file to itself.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

#[cfg(test)]
mod tests;
