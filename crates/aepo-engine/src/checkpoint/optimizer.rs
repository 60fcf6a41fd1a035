//! What does training go on from besides the weights? AdamW's moments and the number of its steps.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;

use super::convert::{Precision, append};
use super::error::WeightsError;
use super::map::map;
use super::read::{damaged, io_error, weights_error};
use super::write::{Numbers, write_tensors};
use crate::adamw::Moments;
use crate::error::EngineError;

const OPTIMIZER: &str = "optimizer.safetensors";

/// Writes the optimiser's state into `dir`.
pub fn save_moments(dir: &Path, moments: &Moments) -> Result<(), EngineError> {
    let tensors = [("first", &moments.first), ("second", &moments.second)].map(|(name, x)| Numbers {
        name,
        shape: vec![x.len()],
        numbers: x,
    });
    let metadata = HashMap::from([("n_steps".to_owned(), moments.n_steps.to_string())]);
    write_tensors(&dir.join(OPTIMIZER), &tensors, Precision::F32, metadata)
}

/// Reads what [`save_moments`] wrote for a model of `n_parameters`.
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
    Ok(Moments { first: read("first")?, second: read("second")?, n_steps })
}
