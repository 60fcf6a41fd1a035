//! Where do tasks and conversations come from?
pub mod chat;
pub mod countries;
pub mod demonstrator;
pub mod demos;
mod dice;
pub mod drills;
mod findable;
pub mod jsonl;
pub mod message;
pub mod names;
pub mod questions;
pub mod sampler;
pub mod task;
pub mod world;
