//! How do rows of a file become tasks?

pub mod lookup;
pub mod repair;
