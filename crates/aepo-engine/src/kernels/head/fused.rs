//! The head in `f32`: blocks of the vocabulary, each of which one thread multiplies and reads. A forward pass keeps the
//! logits of no more rows than [`KEPT_BYTES`] hold for the backward pass, which computes those of the others again.
//!
//! A row's sums are taken block by block and put together in the order of the blocks ([`stats`](super::super::stats)), as
//! sampling does, so they depend on the row alone and are the same bits. Backward, the gradient of a hidden row is the sum
//! over [`GROUPS`] parts of the vocabulary, in order, whatever the number of threads.

use std::ops::Range;

use super::{Head, HeadGradient, RowStats, row_backward};
use crate::gemm::{self, Along, Factor, Numbers, Packed, Right, Rows, RowsPart, Target, multiply};
use crate::kernels::stats::{BLOCK, Block, Total, block};
use crate::kernels::{product, row_parts};
use crate::real::{Real, fit, vectorize};
use crate::team::Team;

/// Hidden rows handled at once; bounds what lies in memory.
pub(crate) const ROWS: usize = 2048;
/// Logits that a forward pass keeps: a quarter less to multiply, where they are read from memory faster than that.
pub(crate) const KEPT_BYTES: usize = 256 << 20;
/// Hidden rows that meet a block before the next do: what fits with it into a processor's own cache.
pub(crate) const NEAR: usize = 256;
/// Parts of the vocabulary with a gradient of the hidden rows of their own.
pub(crate) const GROUPS: usize = 8;

/// What a block says about a row.
#[derive(Clone, Copy, Debug)]
struct Part {
    sums: Block<f32>,
    /// The target's logit, where it is in this block.
    target: f32,
}

/// Buffers, reused from batch to batch.
#[derive(Default)]
pub(crate) struct Buffers {
    rows: Rows,
    /// Of each thread.
    scratch: Vec<Scratch>,
    /// `[blocks][rows]`
    parts: Vec<Part>,
    /// `[groups][rows][d]`
    gradients: Vec<f32>,
    /// Of each [`NEAR`] hidden rows, the rows as what a product sums over.
    columns: Vec<Packed>,
    kept: Kept,
}

/// Logits of a forward pass's first rows.
#[derive(Default)]
struct Kept {
    n_rows: usize,
    /// `[blocks][n_rows][columns of the block]`
    logits: Vec<f32>,
}

/// Rows of `n` whose logits are kept in so many bytes.
pub(crate) fn n_kept(n: usize, vocab: usize, bytes: usize) -> usize {
    n.min(bytes / (4 * vocab.max(1)))
}

impl Kept {
    /// Logits of row `row` in columns of the vocabulary that are a block.
    fn row(&self, row: usize, columns: &Range<usize>) -> Option<&[f32]> {
        let start = columns.start * self.n_rows + row * columns.len();
        (row < self.n_rows).then(|| &self.logits[start..start + columns.len()])
    }
}

/// Of one thread.
#[derive(Default)]
struct Scratch {
    products: gemm::Buffers,
    /// A block of the vocabulary, for logits and for gradients of hidden rows.
    block: [Packed; 2],
    /// `[NEAR, BLOCK]`
    logits: Vec<f32>,
}

impl Scratch {
    /// One for each thread.
    fn of<'a>(all: &'a mut Vec<Scratch>, team: &Team) -> &'a mut [Scratch] {
        all.resize_with(team.n_threads().max(all.len()), Scratch::default);
        &mut all[..team.n_threads()]
    }

    /// Takes the weights of columns `start..end`; `gradients` is whether those of hidden rows will be wanted.
    fn take(&mut self, head: &Head<'_, f32>, columns: &Range<usize>, gradients: bool) {
        let (d, width, how) = (head.d, columns.len(), head.how);
        let Some(weight) = product::numbers(head.weight.part(columns.start * d..columns.end * d)) else { return };
        self.block[0].fill(Factor::new(weight, width, d, d, Along::Inner), how.arithmetic, how.team);
        if gradients {
            self.block[1].fill(Factor::new(weight, d, width, d, Along::Outer), how.arithmetic, how.team);
        }
    }
}

