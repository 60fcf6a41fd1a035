//! How does a tree of trajectories grow?
//!
//! `tree` is what was sampled, `trajectory` one path through it; `budget`, `branch` and `expand` are the rules that say
//! where to sample next; `drive` is the event loop that asks a policy and tools for it.
pub mod branch;
pub mod budget;
pub mod drive;
pub mod expand;
pub mod trajectory;
pub mod tree;
