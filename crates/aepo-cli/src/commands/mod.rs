//! What does each command do?

pub mod algo;
pub mod cache;
pub mod check;
pub mod compare;
pub mod data;
pub mod doctor;
pub mod eval;
pub mod index;
pub mod rollout;
pub mod score;
pub mod serve;
pub mod sft;
pub mod show;
pub mod tool;
pub mod train;
