//! Is an index on disk whole, exact, and safe from a kill?

mod answers;
mod corpora;
mod kills;
mod rows;
