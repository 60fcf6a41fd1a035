//! What does training go on from besides the weights? AdamW's moments and the number of its steps.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use safetensors::SafeTensors;

use super::convert::{Precision, append};
use super::error::WeightsError;
use super::map::map;
use super::read::{damaged, io_error, weights_error};
use super::write::write_tensors;
use crate::adamw::Moments;
use crate::error::EngineError;
use crate::layout::Tensor;

/// Safetensors under another ending, because vLLM takes every `*.safetensors` of a directory for weights.
const OPTIMIZER: &str = "optimizer.state";
const FIRST: &str = "first";
const SECOND: &str = "second";

/// Writes the optimiser's state into `dir`.
pub fn save_moments(dir: &Path, moments: &Moments) -> Result<(), EngineError> {
    let (first, second) = (&moments.first, &moments.second);
    let tensor = |name: &str, range: Range<usize>| Tensor { name: name.into(), shape: vec![range.len()], range };
    let tensors = [tensor(FIRST, 0..first.len()), tensor(SECOND, 0..second.len())];
    let numbers = |t: &Tensor| Cow::Borrowed(&(if t.name == FIRST { first } else { second })[..]);
    let metadata = HashMap::from([("n_steps".to_owned(), moments.n_steps.to_string())]);
    write_tensors(&dir.join(OPTIMIZER), &tensors, &numbers, Precision::F32, metadata)
}

/// Reads what [`save_moments`] wrote for `n_parameters` numbers that are trained.
pub fn load_moments(dir: &Path, n_parameters: usize) -> Result<Moments, EngineError> {
    let path = dir.join(OPTIMIZER);
    let bytes = map(&path).map_err(|e| io_error(&path, e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&path, e))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&path, e))?;
    let n_steps: Option<u64> = header.metadata().as_ref().and_then(|m| m.get("n_steps")?.parse().ok());
    let n_steps = n_steps.ok_or_else(|| weights_error(&path, WeightsError::NoSteps))?;
    let read = |name: &'static str| {
        let missing = || WeightsError::Missing { tensor: name.into(), hint: "" };
        let view = tensors.tensor(name).map_err(|_| weights_error(&path, missing()))?;
        // Before the first step there are no moments yet.
        if view.shape() != [n_parameters] && !(n_steps == 0 && view.shape() == [0]) {
            let found = view.shape().to_vec();
            return Err(weights_error(&path, WeightsError::Moments { tensor: name, found, n_parameters }));
        }
        let mut numbers = Vec::with_capacity(view.shape()[0]);
        append(name, &view, &mut numbers).map_err(|e| weights_error(&path, e))?;
        Ok(numbers)
    };
    Ok(Moments { first: read(FIRST)?, second: read(SECOND)?, n_steps })
}
