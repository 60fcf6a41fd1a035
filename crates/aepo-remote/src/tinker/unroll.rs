//! How does a batch of token trees become sequences? One for each leaf that has a target of its own.
//!
//! A Tinker server reads sequences: `read[i]` is a token and `next[i]` the one whose log-probability it gives there. A
//! target of the tree stands on every sequence that runs through it, and is *carried* by the first of them alone, so
//! that its coefficient counts once.

use aepo::train::batch::TreeBatch;

use super::error::TinkerError;

/// A path of a batch, cut behind the last target that it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `[n]`, what the model reads.
    pub read: Vec<u32>,
    /// `[n]`, what follows each.
    pub next: Vec<u32>,
    /// Position in `next`, and the index of the batch's target.
    pub carries: Vec<(usize, usize)>,
}

/// The sequences of a batch; every target is carried exactly once.
///
/// # Errors
/// Where the batch is no forest of segments that tile its tokens.
pub fn unroll(batch: &TreeBatch) -> Result<Vec<Row>, TinkerError> {
    let wrong = |what: String| TinkerError::Misuse(format!("the batch is inconsistent: {what}"));
    let n_segments = batch.segments.len();
    // Per token the one before it, and per segment whether another hangs on it.
    let mut parent: Vec<Option<usize>> = vec![None; batch.tokens.len()];
    let mut is_leaf = vec![true; n_segments];
    let mut next_idx = 0;
    for (i, s) in batch.segments.iter().enumerate() {
        let (start, n) = (s.start_idx as usize, s.n_tokens as usize);
        if start != next_idx || n == 0 || n > batch.tokens.len() - start {
            return Err(wrong(format!("segment {i} is {s:?}")));
        }
        if let Some(p) = s.parent {
            let p = p as usize;
            if p >= i {
                return Err(wrong(format!("segment {i} stands before its parent {p}")));
            }
            is_leaf[p] = false;
            parent[start] = Some(batch.last_idx(p as u32) as usize);
        }
        (start + 1..start + n).for_each(|at| parent[at] = Some(at - 1));
        next_idx = start + n;
    }
    if next_idx != batch.tokens.len() {
        return Err(wrong("segments do not tile its tokens".to_owned()));
    }

    // Which target each token of the tree is; siblings with the same token take the targets in order.
    let mut by_place: std::collections::BTreeMap<(usize, u32), std::collections::VecDeque<usize>> =
        std::collections::BTreeMap::new();
    for (t, target) in batch.targets.iter().enumerate() {
        if target.from_idx as usize >= batch.tokens.len() {
            return Err(wrong(format!("target {t} reads token {} of {}", target.from_idx, batch.tokens.len())));
        }
        by_place.entry((target.from_idx as usize, target.token)).or_default().push_back(t);
    }
    let mut target_of: Vec<Option<usize>> = vec![None; batch.tokens.len()];
    for (at, &token) in batch.tokens.iter().enumerate() {
        if let Some(from) = parent[at] {
            target_of[at] = by_place.get_mut(&(from, token)).and_then(std::collections::VecDeque::pop_front);
        }
    }

    let path_to = |mut at: usize| {
        let mut path = vec![at];
        while let Some(before) = parent[at] {
            path.push(before);
            at = before;
        }
        path.reverse();
        path
    };
    let mut rows = Vec::new();
    for i in (0..n_segments).filter(|&i| is_leaf[i]) {
        let path = path_to(batch.last_idx(i as u32) as usize);
        let mut carries = Vec::new();
        for (position, &at) in path.iter().skip(1).enumerate() {
            carries.extend(target_of[at].take().map(|target| (position, target)));
        }
        let Some(&(last, _)) = carries.last() else { continue };
        let tokens: Vec<u32> = path[..last + 2].iter().map(|&at| batch.tokens[at]).collect();
        rows.push(Row { read: tokens[..=last].to_vec(), next: tokens[1..].to_vec(), carries });
    }
    // A target whose token nobody went on from.
    for ((from, token), targets) in by_place {
        for target in targets {
            let read: Vec<u32> = path_to(from).iter().map(|&at| batch.tokens[at]).collect();
            let next = read[1..].iter().copied().chain([token]).collect();
            rows.push(Row { carries: vec![(read.len() - 1, target)], read, next });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use aepo::train::batch::Target;

    use super::*;

    /// Tokens of two siblings that begin alike, of a leaf without targets, and a target that no token follows.
    fn batch() -> TreeBatch {
        let mut batch = TreeBatch::default();
        let root = batch.push_segment(None, &[10, 11]);
        let left = batch.push_segment(Some(root), &[20, 21]);
        batch.push_segment(Some(left), &[40]);
        batch.push_segment(Some(left), &[50, 51]);
        batch.push_segment(Some(root), &[20, 31, 32]);
        batch.push_segment(None, &[60, 61]);
        let target = |from_idx, token| Target { from_idx, token };
        // 20 and 21 of the left; 51; 20 of the right and 31; 61; and 99 behind 61.
        batch.targets = vec![target(1, 20), target(2, 21), target(5, 51), target(1, 20), target(7, 31)];
        batch.targets.extend([target(10, 61), target(11, 99)]);
        batch
    }

    #[test]
    fn every_target_is_carried_once_and_rows_end_behind_the_last() {
        let rows = unroll(&batch()).unwrap();
        let row = |tokens: &[u32], carries: &[(usize, usize)]| Row {
            read: tokens[..tokens.len() - 1].to_vec(),
            next: tokens[1..].to_vec(),
            carries: carries.to_vec(),
        };
        // The first leaf has no target of its own, but carries those above it, and is cut behind them.
        let expected = [
            row(&[10, 11, 20, 21], &[(1, 0), (2, 1)]),
            row(&[10, 11, 20, 21, 50, 51], &[(4, 2)]),
            row(&[10, 11, 20, 31], &[(1, 3), (2, 4)]),
            row(&[60, 61], &[(0, 5)]),
            row(&[60, 61, 99], &[(1, 6)]),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_batch_that_is_no_forest_is_an_error() {
        type Harm = fn(&mut TreeBatch);
        let harms: [Harm; 6] = [
            |b| b.segments[1].parent = Some(1),
            |b| b.segments[1].start_idx = 1,
            |b| b.segments[5].n_tokens = 9,
            |b| b.segments[5].n_tokens = 0,
            |b| b.tokens.push(1),
            |b| b.targets[0].from_idx = 12,
        ];
        for (i, harm) in harms.iter().enumerate() {
            let mut batch = batch();
            harm(&mut batch);
            assert!(matches!(unroll(&batch), Err(TinkerError::Misuse(_))), "{i}");
        }
        assert_eq!(unroll(&TreeBatch::default()), Ok(Vec::new()));
    }
}
