//! How is a token drawn? By inverting the cumulative distribution at one uniform number.
//!
//! The logits are read once for log-sum-exp and entropy, in blocks whose maxima and sums are kept. With them a draw
//! finds its block without reading the others again. Where a cut ends is found by halving the interval that its
//! probability lies in, which takes a sum of vectors each time; nothing is sorted but the few tokens that are left.

use std::cmp::Ordering;

use aepo::policy::{N_TOP, SampleParams, SampledToken};

use crate::kernels::stats::{BLOCK, Block, RowStats, Total, block};
use crate::real::{Real, sum, sum_lanes, vectorize_op};

/// Buffers of one thread, reused from row to row.
#[derive(Default)]
pub struct Scratch {
    blocks: Vec<Block<f32>>,
    /// `eᶻ` of each token relative to the likeliest; of cuts only.
    weights: Vec<f32>,
    /// Tokens around the end of a cut.
    last: Vec<Candidate>,
}

/// A token and its `eᶻ`.
type Candidate = (u32, f32);

/// Tokens that are sorted rather than divided.
const FEW: usize = 64;

/// Draws from `softmax(logits/T)`, cut to the first `n_drawn` ids (at least one), then to the `top_k` likeliest tokens
/// and then to the smallest set of them with mass `top_p` (ties to the smaller id). Log-probability and entropy are
/// those of the uncut distribution.
///
/// The cumulative distribution is that of the surviving tokens in the order of their ids; `u` in [0, 1).
#[must_use]
pub fn sample(logits: &[f32], n_drawn: usize, params: SampleParams, u: f64, scratch: &mut Scratch) -> SampledToken {
    vectorize_op(Sample { logits, n_drawn, params, u, scratch })
}

struct Sample<'a> {
    logits: &'a [f32],
    n_drawn: usize,
    params: SampleParams,
    u: f64,
    scratch: &'a mut Scratch,
}

/// A row of logits and what is known of it.
struct Row<'a> {
    logits: &'a [f32],
    /// 1/T
    inverse: f32,
    /// The largest logit of all.
    top: f32,
    blocks: &'a [Block<f32>],
}

impl pulp::NullaryFnOnce for Sample<'_> {
    type Output = SampledToken;

    #[inline(always)]
    fn call(self) -> SampledToken {
        let Sample { logits, n_drawn, params, u, scratch } = self;
        let inverse = 1.0 / params.temperature;
        let Scratch { blocks, weights, last } = scratch;
        let mut total = Total::new(inverse);
        blocks.clear();
        for part in logits.chunks(BLOCK) {
            let block = block(part, inverse);
            blocks.push(block);
            total.add(block);
        }
        let stats: RowStats<f32> = total.stats();
        let row = Row { logits, inverse, top: total.top, blocks: &blocks[..] };
        let top_entropy = if params.top_entropy { row.top_entropy(total.sum) } else { 0.0 };
        let n_drawn = n_drawn.clamp(1, logits.len().max(1));
        // Where ids are left out, the last block may be one in part.
        if n_drawn < logits.len() {
            blocks.truncate(n_drawn.div_ceil(BLOCK));
            if let Some(last) = blocks.last_mut() {
                *last = block(&logits[(n_drawn - 1) / BLOCK * BLOCK..n_drawn], inverse);
            }
        }
        let row = Row { logits: &logits[..n_drawn.min(logits.len())], inverse, top: total.top, blocks: &blocks[..] };
        let token = match params.top_p >= 1.0 && params.top_k == 0 {
            true => row.draw(u),
            false => {
                weights.clear();
                weights.extend(row.logits.iter().map(|&x| row.weight(x)));
                draw_cut(weights, params, u, last)
            }
        };
        SampledToken {
            token: token as u32,
            logprob: logits.get(token).map_or(f32::NAN, |x| at_most_zero(x * inverse - stats.lse)),
            entropy: stats.entropy,
            top_entropy,
        }
    }
}

/// Rounding may lift a logarithm of 1 above 0; what is no number stays so.
#[inline(always)]
fn at_most_zero(x: f32) -> f32 {
    if x > 0.0 { 0.0 } else { x }
}

