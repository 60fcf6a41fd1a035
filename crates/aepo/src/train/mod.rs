//! How do rewards become an update? Advantage, packing, loss, optimiser steps.
pub mod batch;
