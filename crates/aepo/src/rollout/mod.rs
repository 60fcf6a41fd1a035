//! How does a tree of trajectories grow?
//!
//! `tree` is what was sampled, `trajectory` one path through it; `budget` and `branch` are the rules that say where
//! to sample next; `drive` is the event loop that asks a policy and tools for it, `growth` the state of one tree
//! meanwhile.
pub mod branch;
pub mod budget;
pub mod drive;
mod growth;
pub mod trajectory;
pub mod tree;

#[cfg(test)]
mod drive_tests;