impl Row<'_> {
    /// `eᶻ` relative to the likeliest token.
    #[inline(always)]
    fn weight(&self, x: f32) -> f32 {
        Real::exp((x - self.top) * self.inverse)
    }

    #[inline(always)]
    fn block_mass(&self, block: &Block<f32>) -> f64 {
        f64::from(self.weight(block.top)) * f64::from(block.sum)
    }

    /// `Σ eᶻ` over all ids that may be drawn.
    #[inline(always)]
    fn mass(&self) -> f64 {
        self.blocks.iter().map(|b| self.block_mass(b)).sum()
    }

    /// The first id whose cumulative probability exceeds `u`: first its block, then itself.
    #[inline(always)]
    fn draw(&self, u: f64) -> usize {
        let mut left = self.mass() * u;
        let mut found = None;
        for (i, (block, part)) in self.blocks.iter().zip(self.logits.chunks(BLOCK)).enumerate() {
            let mass = self.block_mass(block);
            // What rounding leaves behind the last block falls to the last one that has any mass.
            if mass > 0.0 {
                found = Some((i, part, left.min(mass)));
            }
            left -= mass;
            if left < 0.0 {
                break;
            }
        }
        let Some((i, part, left)) = found else { return 0 };
        let mut weights = [0.0f32; BLOCK];
        for (w, &x) in weights.iter_mut().zip(part) {
            *w = self.weight(x);
        }
        i * BLOCK + draw(weights[..part.len()].iter().copied(), left).unwrap_or(0)
    }

    /// `−Σ p·ln p` over the [`N_TOP`] largest probabilities, summed from the largest down; `sum` is that of all `eᶻ`.
    #[inline(always)]
    fn top_entropy(&self, sum: f32) -> f32 {
        // Falling logits; those below the least of ten maxima of blocks are not among them.
        let mut top = [f32::NEG_INFINITY; N_TOP];
        let insert = |x: f32, top: &mut [f32; N_TOP]| {
            if x > top[N_TOP - 1] {
                let at = top.partition_point(|&t| t >= x);
                top[at..].rotate_right(1);
                top[at] = x;
            }
        };
        for block in self.blocks {
            insert(block.top, &mut top);
        }
        let floor = top[N_TOP - 1];
        top = [f32::NEG_INFINITY; N_TOP];
        for (_, part) in self.blocks.iter().zip(self.logits.chunks(BLOCK)).filter(|(b, _)| b.top >= floor) {
            for chunk in part.chunks(16) {
                if chunk.iter().fold(false, |any, &x| any | (x > top[N_TOP - 1])) {
                    chunk.iter().for_each(|&x| insert(x, &mut top));
                }
            }
        }
        let p = top.map(|x| f64::from(self.weight(x)) / f64::from(sum));
        -p.iter().filter(|&&p| p > 0.0).map(|&p| p * p.ln()).sum::<f64>() as f32
    }
}

