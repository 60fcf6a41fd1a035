//! Does sampling through servers give what sampling in this process gives, whatever goes wrong on the way?

mod agree;
mod faults;
mod follow;
mod support;
mod turns;
