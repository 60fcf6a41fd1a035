//! Does the real binary do what it says? Runs, resumed runs, bad input, and what is printed.

mod algo;
mod bad_input;
mod chats;
mod compare;
mod printed;
mod runs;
mod support;
