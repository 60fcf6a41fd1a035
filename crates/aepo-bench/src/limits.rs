//! What could this machine give, now and on so many threads? Measured in the same process as the case.
//!
//! - *FMA peak*, *dot-product peak*: the instructions alone, over registers.
//! - *Matrix peak*, of which shares are told: a product of packed panels that lie in the nearest caches, 8 rows by 48
//!   columns at a time, 192 (f32) or 384 (bf16) deep. It is what a matrix product can reach that has nothing to pack and
//!   no memory to wait for.
//! - *Read bandwidth*: the sum of an array of 256 MiB, a share for each thread.
//!
//! Every limit is the best of several short windows, all threads working at the same time: a machine that is busy with
//! something else gives less, never more.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::Precision;
use crate::peaks::{self, Kind, Panels};

/// A machine's limits on `threads` threads.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Threads that worked at the same time.
    pub threads: usize,
    /// Instructions of the f32 loops.
    pub f32_kind: &'static str,
    /// f32 multiply-adds over registers, GFLOP/s.
    pub f32_fma_gflops: f64,
    /// bf16 dot products over registers, GFLOP/s; `None` where the machine has none.
    pub bf16_dot_gflops: Option<f64>,
    /// Matrix product in f32, GFLOP/s.
    pub f32_matrix_gflops: f64,
    /// Matrix product in bf16, GFLOP/s; `None` where the machine has no such instructions.
    pub bf16_matrix_gflops: Option<f64>,
    /// Reading memory, GB/s (10⁹ bytes).
    pub read_gb_s: f64,
}

/// Windows, of which the best counts.
const WINDOWS: usize = 6;
const WINDOW: Duration = Duration::from_millis(50);
/// Bytes of the array that is read: several times any last cache.
const ARRAY_BYTES: usize = 256 << 20;

impl Limits {
    /// Measures for about two seconds.
    pub fn measure(threads: usize) -> Limits {
        let threads = threads.max(1);
        let kind = Kind::for_f32();
        let giga = |rate: f64| rate / 1e9;
        let positive = |rate: f64| (rate > 0.0).then_some(rate / 1e9);
        Limits {
            threads,
            f32_kind: kind.name(),
            f32_fma_gflops: giga(rate(threads, || (), |()| peaks::f32_registers(kind))),
            bf16_dot_gflops: positive(rate(threads, || (), |()| peaks::bf16_registers())),
            f32_matrix_gflops: giga(rate(threads, Panels::new, |p| p.f32_product(kind))),
            bf16_matrix_gflops: positive(rate(threads, Panels::new, Panels::bf16_product)),
            read_gb_s: giga(read_rate(threads)),
        }
    }

    /// The better of two measurements, limit by limit.
    pub fn or_better(self, other: Limits) -> Limits {
        let best = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a.max(b));
        Limits {
            f32_fma_gflops: self.f32_fma_gflops.max(other.f32_fma_gflops),
            bf16_dot_gflops: best(self.bf16_dot_gflops, other.bf16_dot_gflops),
            f32_matrix_gflops: self.f32_matrix_gflops.max(other.f32_matrix_gflops),
            bf16_matrix_gflops: best(self.bf16_matrix_gflops, other.bf16_matrix_gflops),
            read_gb_s: self.read_gb_s.max(other.read_gb_s),
            ..self
        }
    }

    /// The matrix peak of an arithmetic, GFLOP/s. Without instructions for bf16 it is that of f32.
    pub fn matrix_gflops(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32_matrix_gflops,
            Precision::Bf16 => self.bf16_matrix_gflops.unwrap_or(self.f32_matrix_gflops),
        }
    }
}

/// Work per second of all threads together: the best of the windows. `work` tells how much it did; 0 ends a window, for
/// there is nothing to measure then.
fn rate<T>(threads: usize, make: impl Fn() -> T + Sync, work: impl Fn(&mut T) -> u64 + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let window = || {
        let mut state = make();
        // The first makes pages and clocks ready.
        work(&mut state);
        (0..WINDOWS)
            .map(|_| {
                barrier.wait();
                let (start, mut done) = (Instant::now(), 0);
                while start.elapsed() < WINDOW {
                    match work(&mut state) {
                        0 => break,
                        n => done += n,
                    }
                }
                done as f64 / start.elapsed().as_secs_f64()
            })
            .collect::<Vec<f64>>()
    };
    let rates: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(window)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    (0..WINDOWS).map(|i| rates.iter().map(|of_thread| of_thread[i]).sum()).fold(0.0, f64::max)
}

/// Bytes per second that all threads together read.
fn read_rate(threads: usize) -> f64 {
    let array = vec![1u64; ARRAY_BYTES / 8];
    let shares: Vec<&[u64]> = array.chunks(array.len().div_ceil(threads)).collect();
    let barrier = Barrier::new(shares.len());
    let read = |share: &[u64]| {
        (0..WINDOWS)
            .map(|_| {
                barrier.wait();
                let start = Instant::now();
                std::hint::black_box(sum(share));
                start.elapsed().as_secs_f64()
            })
            .collect::<Vec<f64>>()
    };
    let secs: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let workers: Vec<_> = shares.iter().map(|&share| scope.spawn(move || read(share))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let slowest = |i: usize| secs.iter().map(|of_thread| of_thread[i]).fold(0.0, f64::max);
    (0..WINDOWS).map(|i| (array.len() * 8) as f64 / slowest(i).max(1e-9)).fold(0.0, f64::max)
}

/// Many sums at once, so that additions wait for memory and not for each other.
fn sum(numbers: &[u64]) -> u64 {
    let (chunks, rest) = numbers.as_chunks::<32>();
    let mut sums = [0u64; 32];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum = sum.wrapping_add(x));
    }
    sums.iter().chain(rest).fold(0, |a, &b| a.wrapping_add(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_working_instructions() {
        let limits = Limits::measure(1);
        assert!(limits.f32_fma_gflops > 0.0 && limits.f32_matrix_gflops > 0.0 && limits.read_gb_s > 0.0);
        assert_eq!(limits.bf16_dot_gflops.is_some(), Kind::has_bf16());
        assert_eq!(limits.matrix_gflops(Precision::F32), limits.f32_matrix_gflops);
    }

    #[test]
    fn a_sum_reads_every_number() {
        assert_eq!(sum(&(0..100).collect::<Vec<u64>>()), 4950);
    }
}
