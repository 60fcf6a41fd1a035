//! Is the world asked as its APIs say, within deadline, bounds and budget, and without showing a key?

mod http;
mod judge;
mod providers;
mod retriever;
mod server;
