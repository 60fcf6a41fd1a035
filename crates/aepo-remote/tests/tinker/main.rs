//! Does a server learn exactly what this program computes, and is nothing lost or counted twice when things go wrong?

mod faults;
mod pairs;
mod real;
mod same;
mod support;
mod tied;
