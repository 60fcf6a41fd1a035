//! The AEPO pipeline: data, prompts, rollouts, scores and updates for tool-using agents, as plain numbers.
//!
//! Read the modules in the order of the data's path: `data`, `prompt`, `rollout`, `score`, `train`; `run` names the
//! stages of a training step. This crate opens no file, no socket and no process, and reads no clock.
pub mod algo;
pub mod apply;
pub mod config;
pub mod data;
pub mod eval;
pub mod policy;
pub mod prompt;
pub mod record;
pub mod rollout;
pub mod run;
pub mod score;
pub mod seed;
pub mod sft;
pub mod stop;
pub mod tool;
pub mod train;

#[cfg(test)]
mod testing;
