//! Where does randomness come from? One run seed, split by labels, never advanced in place.
//!
//! A [`Seed`] is a pure value: `seed.child(step).child(task).child(node)` names one stream of random numbers, whatever
//! happened before. So a run resumed at step 7 draws what an uninterrupted run draws at step 7, and the order in which
//! tools answer changes nothing.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// A node in the tree of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the sub-stream `label`: SplitMix64's finaliser over the pair.
    #[must_use]
    pub fn child(self, label: u64) -> Seed {
        Seed(mix(self.0 ^ mix(label.wrapping_add(0x9E37_79B9_7F4A_7C15))))
    }

    /// A uniform number in [0, 1) with 53 random bits; the `index`-th of this seed.
    #[must_use]
    pub fn uniform(self, index: u64) -> f64 {
        (self.child(index).0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A generator for code that needs many draws in sequence (shuffling, writing questions).
    #[must_use]
    pub fn rng(self) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.0)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_value_and_its_children_differ() {
        let root = Seed(1);
        assert_eq!(root.child(3), root.child(3));
        let mut seen = std::collections::HashSet::new();
        for step in 0..50 {
            for node in 0..50 {
                assert!(seen.insert(root.child(step).child(node)));
            }
        }
        assert_ne!(root.child(1).child(2), root.child(2).child(1));
    }

    #[test]
    fn uniform_numbers_fill_the_unit_interval_evenly() {
        let n = 20_000;
        let (mut sum, mut sum_sq) = (0.0, 0.0);
        for i in 0..n {
            let u = Seed(7).uniform(i);
            assert!((0.0..1.0).contains(&u));
            sum += u;
            sum_sq += u * u;
        }
        let mean = sum / n as f64;
        assert!((mean - 0.5).abs() < 0.01);
        assert!((sum_sq / n as f64 - mean * mean - 1.0 / 12.0).abs() < 0.005);
    }
}
