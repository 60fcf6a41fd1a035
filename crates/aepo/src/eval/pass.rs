//! What would k answers have been worth? Pass@k and majority@k from n samples of a question, without luck.

/// Pass@k = 1 − C(n−c, k)/C(n, k), the probability that of k of the n samples, drawn without replacement, one is among
/// the c right ones (Chen et al., arXiv 2107.03374, eq. 1); as the product 1 − Π_{i=n−c+1}^{n} (1 − k/i), whose factors
/// neither overflow nor cancel. `None` where k is 0 or above n, or c above n.
#[must_use]
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Option<f64> {
    if k == 0 || k > n || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    Some(1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>())
}

/// Answers that are equal, as the grader sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Votes {
    /// How many of the samples say so.
    pub n: usize,
    /// What it is worth, in [0, 1].
    pub worth: f64,
}

/// Up to so many samples majority@k is exact.
pub const MAX_EXACT_SAMPLES: usize = 64;

/// Majority@k: what the most frequent answer of k of the samples is worth, in expectation over every choice of k of them
/// without replacement; answers that are equally frequent share. `n_silent` samples gave no answer and vote for nothing;
/// where nobody votes, it is worth 0. `None` where k is 0 or above the number of samples, or there are more than
/// [`MAX_EXACT_SAMPLES`].
#[must_use]
pub fn majority_at_k(votes: &[Votes], n_silent: usize, k: usize) -> Option<f64> {
    let n = n_silent + votes.iter().map(|v| v.n).sum::<usize>();
    if k == 0 || k > n || n > MAX_EXACT_SAMPLES {
        return None;
    }
    let mut worth = 0.0;
    for (j, own) in votes.iter().enumerate().filter(|(_, v)| v.worth > 0.0) {
        for t in 1..=own.n.min(k) {
            let others = votes.iter().enumerate().filter(|(i, _)| *i != j).map(|(_, v)| v.n);
            let ways = rest_below(others, n_silent, k - t, t);
            let shared = ways.iter().enumerate().map(|(n_ties, ways)| ways / (n_ties + 1) as f64).sum::<f64>();
            worth += own.worth * choose(own.n, t) * shared;
        }
    }
    Some(worth / choose(n, k))
}

/// In how many ways `n_chosen` samples can be taken from the other answers and the silent ones so that no answer has more
/// than `t` of them: by how many have exactly `t`.
fn rest_below(others: impl Iterator<Item = usize>, n_silent: usize, n_chosen: usize, t: usize) -> Vec<f64> {
    // ways[chosen][ties]
    let max_ties = n_chosen / t;
    let mut ways = vec![vec![0.0; max_ties + 1]; n_chosen + 1];
    for (chosen, row) in ways.iter_mut().enumerate() {
        row[0] = choose(n_silent, chosen);
    }
    for n_own in others {
        let mut next = vec![vec![0.0; max_ties + 1]; n_chosen + 1];
        for (chosen, row) in ways.iter().enumerate() {
            for (ties, before) in row.iter().enumerate().filter(|(_, before)| **before > 0.0) {
                for own in 0..=n_own.min(t).min(n_chosen - chosen) {
                    let ties = ties + usize::from(own == t);
                    next[chosen + own][ties] += before * choose(n_own, own);
                }
            }
        }
        ways = next;
    }
    ways.swap_remove(n_chosen)
}

/// C(n, k); exact below 2^53, and else to the precision of a double.
fn choose(n: usize, k: usize) -> f64 {
    if k > n {
        return 0.0;
    }
    (0..k.min(n - k)).fold(1.0, |c, i| (c * (n - i) as f64 / (i + 1) as f64).round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    /// Every choice of k of n, as bits.
    fn subsets(n: usize, k: usize) -> impl Iterator<Item = u32> {
        (0u32..1 << n).filter(move |bits| bits.count_ones() as usize == k)
    }

    #[test]
    fn pass_at_k_is_what_enumeration_gives() {
        for n in 1..=12 {
            for c in 0..=n {
                for k in 1..=n {
                    let right = (1u32 << c) - 1;
                    let (n_all, n_hit) =
                        subsets(n, k).fold((0, 0), |(all, hit), s| (all + 1, hit + u32::from(s & right != 0)));
                    let expected = f64::from(n_hit) / f64::from(n_all);
                    let got = pass_at_k(n, c, k).unwrap();
                    assert!((got - expected).abs() < 1e-12, "n {n}, c {c}, k {k}: {got}, not {expected}");
                }
            }
        }
        assert_eq!([pass_at_k(5, 1, 6), pass_at_k(5, 6, 1), pass_at_k(5, 1, 0), pass_at_k(0, 0, 1)], [None; 4]);
        // 1 − (1 − 1e-6)… stays exact where binomials would overflow: one right of a million, k = 1000.
        assert!((pass_at_k(1_000_000, 1, 1000).unwrap() - 0.001).abs() < 1e-12);
    }

    #[test]
    fn majority_is_what_enumeration_gives() {
        for case in 0..150u64 {
            let seed = Seed(case);
            let n = 1 + (seed.uniform(0) * 9.0) as usize;
            // Sample i says answer `said[i]`; 0 is silence.
            let said: Vec<usize> = (0..n).map(|i| (seed.uniform(1 + i as u64) * 5.0) as usize).collect();
            let worth = |answer: usize| [0.0, 1.0, 0.0, 0.5, 1.0][answer];
            let count = |of: &dyn Fn(usize) -> bool, answer| (0..n).filter(|i| of(*i) && said[*i] == answer).count();
            let votes: Vec<Votes> = (1..5).map(|a| Votes { n: count(&|_| true, a), worth: worth(a) }).collect();
            for k in 1..=n {
                let (mut sum, mut n_all) = (0.0, 0.0);
                for bits in subsets(n, k) {
                    let counts: Vec<usize> = (1..5).map(|a| count(&|i| bits >> i & 1 == 1, a)).collect();
                    let most = counts.iter().copied().max().unwrap();
                    let first: Vec<usize> = (1..5).filter(|a| most > 0 && counts[a - 1] == most).collect();
                    sum += first.iter().map(|&a| worth(a)).sum::<f64>() / first.len().max(1) as f64;
                    n_all += 1.0;
                }
                let got = majority_at_k(&votes, count(&|_| true, 0), k).unwrap();
                assert!((got - sum / n_all).abs() < 1e-9, "{said:?}, k {k}: {got}, not {}", sum / n_all);
            }
        }
    }

    #[test]
    fn the_majority_of_many_is_bounded_and_sane() {
        let votes = [Votes { n: 40, worth: 1.0 }, Votes { n: 24, worth: 0.0 }];
        let at = |k| majority_at_k(&votes, 0, k).unwrap();
        assert!((at(1) - 0.625).abs() < 1e-12, "one sample is its own majority: {}", at(1));
        assert!(at(1) < at(17) && at(17) < at(33) && (at(64) - 1.0).abs() < 1e-9);
        let each: Vec<Votes> = (0..64).map(|i| Votes { n: 1, worth: f64::from(u8::from(i == 0)) }).collect();
        assert!((majority_at_k(&each, 0, 64).unwrap() - 1.0 / 64.0).abs() < 1e-9);
        assert_eq!(majority_at_k(&votes, 1, 5), None, "more than are computed exactly");
        assert_eq!(majority_at_k(&[], 5, 5), Some(0.0));
    }
}