/// From the likeliest down, ties to the smaller id.
fn falling(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The first number of which the sum with those before it exceeds `left`; rounding at the end falls to the largest.
#[inline(always)]
fn draw(weights: impl Iterator<Item = f32>, mut left: f64) -> Option<usize> {
    let mut largest = None;
    for (i, w) in weights.enumerate() {
        left -= f64::from(w);
        if left < 0.0 {
            return Some(i);
        }
        if largest.is_none_or(|(_, most)| w > most) {
            largest = Some((i, w));
        }
    }
    largest.map(|(i, _)| i)
}

/// Draws from the tokens that survive `top_k` and `top_p`.
#[inline(always)]
fn draw_cut(weights: &mut [f32], params: SampleParams, u: f64, buffer: &mut Vec<Candidate>) -> usize {
    let mut last = (u32::MAX, 0.0);
    if params.top_k > 0 {
        last = last_inside(weights, Enough::Tokens(params.top_k), buffer);
    }
    if params.top_p < 1.0 {
        let (_, mass) = reach(weights, last.1.to_bits());
        // Of tokens as likely as the last one, some may be outside.
        let ties = weights[(last.0 as usize).saturating_add(1).min(weights.len())..].iter();
        let outside = ties.filter(|&&w| w == last.1).count() as f64 * f64::from(last.1);
        last = last_inside(weights, Enough::Mass(f64::from(params.top_p) * (mass - outside)), buffer);
    }
    // What is cut off weighs nothing from here on.
    for w in weights.iter_mut() {
        *w = if *w >= last.1 { *w } else { 0.0 };
    }
    let after = (last.0 as usize).saturating_add(1).min(weights.len());
    for w in &mut weights[after..] {
        *w = if *w > last.1 { *w } else { 0.0 };
    }
    let masses = weights.chunks(BLOCK).map(|part| f64::from(sum(part)));
    let mut left = u * masses.clone().sum::<f64>();
    let mut found = None;
    for (i, mass) in masses.enumerate() {
        if mass > 0.0 {
            found = Some((i, left.min(mass)));
        }
        left -= mass;
        if left < 0.0 {
            break;
        }
    }
    let Some((i, left)) = found else { return 0 };
    let end = weights.len().min((i + 1) * BLOCK);
    i * BLOCK + draw(weights[i * BLOCK..end].iter().copied(), left).unwrap_or(0)
}

/// When a set of likeliest tokens is large enough.
#[derive(Clone, Copy)]
enum Enough {
    Tokens(usize),
    Mass(f64),
}

impl Enough {
    fn is(self, n_tokens: usize, mass: f64) -> bool {
        match self {
            Enough::Tokens(n) => n_tokens >= n,
            Enough::Mass(enough) => mass >= enough,
        }
    }
}

/// How many tokens have at least this weight, given by its bits, and how much they have together. Weights are not
/// negative, so their bits are in the order of their values.
#[inline(always)]
fn reach(weights: &[f32], bits: u32) -> (usize, f64) {
    let (mut n, mut mass) = (0, 0.0);
    for part in weights.chunks(BLOCK) {
        let (mut counts, mut lanes) = ([0u32; 16], [0.0f32; 16]);
        let (chunks, rest) = part.as_chunks::<16>();
        for chunk in chunks {
            for i in 0..16 {
                let inside = chunk[i].to_bits() >= bits;
                counts[i] += u32::from(inside);
                lanes[i] += if inside { chunk[i] } else { 0.0 };
            }
        }
        for (i, &w) in rest.iter().enumerate().filter(|(_, w)| w.to_bits() >= bits) {
            counts[i] += 1;
            lanes[i] += w;
        }
        n += counts.iter().sum::<u32>() as usize;
        mass += f64::from(sum_lanes(lanes));
    }
    (n, mass)
}

/// The least likely of the smallest set of likeliest tokens that is enough; of all tokens where none is.
#[inline(always)]
fn last_inside(weights: &[f32], enough: Enough, buffer: &mut Vec<Candidate>) -> Candidate {
    // The set holds all weights from `above` on and is not enough, or nothing; with those from `below` on it is.
    let (mut below, mut above) = (0u32, f32::INFINITY.to_bits());
    let (mut n_below, mut inside) = (weights.len(), (0, 0.0));
    while n_below - inside.0 > FEW && above - below > 1 {
        let middle = below + (above - below) / 2;
        let (n, mass) = reach(weights, middle);
        if enough.is(n, mass) {
            (below, n_below) = (middle, n);
        } else {
            (above, inside) = (middle, (n, mass));
        }
    }
    buffer.clear();
    let between = |w: f32| (below..above).contains(&w.to_bits());
    for (i, chunk) in weights.chunks(16).enumerate() {
        if chunk.iter().fold(false, |any, &w| any | between(w)) {
            let found = chunk.iter().enumerate().filter(|&(_, &w)| between(w));
            buffer.extend(found.map(|(j, &w)| ((16 * i + j) as u32, w)));
        }
    }
    buffer.sort_unstable_by(falling);
    let (mut n, mut mass) = inside;
    let mut last = (u32::MAX, 0.0);
    for &candidate in buffer.iter() {
        last = candidate;
        n += 1;
        mass += f64::from(candidate.1);
        if enough.is(n, mass) {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use aepo::seed::Seed;

    fn sample(logits: &[f32], n_drawn: usize, params: SampleParams, u: f64) -> SampledToken {
        super::sample(logits, n_drawn, params, u, &mut Scratch::default())
    }

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

    /// The definition: all tokens sorted, cut, put back in the order of ids.
    fn survivors(logits: &[f32], params: SampleParams) -> Vec<(usize, f64)> {
        let t = f64::from(params.temperature);
        let top = logits.iter().fold(f64::NEG_INFINITY, |a, &x| a.max(f64::from(x)));
        let mut all: Vec<(usize, f64)> = logits.iter().map(|&x| ((f64::from(x) - top) / t).exp()).enumerate().collect();
        all.sort_by(|a, b| logits[b.0].total_cmp(&logits[a.0]).then(a.0.cmp(&b.0)));
        if params.top_k > 0 {
            all.truncate(params.top_k);
        }
        let nucleus = f64::from(params.top_p) * all.iter().map(|x| x.1).sum::<f64>();
        let mut mass = 0.0;
        all.retain(|x| {
            mass += x.1;
            mass - x.1 < nucleus
        });
        all.sort_by_key(|x| x.0);
        all
    }

    #[test]
    fn cuts_leave_what_sorting_leaves() {
        // Rows of less than a block and of many; flat, peaked, in steps with many ties, and likely at one end only.
        for (n, shape) in [(7, 0), (500, 1), (BLOCK, 2), (3000, 0), (3000, 1), (3000, 2), (3000, 3)] {
            let logits: Vec<f32> = (0..n)
                .map(|i| {
                    let x = Seed(n as u64).uniform(i as u64) as f32;
                    [0.1 * x, 9.0 * x * x, (8.0 * x).floor(), x + i as f32 * 0.004][shape]
                })
                .collect();
            let mut scratch = Scratch::default();
            for (top_p, top_k) in
                [(1.0, 1), (1.0, 5), (1.0, 40), (1.0, 5000), (0.9, 0), (0.5, 0), (0.001, 0), (0.8, 30)]
            {
                for temperature in [1.0, 0.6] {
                    let params = SampleParams { temperature, top_p, top_k, top_entropy: false };
                    let kept = survivors(&logits, params);
                    let total: f64 = kept.iter().map(|x| x.1).sum();
                    // Where `u` points, within rounding, there the token's share of the interval lies. A large set that
                    // ends by its mass may by rounding have one token more or less, the least likely one.
                    let least = kept.iter().map(|x| x.1).fold(f64::INFINITY, f64::min);
                    let slack = 3e-6 + if top_p < 1.0 && kept.len() > 300 { least / total } else { 0.0 };
                    for i in 0..60 {
                        let u = (i as f64 + 0.5) / 60.0;
                        let drawn = super::sample(&logits, n, params, u, &mut scratch).token as usize;
                        let found = kept.iter().position(|k| k.0 == drawn);
                        let at = found.unwrap_or_else(|| panic!("{n} {shape} {params:?}: {drawn} is cut off"));
                        let before = kept[..at].iter().map(|x| x.1).sum::<f64>() / total;
                        let after = before + kept[at].1 / total;
                        assert!(before - slack < u && u < after + slack, "{n} {shape} {params:?}: {drawn} at {u}");
                    }
                    // The interval begins with the first survivor, and rounding at its end leads to a survivor.
                    let first = super::sample(&logits, n, params, 0.0, &mut scratch).token as usize;
                    let end = super::sample(&logits, n, params, 1.0 - 1e-12, &mut scratch).token as usize;
                    assert!(kept.first().is_some_and(|k| k.0 == first), "{n} {shape} {params:?} {first}");
                    assert!(kept.iter().any(|k| k.0 == end), "{n} {shape} {params:?} {end}");
                }
            }
        }
    }

    #[test]
    fn uncut_draws_invert_the_distribution_over_all_blocks() {
        let n = 5 * BLOCK + 77;
        let logits: Vec<f32> = (0..n).map(|i| 4.0 * Seed(3).uniform(i as u64) as f32).collect();
        let params = SampleParams { temperature: 0.9, top_p: 1.0, top_k: 0, top_entropy: false };
        let mut scratch = Scratch::default();
        for n_drawn in [n, n - 1, 3 * BLOCK, 2 * BLOCK + 1, 5] {
            let e: Vec<f64> = logits[..n_drawn].iter().map(|&x| (f64::from(x) / 0.9).exp()).collect();
            let total: f64 = e.iter().sum();
            let mut before = 0.0;
            for (id, &mass) in e.iter().enumerate() {
                if id % 37 == 0 || id + 1 == n_drawn || id % BLOCK == 0 || id % BLOCK == BLOCK - 1 {
                    let drawn = super::sample(&logits, n_drawn, params, (before + 0.5 * mass) / total, &mut scratch);
                    assert_eq!(drawn.token as usize, id);
                }
                before += mass;
            }
        }
    }

    #[test]
    fn what_is_no_number_is_not_hidden() {
        for params in [
            SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: true },
            SampleParams { temperature: 1.0, top_p: 0.9, top_k: 2, top_entropy: false },
        ] {
            for bad in [f32::NAN, f32::INFINITY] {
                let drawn = sample(&[0.0, bad, 1.0], 3, params, 0.5);
                assert!(!drawn.logprob.is_finite(), "{bad}: {drawn:?}");
            }
        }
    }
}
