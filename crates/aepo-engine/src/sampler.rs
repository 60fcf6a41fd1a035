//! How is a token drawn? By inverting the cumulative distribution at one uniform number.

use aepo::policy::{N_TOP, SampleParams, SampledToken};

use crate::kernels::head::row_stats;
use crate::real::{Real, vectorize};

/// Draws from `softmax(logits/T)`, cut to the first `n_drawn` ids (at least one), then to the `top_k` likeliest tokens
/// and then to the smallest set of them with mass `top_p` (ties to the smaller id). Log-probability and entropy are
/// those of the uncut distribution.
///
/// The order of summation is that of token ids without cuts, of falling probability with them; `u` in [0, 1).
#[must_use]
pub fn sample(logits: &[f32], n_drawn: usize, params: SampleParams, u: f64) -> SampledToken {
    vectorize(
        #[inline(always)]
        || sample_inlined(logits, n_drawn, params, u),
    )
}

#[inline(always)]
fn sample_inlined(logits: &[f32], n_drawn: usize, params: SampleParams, u: f64) -> SampledToken {
    let inverse = 1.0 / params.temperature;
    let stats = row_stats(logits, inverse);
    let mut probabilities = vec![0.0f32; logits.len()];
    for (p, &x) in probabilities.iter_mut().zip(logits) {
        *p = Real::exp(x * inverse - stats.lse);
    }
    let top_entropy = if params.top_entropy { top_entropy(&probabilities) } else { 0.0 };
    if n_drawn < probabilities.len() {
        probabilities.truncate(n_drawn.max(1));
        let mass = probabilities.iter().map(|&p| f64::from(p)).sum::<f64>() as f32;
        probabilities.iter_mut().for_each(|p| *p /= mass);
    }
    let whole = params.top_p >= 1.0 && params.top_k == 0;
    let token = if whole {
        draw(probabilities.into_iter().enumerate(), 1.0, u)
    } else {
        let candidates = candidates(&probabilities, params);
        let total: f64 = candidates.iter().map(|&(_, p)| f64::from(p)).sum();
        draw(candidates.into_iter(), total, u)
    };
    SampledToken {
        token: token as u32,
        logprob: (logits[token] * inverse - stats.lse).min(0.0),
        entropy: stats.entropy,
        top_entropy,
    }
}

/// `−Σ p·ln p` over the [`N_TOP`] largest probabilities, summed from the largest down; one pass, of which most steps
/// are one comparison.
fn top_entropy(probabilities: &[f32]) -> f32 {
    // Falling; a probability of 0 adds nothing, so that short rows need no case of their own.
    let mut top = [0.0f32; N_TOP];
    for &p in probabilities {
        if p > top[N_TOP - 1] {
            let at = top.partition_point(|&t| t >= p);
            top[at..].rotate_right(1);
            top[at] = p;
        }
    }
    -top.iter().filter(|&&p| p > 0.0).map(|&p| f64::from(p) * f64::from(p).ln()).sum::<f64>() as f32
}

/// The first index whose cumulative probability exceeds `u · total`; rounding at the end falls to the likeliest.
fn draw(probabilities: impl Iterator<Item = (usize, f32)>, total: f64, u: f64) -> usize {
    let mut left = u * total;
    let mut likeliest = (0, f32::NEG_INFINITY);
    for (i, p) in probabilities {
        left -= f64::from(p);
        if left < 0.0 {
            return i;
        }
        if p > likeliest.1 {
            likeliest = (i, p);
        }
    }
    likeliest.0
}