/// Computes the logits of some rows, of as many columns as the block has.
fn compute(
    head: &Head<'_, f32>,
    rows: RowsPart<'_>,
    block: &Packed,
    logits: &mut [f32],
    width: usize,
    products: &mut gemm::Buffers,
) {
    let target = Target { data: logits, stride: width, add: false };
    let (left, right) = (gemm::Left::Rows(rows), Right::Packed(block));
    multiply(target, left, right, head.how.arithmetic, head.how.team, products);
}

/// [`super::head_forward`].
pub(crate) fn forward(
    head: Head<'_, f32>,
    hidden: &[f32],
    targets: &[u32],
    keep_bytes: usize,
    logprobs: &mut [f32],
    stats: &mut [RowStats<f32>],
    b: &mut Buffers,
) {
    let (vocab, team) = (head.weight.len() / head.d, head.how.team);
    let inverse = f32::of(1.0 / head.temperature);
    let Buffers { rows, scratch, parts, kept, .. } = b;
    let scratch = Scratch::of(scratch, team);
    kept.n_rows = n_kept(targets.len(), vocab, keep_bytes);
    let n_kept = kept.n_rows;
    // Each block has a part, and be it of a number that nobody writes. What is longer stays so: passes that keep nothing
    // come between others.
    let held = (n_kept * vocab).max(vocab.div_ceil(BLOCK));
    if kept.logits.len() < held {
        fit(&mut kept.logits, held);
    }
    let chunks = targets.chunks(ROWS).zip(logprobs.chunks_mut(ROWS)).zip(stats.chunks_mut(ROWS));
    for ((chunk, ((targets, logprobs), stats)), hidden) in chunks.enumerate().zip(hidden.chunks(ROWS * head.d)) {
        let n = targets.len();
        rows.fill(Factor::new(Numbers::F32(hidden), n, head.d, head.d, Along::Inner), head.how.arithmetic, team);
        let empty = Part { sums: Block { top: 0.0, sum: 0.0, weighted: 0.0 }, target: 0.0 };
        parts.resize(vocab.div_ceil(BLOCK) * n, empty);
        let both = ((&mut parts[..], n), (&mut kept.logits[..held], (n_kept * BLOCK).max(1)));
        team.split_with(scratch, both, |own, index, (parts, kept)| {
            let columns = index * BLOCK..vocab.min((index + 1) * BLOCK);
            own.take(&head, &columns, false);
            for at in row_parts(n, NEAR) {
                let (row, width) = (chunk * ROWS + at.start, columns.len());
                let Scratch { products, block: [weights, _], logits } = &mut *own;
                let logits = match row + at.len() <= n_kept {
                    true => &mut kept[row * width..][..at.len() * width],
                    false => {
                        logits.resize(at.len() * width, 0.0);
                        &mut logits[..]
                    }
                };
                compute(&head, rows.part(at.clone()), weights, logits, width, products);
                for (part, (row, &target)) in
                    parts[at.clone()].iter_mut().zip(logits.chunks_exact(width).zip(&targets[at]))
                {
                    part.sums = vectorize(
                        #[inline(always)]
                        || block(row, inverse),
                    );
                    part.target = row.get((target as usize).wrapping_sub(columns.start)).copied().unwrap_or(0.0);
                }
            }
        });
        let parts = &*parts;
        team.split(((logprobs, 64), (stats, 64)), |chunk, (logprobs, stats)| {
            for (i, (logprob, stats)) in logprobs.iter_mut().zip(stats).enumerate() {
                let row = chunk * 64 + i;
                let mut total = Total::new(inverse);
                parts[row..].iter().step_by(n).for_each(|part| total.add(part.sums));
                *stats = total.stats();
                let target = parts[targets[row] as usize / BLOCK * n + row].target;
                *logprob = target * inverse - stats.lse;
            }
        });
    }
}

