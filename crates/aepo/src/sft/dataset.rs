//! What of a file is learned, in which step, and what is held out? A function of the rows, the settings and a limit.

use serde::{Deserialize, Serialize};

use super::SftError;
use super::rows::{Fit, Row, fit, n_tokens, n_trained};
use crate::config::SftSettings;
use crate::data::sampler::epoch_order;
use crate::seed::Seed;

/// Labels of the seed's streams: which rows are held out, and the order of each epoch.
const HOLDOUT: u64 = 3;
const EPOCHS: u64 = 4;

/// The rows of a file, ready to be learned.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Rows that are learned, in the file's order.
    pub train: Vec<Row>,
    /// Rows on which the loss is measured, in the file's order.
    pub holdout: Vec<Row>,
    /// What was read and what became of it.
    pub facts: DatasetFacts,
    seed: Seed,
    /// Where each step begins in the row after row of all epochs, and where the last one ends: `[n_steps + 1]`.
    starts: Vec<u64>,
}

/// What a file holds, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFacts {
    /// Rows of the file.
    pub n_rows: usize,
    /// Rows that are learned.
    pub n_train: usize,
    /// Rows that are held out.
    pub n_holdout: usize,
    /// Rows left out because they are longer than `max_row_tokens`.
    pub n_too_long: usize,
    /// Rows left out because nothing in them can be trained.
    pub n_nothing_to_train: usize,
    /// Rows of which only the beginning is left, among those learned or held out.
    pub n_cut: usize,
    /// Tokens of the longest row of the file.
    pub longest: usize,
    /// The limit.
    pub max_row_tokens: usize,
    /// Tokens of one epoch, context included.
    pub n_tokens: u64,
    /// Tokens of one epoch that are trained.
    pub n_trained: u64,
}

impl Dataset {
    /// Sorts the rows of a file into what is learned, held out and left out. No row is longer than `context_len`.
    ///
    /// # Errors
    /// When nothing is left to learn.
    pub fn new(rows: Vec<Row>, settings: &SftSettings, context_len: usize) -> Result<Dataset, SftError> {
        let limit = row_limit(settings, context_len);
        let seed = Seed(settings.seed);
        let mut facts = DatasetFacts {
            n_rows: rows.len(),
            n_train: 0,
            n_holdout: settings.holdout,
            n_too_long: 0,
            n_nothing_to_train: 0,
            n_cut: 0,
            longest: rows.iter().map(n_tokens).max().unwrap_or(0),
            max_row_tokens: limit,
            n_tokens: 0,
            n_trained: 0,
        };
        let mut fitting = Vec::with_capacity(rows.len());
        for mut row in rows {
            let became = fit(&mut row, limit, settings.long_rows);
            match became {
                Fit::Whole => {}
                Fit::Cut => facts.n_cut += 1,
                Fit::TooLong => facts.n_too_long += 1,
                Fit::NothingToTrain => facts.n_nothing_to_train += 1,
            }
            if became.is_learned() {
                fitting.push(row);
            }
        }
        if fitting.is_empty() {
            return Err(SftError::NothingFits { n_tried: facts.n_rows, max_row_tokens: limit });
        }
        if settings.holdout >= fitting.len() {
            return Err(SftError::HoldoutTooLarge { holdout: settings.holdout, n_rows: fitting.len() });
        }
        let mut held = vec![false; fitting.len()];
        for &i in &epoch_order(seed.child(HOLDOUT), 0, fitting.len())[..settings.holdout] {
            held[i] = true;
        }
        let (mut train, mut holdout) = (Vec::new(), Vec::new());
        for (row, held) in fitting.into_iter().zip(held) {
            if held { holdout.push(row) } else { train.push(row) }
        }
        facts.n_train = train.len();
        facts.n_tokens = train.iter().map(|row| n_tokens(row) as u64).sum();
        facts.n_trained = train.iter().map(|row| n_trained(row) as u64).sum();
        let seed = seed.child(EPOCHS);
        let starts = starts(&train, seed, settings.epochs, settings.batch_tokens);
        Ok(Dataset { train, holdout, facts, seed, starts })
    }

    /// Optimiser steps.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    /// The rows of a step, as many as `batch_tokens` lets in and one at least; none behind the last step. They follow
    /// each other through one shuffled order of all rows after another, so that a step may end one epoch and begin the
    /// next.
    #[must_use]
    pub fn rows_of(&self, step: u64) -> Vec<Row> {
        let bound = |at: u64| usize::try_from(at).ok().and_then(|at| self.starts.get(at).copied());
        let (Some(from), Some(to)) = (bound(step), bound(step.saturating_add(1))) else { return Vec::new() };
        let n = self.train.len() as u64;
        let mut rows = Vec::with_capacity((to - from) as usize);
        let mut at = from;
        while at < to {
            let (epoch, end) = (at / n, to.min((at / n + 1) * n));
            let order = epoch_order(self.seed, epoch, self.train.len());
            rows.extend((at..end).map(|p| self.train[order[(p - epoch * n) as usize]].clone()));
            at = end;
        }
        rows
    }

    /// Epochs done after `n_done` steps, parts of one included.
    #[must_use]
    pub fn epochs_after(&self, n_done: u64) -> f64 {
        let at = usize::try_from(n_done).map_or(self.starts.len() - 1, |n| n.min(self.starts.len() - 1));
        self.starts[at] as f64 / self.train.len() as f64
    }
}

/// Longest row that is learned, tokens.
#[must_use]
pub fn row_limit(settings: &SftSettings, context_len: usize) -> usize {
    settings.max_row_tokens.map_or(context_len, |limit| limit.min(context_len))
}

/// Where each step begins in the row after row of all epochs, and where the last one ends.
fn starts(train: &[Row], seed: Seed, epochs: u64, batch_tokens: usize) -> Vec<u64> {
    let lengths: Vec<usize> = train.iter().map(n_tokens).collect();
    let mut starts = vec![0];
    let (mut at, mut n_in_step) = (0, 0);
    for epoch in 0..epochs {
        for row in epoch_order(seed, epoch, train.len()) {
            if n_in_step > 0 && n_in_step + lengths[row] > batch_tokens {
                starts.push(at);
                n_in_step = 0;
            }
            n_in_step += lengths[row];
            at += 1;
        }
    }
    starts.push(at);
    starts
}
