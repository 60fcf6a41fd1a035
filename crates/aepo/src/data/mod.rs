//! Where do tasks come from?
pub mod task;
