//! How do rewards become an update? Advantage, packing, loss, optimiser steps.
pub mod advantage;
pub mod batch;
pub mod group;
pub mod loss;
pub mod pack;
pub mod schedule;
pub mod update;
