//! What can a program do to us? Every program of every category, at every level that this machine offers, as this user
//! and as one without rights.

mod caged;
mod files;
mod harness;
mod kernel;
mod memory;
mod network;
mod output;
mod processes;
mod protocol;
mod soak;
mod suite;
mod table;
mod time;

/// The categories, in the order in which they run.
pub const CATEGORIES: &[(&str, &[table::Hostile])] = &[
    ("time", time::PROGRAMS),
    ("memory", memory::PROGRAMS),
    ("processes", processes::PROGRAMS),
    ("files", files::PROGRAMS),
    ("network", network::PROGRAMS),
    ("kernel", kernel::PROGRAMS),
    ("output", output::PROGRAMS),
    ("protocol", protocol::PROGRAMS),
];
