//! Which tasks does a step train on? Shuffled epochs, computed from the seed and the step alone.

use super::dice::Dice;
use crate::seed::Seed;

/// The `n_per_step` task indices of step `step`, each below `n_tasks`. Steps walk through one shuffled order of all
/// tasks after another, so every task comes up once per epoch, and a resumed run needs nothing but the step's number.
#[must_use]
pub fn task_indices(seed: Seed, step: u64, n_per_step: usize, n_tasks: usize) -> Vec<usize> {
    if n_tasks == 0 {
        return Vec::new();
    }
    let n_tasks_wide = n_tasks as u128;
    let first = u128::from(step) * n_per_step as u128;
    let mut order: Option<(u64, Vec<usize>)> = None;
    (0..n_per_step as u128)
        .map(|i| {
            let epoch = ((first + i) / n_tasks_wide) as u64;
            let shuffled = match order.take() {
                Some((e, shuffled)) if e == epoch => shuffled,
                _ => epoch_order(seed, epoch, n_tasks),
            };
            let task = shuffled[((first + i) % n_tasks_wide) as usize];
            order = Some((epoch, shuffled));
            task
        })
        .collect()
}

/// The order in which an epoch goes through `n_tasks` tasks, each once.
#[must_use]
pub fn epoch_order(seed: Seed, epoch: u64, n_tasks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n_tasks).collect();
    Dice::new(seed.child(epoch)).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_holds_every_task_once_in_another_order() {
        let stream: Vec<usize> = (0..30).flat_map(|step| task_indices(Seed(1), step, 7, 21)).collect();
        let mut orders = std::collections::HashSet::new();
        for epoch in stream.chunks_exact(21) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..21).collect::<Vec<_>>());
            orders.insert(epoch.to_vec());
        }
        assert_eq!(orders.len(), 10);
    }

    #[test]
    fn the_stream_does_not_depend_on_where_steps_are_cut() {
        let by_4: Vec<usize> = (0..15).flat_map(|step| task_indices(Seed(2), step, 4, 9)).collect();
        let by_12: Vec<usize> = (0..5).flat_map(|step| task_indices(Seed(2), step, 12, 9)).collect();
        assert_eq!(by_4, by_12);
        assert_ne!(by_4[..9], task_indices(Seed(3), 0, 9, 9));
    }

    #[test]
    fn odd_sizes_are_no_trouble() {
        assert!(task_indices(Seed(1), 5, 3, 0).is_empty());
        assert!(task_indices(Seed(1), 5, 0, 3).is_empty());
        assert_eq!(task_indices(Seed(1), u64::MAX, 3, 1), [0, 0, 0]);
    }
}
