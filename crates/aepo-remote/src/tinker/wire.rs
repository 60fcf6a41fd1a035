//! How do a batch and its results look as bytes? The messages of package `tinker_public` that a client needs.
//!
//! Field numbers are those of `tinker_public_pb2` in the published `tinker` 0.38.0; SkyRL 0.4.0 reads the same file.
//! Numbers inside `bytes` fields are little-endian. Fields that nobody here writes or reads are left out: a reader of
//! protobuf passes them over.

use std::collections::BTreeMap;

use prost::Message;

/// Media type of these messages.
pub const PROTOBUF: &str = "application/x-protobuf";

/// What a `DType` says: 32-bit floats.
pub const FLOAT32: i32 = 1;
/// What a `DType` says: 64-bit integers.
pub const INT64: i32 = 2;

/// Body of `POST /api/v1/forward_backward`.
#[derive(Clone, PartialEq, Message)]
pub struct ForwardBackwardRequest {
    /// Whose gradient.
    #[prost(string, tag = "1")]
    pub model_id: String,
    /// Which request of the model, from 1.
    #[prost(int32, tag = "2")]
    pub seq_id: i32,
    /// The sequences.
    #[prost(message, repeated, tag = "3")]
    pub data: Vec<Datum>,
    /// Name of the loss.
    #[prost(string, tag = "4")]
    pub loss_fn: String,
    /// Its numbers.
    #[prost(btree_map = "string, double", tag = "5")]
    pub loss_fn_config: BTreeMap<String, f64>,
    /// Whether no gradient is wanted.
    #[prost(bool, tag = "6")]
    pub forward_only: bool,
}

/// A sequence with what the loss needs of it.
#[derive(Clone, PartialEq, Message)]
pub struct Datum {
    /// What the model reads.
    #[prost(message, repeated, tag = "1")]
    pub model_input: Vec<Chunk>,
    /// By name, one number a token read.
    #[prost(btree_map = "string, message", tag = "2")]
    pub loss_fn_inputs: BTreeMap<String, Tensor>,
}

/// A part of what the model reads; other kinds than text are not written.
#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    /// Tokens.
    #[prost(message, optional, tag = "1")]
    pub encoded_text: Option<EncodedText>,
}

/// Tokens.
#[derive(Clone, PartialEq, Message)]
pub struct EncodedText {
    /// 32-bit integers.
    #[prost(bytes = "vec", tag = "1")]
    pub tokens: Vec<u8>,
}

/// Numbers. A sparse one is not read.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// The numbers; absent from a sparse tensor.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub dense: Option<Vec<u8>>,
    /// [`FLOAT32`] or [`INT64`].
    #[prost(int32, tag = "3")]
    pub dtype: i32,
    /// Lengths of its dimensions; empty means one dimension.
    #[prost(int64, repeated, tag = "4")]
    pub shape: Vec<i64>,
}

/// Result of a pass.
#[derive(Clone, PartialEq, Message)]
pub struct ForwardBackwardOutput {
    /// What kind of outputs.
    #[prost(string, tag = "1")]
    pub loss_fn_output_type: String,
    /// Outputs of all sequences, usually in one record.
    #[prost(message, repeated, tag = "2")]
    pub loss_fn_outputs: Vec<ArrayRecord>,
    /// Of the whole batch.
    #[prost(btree_map = "string, double", tag = "3")]
    pub metrics: BTreeMap<String, f64>,
}

/// The same fields of several sequences.
#[derive(Clone, PartialEq, Message)]
pub struct ArrayRecord {
    /// By name.
    #[prost(btree_map = "string, message", tag = "2")]
    pub fields: BTreeMap<String, BatchedTensor>,
    /// How many sequences.
    #[prost(int64, tag = "3")]
    pub num_datums: i64,
}

/// Numbers of several sequences, one behind the other.
#[derive(Clone, PartialEq, Message)]
pub struct BatchedTensor {
    /// All of them.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
    /// 64-bit integers: where each sequence begins in `data`, bytes, and where the last one ends.
    #[prost(bytes = "vec", tag = "2")]
    pub offsets: Vec<u8>,
    /// [`FLOAT32`] or [`INT64`].
    #[prost(int32, tag = "3")]
    pub dtype: i32,
    /// Lengths of its dimensions behind the first.
    #[prost(int64, repeated, tag = "4")]
    pub trailing_shape: Vec<i64>,
}

impl Tensor {
    /// 32-bit floats.
    #[must_use]
    pub fn floats(numbers: &[f32]) -> Tensor {
        let dense = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor { dense: Some(dense), dtype: FLOAT32, shape: vec![numbers.len() as i64] }
    }

    /// 64-bit integers.
    #[must_use]
    pub fn integers(numbers: &[u32]) -> Tensor {
        let dense = numbers.iter().flat_map(|&x| i64::from(x).to_le_bytes()).collect();
        Tensor { dense: Some(dense), dtype: INT64, shape: vec![numbers.len() as i64] }
    }
}

impl Chunk {
    /// Text.
    #[must_use]
    pub fn text(tokens: &[u32]) -> Chunk {
        let tokens = tokens.iter().flat_map(|&x| (x as i32).to_le_bytes()).collect();
        Chunk { encoded_text: Some(EncodedText { tokens }) }
    }
}

/// Little-endian 32-bit floats; `None` where bytes are left over.
#[must_use]
pub fn read_floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (words, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| words.iter().map(|&w| f32::from_le_bytes(w)).collect())
}

/// Little-endian 64-bit integers; `None` where bytes are left over.
#[must_use]
pub fn read_integers(bytes: &[u8]) -> Option<Vec<i64>> {
    let (words, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| words.iter().map(|&w| i64::from_le_bytes(w)).collect())
}

impl ForwardBackwardOutput {
    /// The floats of a field, sequence by sequence; `None` where it is not there as its form says.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Vec<Vec<f32>>> {
        let mut all = Vec::new();
        for record in &self.loss_fn_outputs {
            let tensor = record.fields.get(name).filter(|t| t.dtype == FLOAT32)?;
            let offsets = read_integers(&tensor.offsets)?;
            if usize::try_from(record.num_datums).ok()?.checked_add(1)? != offsets.len() {
                return None;
            }
            for pair in offsets.windows(2) {
                let (start, end) = (usize::try_from(pair[0]).ok()?, usize::try_from(pair[1]).ok()?);
                all.push(read_floats(tensor.data.get(start..end)?)?);
            }
        }
        Some(all)
    }

    /// The opposite: one record of one field.
    #[must_use]
    pub fn of(fields: &[(&str, &[Vec<f32>])], num_datums: usize) -> ForwardBackwardOutput {
        let batched = |rows: &[Vec<f32>]| {
            let mut tensor = BatchedTensor { dtype: FLOAT32, offsets: vec![0; 8], ..BatchedTensor::default() };
            for row in rows {
                tensor.data.extend(row.iter().flat_map(|x| x.to_le_bytes()));
                tensor.offsets.extend((tensor.data.len() as i64).to_le_bytes());
            }
            tensor
        };
        let fields = fields.iter().map(|(name, rows)| ((*name).to_owned(), batched(rows))).collect();
        let record = ArrayRecord { fields, num_datums: num_datums as i64 };
        let (loss_fn_outputs, loss_fn_output_type) = (vec![record], "scalar".to_owned());
        ForwardBackwardOutput { loss_fn_output_type, loss_fn_outputs, metrics: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests;
