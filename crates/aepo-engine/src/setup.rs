//! What is an engine made for? What may change in it, in which numbers frozen weights are kept, and what a pass keeps.

use aepo::config::lora::LoraTargets;
use aepo::config::{Arithmetic, Settings, Stored};
use aepo::seed::Seed;

/// Everything that decides on an engine besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Threads that it works on; 0 counts as 1.
    pub n_threads: usize,
    /// What an optimiser step may change.
    pub train: Train,
    /// Numbers that weights are kept in where no step may change them.
    pub frozen: Stored,
    /// Numbers that matrices are multiplied in.
    pub arithmetic: Arithmetic,
    /// Whether a pass keeps the input of each block only, and the backward pass computes the block again.
    pub recompute: bool,
    /// Draws LoRA's first matrices.
    pub seed: Seed,
}

/// What an optimiser step may change.
#[derive(Clone, Debug, PartialEq)]
pub enum Train {
    /// Every weight.
    All,
    /// Small matrices beside frozen weights (arXiv 2106.09685).
    Lora(LoraSpec),
    /// Nothing: a policy to sample from or to compare with.
    Nothing,
}

/// Which small matrices LoRA adds.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    /// r, at least 1.
    pub rank: usize,
    /// α; what is added has the factor α/r.
    pub alpha: f64,
    /// Where.
    pub targets: LoraTargets,
}

/// The run's seed has the numbers of its steps as other children; no run has as many steps.
const LORA: u64 = u64::MAX;

impl LoraSpec {
    /// α/r.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

impl Setup {
    /// All weights may change.
    #[must_use]
    pub fn full(n_threads: usize) -> Setup {
        let (frozen, arithmetic) = (Stored::F32, Arithmetic::F32);
        Setup { n_threads, train: Train::All, frozen, arithmetic, recompute: false, seed: Seed(0) }
    }

    /// What a recipe says about training.
    #[must_use]
    pub fn of(settings: &Settings, n_threads: usize) -> Setup {
        let l = &settings.lora;
        let spec = LoraSpec { rank: l.rank, alpha: l.alpha, targets: l.targets.clone() };
        let train = if l.rank == 0 { Train::All } else { Train::Lora(spec) };
        let seed = Seed(settings.train.seed).child(LORA);
        let (frozen, arithmetic) = (settings.model.frozen, settings.model.arithmetic);
        Setup { n_threads, train, frozen, arithmetic, recompute: settings.train.recompute, seed }
    }

    /// Numbers that the model's own weights are kept in: those that may change are never rounded.
    #[must_use]
    pub fn stored(&self) -> Stored {
        match self.train {
            Train::All => Stored::F32,
            Train::Lora(_) | Train::Nothing => self.frozen,
        }
    }
}