/// [`super::head_backward`].
pub(crate) fn backward(
    head: Head<'_, f32>,
    of: HeadGradient<'_, f32>,
    dhidden: &mut [f32],
    mut dweight: Option<&mut [f32]>,
    b: &mut Buffers,
) {
    let HeadGradient { hidden, rows: places, targets, stats, c, d } = of;
    let (vocab, dim, how) = (head.weight.len() / head.d, head.d, head.how);
    let inverse = f32::of(1.0 / head.temperature);
    let of_group = vocab.div_ceil(GROUPS).next_multiple_of(BLOCK);
    let n_groups = vocab.div_ceil(of_group);
    let Buffers { rows, scratch, gradients: parts, columns, kept, .. } = b;
    let kept = &*kept;
    let scratch = Scratch::of(scratch, how.team);
    for (start, hidden) in (0..targets.len()).step_by(ROWS).zip(hidden.chunks(ROWS * dim)) {
        let n = ROWS.min(targets.len() - start);
        let here = start..start + n;
        let (targets, stats, c) = (&targets[here.clone()], &stats[here.clone()], &c[here.clone()]);
        let d = if d.is_empty() { d } else { &d[here.clone()] };
        let places = &places[here];
        let numbers = Numbers::F32(hidden);
        rows.fill(Factor::new(numbers, n, dim, dim, Along::Inner), how.arithmetic, how.team);
        columns.resize_with(n.div_ceil(NEAR).max(columns.len()), Packed::default);
        for (columns, at) in columns.iter_mut().zip(row_parts(n, NEAR)) {
            let numbers = Numbers::F32(&hidden[at.start * dim..at.end * dim]);
            columns.fill(Factor::new(numbers, dim, at.len(), dim, Along::Outer), how.arithmetic, how.team);
        }
        let (rows, columns) = (&*rows, &*columns);
        parts.clear();
        parts.resize(n_groups * n * dim, 0.0);
        // The gradient of a group's weights, and the part of the hidden rows' gradient that comes from it.
        let group = |own: &mut Scratch, group: usize, part: &mut [f32], mut dweight: Option<&mut [f32]>| {
            let last = vocab.min((group + 1) * of_group);
            for first in (group * of_group..last).step_by(BLOCK) {
                let width = BLOCK.min(last - first);
                own.take(&head, &(first..first + width), true);
                for (at, columns) in row_parts(n, NEAR).zip(columns) {
                    let Scratch { products, block, logits } = &mut *own;
                    logits.resize(at.len() * width, 0.0);
                    let vocabulary = first..first + width;
                    let are_kept = places[at.clone()].iter().all(|&place| kept.row(place, &vocabulary).is_some());
                    if !are_kept {
                        compute(&head, rows.part(at.clone()), &block[0], logits, width, products);
                    }
                    for (i, row) in at.clone().zip(logits.chunks_exact_mut(width)) {
                        if let Some(z) = kept.row(places[i], &vocabulary).filter(|_| are_kept) {
                            row.copy_from_slice(z);
                        }
                        let d = d.get(i).copied().unwrap_or(0.0);
                        vectorize(
                            #[inline(always)]
                            || row_backward(row, stats[i], c[i], d, inverse),
                        );
                        if let Some(x) = row.get_mut((targets[i] as usize).wrapping_sub(first)) {
                            *x += c[i] * inverse;
                        }
                    }
                    let dlogits = |along| {
                        let (outer, inner) = if along == Along::Inner { (at.len(), width) } else { (width, at.len()) };
                        Factor::new(Numbers::F32(logits), outer, inner, width, along)
                    };
                    let target = Target { data: &mut part[at.start * dim..at.end * dim], stride: dim, add: true };
                    let right = Right::Packed(&block[1]);
                    multiply(target, dlogits(Along::Inner), right, how.arithmetic, how.team, products);
                    if let Some(dweight) = &mut dweight {
                        let data = &mut dweight[(first - group * of_group) * dim..][..width * dim];
                        let (target, right) = (Target { data, stride: dim, add: true }, Right::Packed(columns));
                        multiply(target, dlogits(Along::Outer), right, how.arithmetic, how.team, products);
                    }
                }
            }
        };
        let of_parts = (&mut parts[..], n * dim);
        match &mut dweight {
            Some(dweight) => {
                let both = (of_parts, (&mut **dweight, of_group * dim));
                how.team.split_with(scratch, both, |own, i, (part, dweight)| group(own, i, part, Some(dweight)));
            }
            None => how.team.split_with(scratch, of_parts, |own, i, part| group(own, i, part, None)),
        }
        let dhidden = &mut dhidden[start * dim..][..n * dim];
        how.team.split((dhidden, 64 * dim), |chunk, out| {
            let at = chunk * 64 * dim;
            out.copy_from_slice(&parts[at..at + out.len()]);
            for part in parts.chunks_exact(n * dim).skip(1) {
                vectorize(
                    #[inline(always)]
                    || out.iter_mut().zip(&part[at..]).for_each(|(out, part)| *out += part),
                );
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Arithmetic;
    use crate::kernels::head::{self, head_backward, head_forward};
    use crate::matmul::How;
    use crate::testing::{random, team};
    use crate::weights::Matrix;

    /// Against the definition in `f64`; and a row's numbers are the same in any company and on any number of threads.
    #[test]
    fn it_is_the_head() {
        let (n, d, vocab) = (ROWS + 5, 13, 5 * BLOCK + 21);
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let targets: Vec<u32> = (0..n).map(|i| (i * 37 % vocab) as u32).collect();
        let (hidden, weight) = (random(1, n * d), random(2, vocab * d));
        let (c, e) = (random(3, n), random(4, n));
        let (hidden32, weight32, c32, e32) = (narrow(&hidden), narrow(&weight), narrow(&c), narrow(&e));
        let (one, two) = (team(1), team(2));
        for (arithmetic, tolerance) in [(Arithmetic::F32, 2e-4), (Arithmetic::Bf16, 0.05)] {
            let temperature = 0.8;
            let exact = Head { weight: Matrix::Full(&weight[..]), d, temperature, how: How { arithmetic, team: &one } };
            let (mut logprobs, mut stats) = (vec![0.0; n], vec![RowStats::default(); n]);
            let b = &mut head::Buffers::default();
            head_forward(exact, &hidden, &targets, &mut logprobs, &mut stats, b);
            let run = |team: &Team, from: usize, keep_bytes: usize, with_weight: bool| {
                let how = How { arithmetic, team };
                let head = Head { weight: Matrix::Full(&weight32[..]), d, temperature, how };
                let (hidden, targets) = (&hidden32[from * d..], &targets[from..]);
                let (mut logprobs, mut stats) = (vec![0.0; n - from], vec![RowStats::default(); n - from]);
                let b = &mut Buffers::default();
                forward(head, hidden, targets, keep_bytes, &mut logprobs, &mut stats, b);
                let rows: Vec<usize> = (0..targets.len()).collect();
                let of = HeadGradient { hidden, rows: &rows, targets, stats: &stats, c: &c32[from..], d: &e32[from..] };
                let (mut dhidden, mut dweight) = (vec![9.0; (n - from) * d], vec![0.0; vocab * d]);
                backward(head, of, &mut dhidden, with_weight.then_some(&mut dweight), b);
                (logprobs, stats, dhidden, dweight)
            };
            let enough = 4 * n * vocab;
            let all = run(&one, 0, enough, true);
            let rows: Vec<usize> = (0..n).collect();
            let of = HeadGradient { hidden: &hidden, rows: &rows, targets: &targets, stats: &stats, c: &c, d: &e };
            let (mut dhidden, mut dweight) = (vec![0.0; n * d], vec![0.0; vocab * d]);
            head_backward(exact, of, &mut dhidden, Some(&mut dweight), &mut head::Buffers::default());
            let entropies = |stats: &[RowStats<f32>]| stats.iter().map(|s| s.entropy).collect::<Vec<f32>>();
            let exact_entropies: Vec<f64> = stats.iter().map(|s| s.entropy).collect();
            let pairs =
                [(&all.0, &logprobs), (&entropies(&all.1), &exact_entropies), (&all.2, &dhidden), (&all.3, &dweight)];
            for (i, (found, exact)) in pairs.into_iter().enumerate() {
                let scale = exact.iter().fold(1.0f64, |most, x| most.max(x.abs()));
                for (x, y) in found.iter().zip(exact) {
                    assert!((f64::from(*x) - y).abs() < tolerance * scale, "{i}: {x} {y}");
                }
            }
            for keep_bytes in [0, 4 * 700 * vocab, 4 * ROWS * vocab] {
                assert!(run(&two, 0, keep_bytes, true) == all, "threads, {keep_bytes} bytes of logits kept");
            }
            assert!(run(&two, 0, enough, false).2 == all.2, "frozen");
            let some = run(&one, 7, enough, true);
            assert!(some.0 == all.0[7..] && some.1 == all.1[7..] && some.2 == all.2[7 * d..], "company");
        }
    }
}
