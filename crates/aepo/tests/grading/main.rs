//! Is the grader of mathematics right, and does it end, whatever it is given?

mod benchmarks;
mod golden;
mod hostile;
mod pairs;
mod shared;
mod texts;
