//! What does supervised training learn from? Rows of ids that know who wrote them, made to fit and packed.

use serde::{Deserialize, Serialize};

use crate::data::demos::Role;
use crate::train::batch::{Target, TreeBatch};

/// A conversation or demonstration as the model reads it: who wrote a segment, and its ids. Only what is
/// [`Role::Written`] is trained.
pub type Row = Vec<(Role, Vec<u32>)>;

/// What happens to rows that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LongRows {
    /// They are not learned.
    LeaveOut,
    /// Their end is not learned. An end of turn that is cut off is not put back: nobody wrote it there.
    Cut,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is learned as it is.
    Whole,
    /// Its beginning is learned.
    Cut,
    /// It is left out because it is too long.
    TooLong,
    /// It is left out because there is nothing in it that could be trained.
    NothingToTrain,
}

impl Fit {
    /// Whether the row is learned.
    #[must_use]
    pub fn is_learned(self) -> bool {
        matches!(self, Fit::Whole | Fit::Cut)
    }
}

/// Tokens of a row, context included.
#[must_use]
pub fn n_tokens(row: &Row) -> usize {
    row.iter().map(|(_, ids)| ids.len()).sum()
}

/// Tokens of a row that are trained: the written ones, except a row's very first, which nothing predicts.
#[must_use]
pub fn n_trained(row: &Row) -> usize {
    let (mut at, mut n) = (0_usize, 0);
    for (role, ids) in row {
        if *role == Role::Written {
            n += ids.len() - usize::from(at == 0 && !ids.is_empty());
        }
        at += ids.len();
    }
    n
}

/// Makes `row` fit `limit` tokens where that is wanted; says whether it can be learned.
pub fn fit(row: &mut Row, limit: usize, long: LongRows) -> Fit {
    let too_long = n_tokens(row) > limit;
    if too_long && long == LongRows::LeaveOut {
        return Fit::TooLong;
    }
    if too_long {
        let mut left = limit;
        for (_, ids) in row.iter_mut() {
            ids.truncate(left);
            left -= ids.len();
        }
        row.retain(|(_, ids)| !ids.is_empty());
    }
    match (n_trained(row) > 0, too_long) {
        // Without anything to train it would only take up room.
        (false, _) => Fit::NothingToTrain,
        (true, true) => Fit::Cut,
        (true, false) => Fit::Whole,
    }
}

/// Packs rows, in order, into batches of at most `max_batch_tokens`; a longer row has one to itself. Rows do not see
/// each other. Written tokens are targets, except a row's very first, which nothing predicts.
#[must_use]
pub fn pack_rows(rows: &[Row], max_batch_tokens: usize) -> Vec<TreeBatch> {
    let mut batches: Vec<TreeBatch> = Vec::new();
    for row in rows {
        let ids: Vec<u32> = row.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let fits = |b: &TreeBatch| b.tokens.len() + ids.len() <= max_batch_tokens;
        if !batches.last().is_some_and(fits) {
            batches.push(TreeBatch::default());
        }
        let Some(batch) = batches.last_mut() else { continue };
        if ids.is_empty() {
            continue;
        }
        let start = batch.tokens.len();
        batch.push_segment(None, &ids);
        let mut at = 0;
        for (role, ids) in row {
            if *role == Role::Written {
                let targets = (at.max(1)..at + ids.len())
                    .map(|i| Target { from_idx: (start + i - 1) as u32, token: batch.tokens[start + i] });
                batch.targets.extend(targets.collect::<Vec<_>>());
            }
            at += ids.len();
        }
    }
    batches
}
