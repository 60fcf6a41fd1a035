//! The embedded CPU engine: decoder-only transformers over token trees, forward and hand-derived backward.
//!
//! From the inside out: `real` and `matmul` hold the arithmetic, `kernels` the operations with their derivatives,
//! `layout` and `config` the shape of a model, `model` its training pass over tree batches, `cache`, `decode`,
//! `attend` and `sampler` its generation along forkable paths, `live` what of them is computed next, `watched` what
//! those who serve a model want to know of it, `adamw` and `checkpoint` what moves and keeps the
//! weights, `gguf` what reads those that others wrote in one file, and `engine` puts them behind the pipeline's [`aepo::policy::Policy`].
pub mod adamw;
mod attend;
mod build;
pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod decode;
pub mod engine;
pub mod error;
pub mod gemm;
pub mod gguf;
mod huge;
pub mod kernels;
pub mod layout;
mod linear;
mod live;
pub mod lora;
pub mod matmul;
pub mod memory;
pub mod model;
pub mod packed;
pub mod real;
pub mod sampler;
pub mod setup;
pub mod team;
#[cfg(test)]
mod testing;
mod watched;
pub mod weights;

pub use engine::Engine;
