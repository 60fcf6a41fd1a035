//! The embedded CPU engine: decoder-only transformers over token trees, forward and hand-derived backward.
pub mod config;
pub mod error;
pub mod kernels;
pub mod layout;
pub mod matmul;
pub mod real;
#[cfg(test)]
mod testing;
