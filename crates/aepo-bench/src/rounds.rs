//! How is a case measured? Warm-up, rounds and their median; or a round for each request of a driver, which lets two
//! programs take turns.

use std::io::{BufRead as _, Write as _};

use crate::args::Common;
use crate::limits::Limits;
use crate::memory;
use crate::row::{COMMIT, Row, machine, median};

/// What a case is, besides its rounds.
pub struct Work {
    /// Which case, with the sizes that make it what it is.
    pub case: String,
    /// Which shape.
    pub model: &'static str,
    /// Tokens of a round.
    pub tokens: u64,
    /// Operations of a round.
    pub flop: Option<u64>,
    /// Bytes of stored weights that a round has to read at least.
    pub weight_bytes: Option<u64>,
    /// What else there is to say, known before the rounds.
    pub detail: serde_json::Map<String, serde_json::Value>,
}

/// Measures rounds and prints a row for them. `limits` come from before the engine was made, so that the array that
/// bandwidth is measured with is not counted as its memory. `round` gives its own seconds, so that what a case prepares
/// or takes down is not counted.
pub fn measure(
    common: &Common,
    limits: Limits,
    work: &Work,
    mut round: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    for _ in 0..common.warm_up {
        round()?;
    }
    if !common.on_request {
        let secs = (0..common.median_of.max(1)).map(|_| round()).collect::<anyhow::Result<Vec<f64>>>()?;
        let peak = memory::peak_mib();
        let limits = limits.or_better(Limits::measure(common.threads));
        return print(&row(common, &limits, work, secs, peak));
    }
    println!("ready");
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "go" => {
                let secs = round()?;
                print(&row(common, &limits, work, vec![secs], memory::peak_mib()))?;
            }
            "" => (),
            other => anyhow::bail!("a driver says `go` for a round, not `{other}`"),
        }
    }
    Ok(())
}

/// Prints a row as one line.
pub fn print(row: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(row)?)?;
    Ok(out.flush()?)
}

fn row(common: &Common, limits: &Limits, work: &Work, rounds: Vec<f64>, peak_rss_mib: Option<f64>) -> Row {
    let secs = median(&rounds);
    let per_sec = |n: u64| n as f64 / secs.max(1e-12);
    let precision = common.precision;
    Row {
        case: work.case.clone(),
        engine: "aepo",
        model: work.model,
        threads: common.threads,
        precision: precision.name(),
        tokens: work.tokens,
        secs,
        rounds,
        tokens_per_sec: per_sec(work.tokens),
        flop: work.flop,
        flop_per_sec: work.flop.map(per_sec),
        share_of_matrix_peak: work.flop.map(|n| per_sec(n) / 1e9 / limits.matrix_gflops(precision)),
        weight_bytes: work.weight_bytes,
        share_of_bandwidth: work.weight_bytes.map(|n| per_sec(n) / 1e9 / limits.read_gb_s),
        peak_rss_mib,
        detail: work.detail.clone(),
        limits: Some(limits.clone()),
        commit: COMMIT,
        machine: machine(),
    }
}
