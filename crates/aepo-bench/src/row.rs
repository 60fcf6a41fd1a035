//! What does a case say? One line of JSON, with the machine and the commit that it is about.

use serde::Serialize;

use crate::limits::Limits;

/// The commit this program was built from, `-dirty` where tracked files differ from it.
pub const COMMIT: &str = env!("AEPO_COMMIT");

/// One measured case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which case, with the sizes that make it what it is.
    pub case: String,
    /// Which program: this one.
    pub engine: &'static str,
    /// Which shape.
    pub model: &'static str,
    /// Threads of the engine.
    pub threads: usize,
    /// Numbers that matrices were multiplied in.
    pub precision: &'static str,
    /// Tokens of a round.
    pub tokens: u64,
    /// Median of the rounds, seconds.
    pub secs: f64,
    /// Seconds of each round, in order.
    pub rounds: Vec<f64>,
    /// Tokens per second of the median round.
    pub tokens_per_sec: f64,
    /// Operations of a round, counted as `flops` says; absent where a case is no arithmetic of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flop: Option<u64>,
    /// Operations per second of the median round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flop_per_sec: Option<f64>,
    /// Operations per second as a share of the matrix peak of the precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_matrix_peak: Option<f64>,
    /// Bytes of stored weights that a round has to read at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// Those bytes per second as a share of the read bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_bandwidth: Option<f64>,
    /// Most memory resident while the case ran, MiB, the program itself included.
    pub peak_rss_mib: Option<f64>,
    /// What else a case has to say.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub detail: serde_json::Map<String, serde_json::Value>,
    /// Limits of the machine in this run; absent where nothing is compared with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Which sources.
    pub commit: &'static str,
    /// Which machine.
    pub machine: String,
}

/// The processor, its cores and the memory, in words.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let kib = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let memory = kib.map_or_else(String::new, |kib| format!(", {:.0} GiB", kib / 1024.0 / 1024.0));
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {n} {}{memory}", if n == 1 { "core" } else { "cores" })
}

/// The middle of some numbers, the mean of the two in the middle where there is an even number; 0 of none.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