/// Tokens and probabilities that survive the cuts, likeliest first.
fn candidates(probabilities: &[f32], params: SampleParams) -> Vec<(usize, f32)> {
    // Tokens below this probability together hold less than 1 − top_p, so none of them is in the nucleus.
    let floor = if params.top_k == 0 { (1.0 - params.top_p) / probabilities.len() as f32 } else { 0.0 };
    let mut kept: Vec<(usize, f32)> = probabilities.iter().copied().enumerate().filter(|&(_, p)| p >= floor).collect();
    let falling = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut nucleus = f64::from(params.top_p);
    if params.top_k > 0 {
        if params.top_k < kept.len() {
            kept.select_nth_unstable_by(params.top_k, falling);
            kept.truncate(params.top_k);
        }
        nucleus *= kept.iter().map(|&(_, p)| f64::from(p)).sum::<f64>();
    }
    kept.sort_unstable_by(falling);
    let mut mass = 0.0;
    let inside = kept.iter().take_while(|&&(_, p)| {
        let before = mass;
        mass += f64::from(p);
        before < nucleus
    });
    let n = inside.count().max(1);
    kept.truncate(n);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use aepo::seed::Seed;

    const LOGITS: [f32; 6] = [0.1, 2.0, -1.0, 1.5, 0.0, 1.0];

    fn frequencies(params: SampleParams) -> Vec<f64> {
        let n = 40_000;
        let mut counts = vec![0.0; LOGITS.len()];
        for i in 0..n {
            counts[sample(&LOGITS, 6, params, Seed(5).uniform(i)).token as usize] += 1.0 / n as f64;
        }
        counts
    }

    fn softmax(t: f64, keep: &[usize]) -> Vec<f64> {
        let e: Vec<f64> = LOGITS
            .iter()
            .enumerate()
            .map(|(i, &x)| if keep.contains(&i) { (f64::from(x) / t).exp() } else { 0.0 })
            .collect();
        let total: f64 = e.iter().sum();
        e.iter().map(|x| x / total).collect()
    }

    #[test]
    fn draws_follow_the_cut_distribution() {
        let cases = [
            (SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false }, &[0, 1, 2, 3, 4, 5][..]),
            (SampleParams { temperature: 0.5, top_p: 1.0, top_k: 2, top_entropy: false }, &[1, 3]),
            (SampleParams { temperature: 1.0, top_p: 0.7, top_k: 0, top_entropy: false }, &[1, 3, 5]),
            (SampleParams { temperature: 1.0, top_p: 0.01, top_k: 0, top_entropy: false }, &[1]),
        ];
        for (params, keep) in cases {
            let expected = softmax(f64::from(params.temperature), keep);
            for (a, b) in frequencies(params).iter().zip(expected) {
                assert!((a - b).abs() < 0.012, "{params:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn logprob_and_entropy_are_of_the_whole_distribution() {
        let p = softmax(0.7, &[0, 1, 2, 3, 4, 5]);
        let entropy: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();
        let drawn =
            sample(&LOGITS, 6, SampleParams { temperature: 0.7, top_p: 0.5, top_k: 3, top_entropy: false }, 0.3);
        assert!((f64::from(drawn.logprob) - p[drawn.token as usize].ln()).abs() < 1e-6);
        assert!((f64::from(drawn.entropy) - entropy).abs() < 1e-6);
    }

    #[test]
    fn the_entropy_of_the_likeliest_is_computed_only_when_asked_for() {
        // The ten likeliest of 40, by sorting.
        let logits: Vec<f32> = (0..40u64).map(|i| 4.0 * Seed(9).uniform(i) as f32).collect();
        let asked = SampleParams { temperature: 0.8, top_p: 1.0, top_k: 0, top_entropy: true };
        let mut e: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / 0.8).exp()).collect();
        let total: f64 = e.iter().sum();
        e.sort_by(|a, b| b.total_cmp(a));
        let expected: f64 = -e[..N_TOP].iter().map(|e| e / total).map(|p| p * p.ln()).sum::<f64>();
        let drawn = sample(&logits, 40, asked, 0.4);
        assert!((f64::from(drawn.top_entropy) - expected).abs() < 1e-5);
        // Nothing else about the token changes.
        let plain = sample(&logits, 40, SampleParams { top_entropy: false, ..asked }, 0.4);
        assert_eq!(plain, SampledToken { top_entropy: 0.0, ..drawn });
        // Fewer than ten tokens are all of them, and a certain one has no entropy.
        let all = sample(&LOGITS, 6, asked, 0.4);
        assert!((all.top_entropy - all.entropy).abs() < 1e-6);
        assert_eq!(sample(&[0.0, 500.0, 0.0], 3, asked, 0.4).top_entropy, 0.0);
    }

    #[test]
    fn rows_of_padding_are_never_drawn_and_keep_their_mass() {
        // The likeliest id of all is padding, and half of the mass; what is left is drawn in proportion.
        for (params, keep) in [
            (SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false }, &[0, 1, 2][..]),
            (SampleParams { temperature: 1.0, top_p: 1.0, top_k: 2, top_entropy: false }, &[0, 1]),
            (SampleParams { temperature: 1.0, top_p: 0.8, top_k: 0, top_entropy: false }, &[1]),
        ] {
            let logits = [0.1, 2.0, -1.0, 2.2];
            let n = 40_000;
            let mut counts = [0.0; 4];
            for i in 0..n {
                let drawn = sample(&logits, 3, params, Seed(6).uniform(i));
                let full = sample(&logits, 4, params, 0.0);
                assert_eq!(drawn.entropy, full.entropy);
                counts[drawn.token as usize] += 1.0 / n as f64;
                let lse = logits.iter().map(|x: &f32| f64::from(*x).exp()).sum::<f64>().ln();
                let expected = f64::from(logits[drawn.token as usize]) - lse;
                assert!((f64::from(drawn.logprob) - expected).abs() < 1e-6);
            }
            let mass: f64 = keep.iter().map(|&i| f64::from(logits[i]).exp()).sum();
            for (i, &count) in counts.iter().enumerate() {
                let expected = if keep.contains(&i) { f64::from(logits[i]).exp() / mass } else { 0.0 };
                assert!((count - expected).abs() < 0.012, "{params:?} {i}: {count} {expected}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_interval_are_safe() {
        let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
        assert_eq!(sample(&LOGITS, 6, params, 0.0).token, 0);
        assert!(sample(&LOGITS, 6, params, 1.0 - 1e-16).token < 6);
    }
}
