//! Which engines run on other machines, and how do they take part in the same pipeline?
//!
//! `pair` makes one policy of a sampler and a learner, `embedded` lets the engine of this program be either, `tinker` is
//! a learner on a server. With the feature `fakes` there is such a server too, whose numbers come from the embedded
//! engine, for tests.

pub mod embedded;
#[cfg(feature = "fakes")]
pub mod fake;
pub mod pair;
pub mod tinker;
