//! Why are a directory's weights not those of its model? Every message names the tensor and, where there is one, a way.

use std::path::PathBuf;

/// What is wrong with weights; the file is named by what holds this error.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Not a safetensors file, or not all of it.
    #[error("damaged or truncated safetensors file ({0})")]
    Damaged(String),
    /// Neither a weights file nor an index.
    #[error("no weights: neither model.safetensors nor model.safetensors.index.json is here{0}")]
    NoWeights(&'static str),
    /// The index is not what it should be.
    #[error("not an index of shards: {0}")]
    Index(String),
    /// The index leads out of its directory.
    #[error("tensor `{tensor}` is said to be in `{file}`, which is no name of a file in this directory")]
    ForeignShard {
        /// Which tensor.
        tensor: String,
        /// The name in the index.
        file: String,
    },
    /// A shard that the index names is not there.
    #[error("missing, although {INDEX} names it for tensor `{tensor}`: fetch this file too", INDEX = super::INDEX)]
    MissingShard {
        /// A tensor that it should hold.
        tensor: String,
    },
    /// A shard lacks a tensor that the index promises.
    #[error("tensor `{tensor}` is not in this file, although {INDEX} says so", INDEX = super::INDEX)]
    NotInShard {
        /// Which tensor.
        tensor: String,
    },
    /// A tensor of the model is nowhere.
    #[error("tensor `{tensor}` is missing{hint}")]
    Missing {
        /// Which tensor.
        tensor: String,
        /// What may help.
        hint: &'static str,
    },
    /// A tensor that the model has not.
    #[error("tensor `{tensor}` belongs to no model that config.json describes")]
    Unexpected {
        /// Which tensor.
        tensor: String,
    },
    /// Two files hold the same tensor.
    #[error("tensor `{tensor}` is also in {other}: remove the file that is not of this model")]
    Duplicate {
        /// Which tensor.
        tensor: String,
        /// The other file.
        other: PathBuf,
    },
    /// A tensor of another model.
    #[error("tensor `{tensor}` has shape {found:?}, config.json asks for {expected:?}")]
    Shape {
        /// Which tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// What the configuration implies.
        expected: Vec<usize>,
    },
    /// Numbers in a type that is not read.
    #[error("tensor `{tensor}`: type {found} is not supported (F32, F16, BF16 are)")]
    Type {
        /// Which tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// An infinite number, or none.
    #[error("tensor `{tensor}`: holds a number that is not finite")]
    NotFinite {
        /// Which tensor.
        tensor: String,
    },
    /// A head of its own where the configuration says that the embedding is the head.
    #[error(
        "tensor `lm_head.weight` differs from the embedding, although config.json says tie_word_embeddings: if the \
         head is its own, set that key to false"
    )]
    HeadIsNotTied,
    /// More weights than memory.
    #[error("there is no memory for {n_bytes} bytes of weights")]
    NoMemory {
        /// What all weights take.
        n_bytes: usize,
    },
    /// The description of LoRA's matrices is no JSON object.
    #[error("not a JSON object: {0}")]
    AdapterConfig(String),
    /// LoRA's matrices are of a kind that is not built, or not those that were asked for.
    #[error("`{key}` is {found}, but must be {wanted}")]
    Adapter {
        /// Key of the description.
        key: String,
        /// Its value; `missing` where it has none.
        found: String,
        /// What is possible.
        wanted: String,
    },
    /// The optimiser's file lacks its number of steps.
    #[error("metadata key `n_steps` is missing")]
    NoSteps,
    /// The optimiser's state is of another model.
    #[error("tensor `{tensor}` has shape {found:?}, the model has {n_parameters} parameters")]
    Moments {
        /// Which tensor.
        tensor: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// Numbers that it should have.
        n_parameters: usize,
    },
    /// The file of sampling defaults is no JSON object.
    #[error("not a JSON object: {0}")]
    GenerationConfig(String),
}
