//! Which engines run on other machines, and how do they take part in the same pipeline?
//!
//! `sample` samples on servers, `tinker` learns on one, `embedded` lets the engine of this program be either, and `pair`
//! makes one policy of a sampler and a learner, which `publish`es its weights into a `room`; they take turns there, and
//! with `ahead` the one samples while the other learns. With the feature `fakes` there are such
//! servers too, whose numbers come from the embedded engine, for tests.

pub mod ahead;
pub mod embedded;
#[cfg(feature = "fakes")]
pub mod fakes;
pub mod pair;
pub mod publish;
pub mod room;
pub mod sample;
pub mod tinker;
