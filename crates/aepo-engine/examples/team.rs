//! What does handing out work cost? A team of threads beside rayon's: empty jobs, jobs of a few microseconds, and both
//! while another program takes a core.
//!
//! `cargo run --release -p aepo-engine --example team [threads]`

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aepo_engine::team::Team;
use rayon::prelude::*;

/// Jobs of a measurement.
const N_JOBS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(2), |a| a.parse())?;
    let team = Team::new(threads)?;
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for others in [0, 1] {
            for _ in 0..others {
                // Somebody else's program on one core.
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop()
                    }
                });
            }
            for work in [0, 1000, 20_000] {
                let ours = per_job(|| team.for_each(2 * threads, |i| spin(work, i)));
                let theirs = rayon.install(|| {
                    per_job(|| (0..2 * threads).into_par_iter().with_max_len(1).for_each(|i| spin(work, i)))
                });
                let alone = per_job(|| (0..2 * threads).for_each(|i| spin(work, i)));
                println!(
                    "{others} others, {threads} threads, {} chunks of {work:5} additions: team {ours}, rayon {theirs}, alone {alone}",
                    2 * threads
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Median and mean time of a job, of as many as fit in a second and a half.
fn per_job(job: impl Fn()) -> String {
    let mut times: Vec<Duration> = Vec::with_capacity(N_JOBS);
    let begin = Instant::now();
    while times.len() < N_JOBS && begin.elapsed() < Duration::from_millis(1500) {
        let start = Instant::now();
        job();
        times.push(start.elapsed());
    }
    times.sort();
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    let micros = |t: Duration| t.as_secs_f64() * 1e6;
    format!("{:6.2} us (mean {:6.2})", micros(times[times.len() / 2]), micros(mean))
}

/// Work that a compiler keeps.
fn spin(n: usize, seed: usize) {
    let mut x = seed;
    for i in 0..n {
        x = std::hint::black_box(x.wrapping_add(i));
    }
    std::hint::black_box(x);
}
