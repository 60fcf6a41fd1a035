//! How are choices drawn? A few ways to throw one generator, written out so that no library update changes the data.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

use crate::seed::Seed;

/// A generator with the draws that data making needs.
pub(crate) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// The stream of `seed`.
    pub(crate) fn new(seed: Seed) -> Dice {
        Dice(seed.rng())
    }

    /// Uniform in `0..n`; 0 when `n` is 0. The bias of the multiplication is below n / 2⁶⁴.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as usize) as i64
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        ((self.0.next_u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// One of `items`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// An index drawn by weight; 0 when no weight is positive.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().filter(|w| **w > 0.0).sum();
        let mut at = total * ((self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
        let mut last = 0;
        for (i, &weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            last = i;
            if at < weight {
                break;
            }
            at -= weight;
        }
        last
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// A whole number of exactly `n_digits` digits, 1 ≤ `n_digits` ≤ 18; a single digit may not be 0 either.
    pub(crate) fn number(&mut self, n_digits: u32) -> i64 {
        let low = 10i64.pow(n_digits.clamp(1, 18) - 1);
        self.between(low, low * 10 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_their_ranges_and_reach_both_ends() {
        let mut dice = Dice::new(Seed(5));
        let draws: Vec<i64> = (0..2000).map(|_| dice.between(-2, 3)).collect();
        assert_eq!((draws.iter().min(), draws.iter().max()), (Some(&-2), Some(&3)));
        let numbers: Vec<i64> = (0..5000).map(|_| dice.number(2)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&10), Some(&99)));
        assert_eq!(dice.below(0), 0);
    }

    #[test]
    fn chances_and_weights_are_what_they_say() {
        let mut dice = Dice::new(Seed(6));
        let hits = (0..10_000).filter(|_| dice.chance(0.3)).count();
        assert!((2800..3200).contains(&hits), "{hits}");
        assert!(!(0..1000).any(|_| dice.chance(0.0)));
        assert!((0..1000).all(|_| dice.chance(1.0)));
        let mut counts = [0; 3];
        (0..9000).for_each(|_| counts[dice.weighted(&[1.0, 0.0, 2.0])] += 1);
        assert_eq!(counts[1], 0);
        assert!((2700..3300).contains(&counts[0]), "{counts:?}");
        assert_eq!(dice.weighted(&[0.0, 0.0]), 0);
    }

    #[test]
    fn a_shuffle_keeps_everything_and_moves_everything() {
        let mut firsts = [0; 4];
        for seed in 0..4000 {
            let mut items = [0, 1, 2, 3];
            Dice::new(Seed(seed)).shuffle(&mut items);
            firsts[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        assert!(firsts.iter().all(|n| (850..1150).contains(n)), "{firsts:?}");
    }
}
