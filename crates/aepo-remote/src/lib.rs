//! Which engines run on other machines, and how do they take part in the same pipeline?

#[cfg(feature = "fakes")]
pub mod fakes;
pub mod publish;
pub mod sample;
