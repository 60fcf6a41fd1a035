//! Where do tasks and conversations come from?
pub mod benchmark;
pub mod boxed;
pub mod chat;
pub mod countries;
pub mod demonstrator;
pub mod demos;
mod dice;
pub mod drills;
pub mod files;
mod findable;
pub mod message;
pub mod names;
pub mod questions;
pub mod same;
pub mod sampler;
pub mod survey;
pub mod task;
pub mod world;
