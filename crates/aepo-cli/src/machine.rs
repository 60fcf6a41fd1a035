//! What does this machine give? Cores, memory, and a clock.

use std::time::Instant;

/// Threads that can run at once.
pub fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The most memory this process has held so far, MiB (VmHWM); 0 where the system does not say.
pub fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Processor time of this process and of the children that it has waited for, in all their threads, seconds; 0 where
/// the system does not say.
fn cpu_secs() -> f64 {
    cpu_secs_of(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())
}

/// Reads `utime + stime + cutime + cstime` (proc(5)) of a line of `/proc/PID/stat`.
fn cpu_secs_of(stat: &str) -> f64 {
    // The kernel counts in ticks of its interface to programs, which are hundredths of a second on every Linux.
    const TICKS_PER_SEC: f64 = 100.0;
    // The program's name, in brackets, may hold spaces and brackets; `utime` is the 12th field behind it.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind_name.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SEC
}

/// The processor, its cores and the memory, in words.
pub fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let kib = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let memory = kib.map_or_else(String::new, |kib| format!(", {:.1} GiB", kib / 1024.0 / 1024.0));
    let n = n_cores();
    format!("{model}, {n} {}{memory}", if n == 1 { "core" } else { "cores" })
}

/// A stopwatch, of the clock on the wall and of the processor.
pub struct Clock {
    since: Instant,
    /// What had been spent by then: `cargo run` becomes this program, and its compilers then count among the children.
    cpu_secs_before: f64,
}

impl Clock {
    /// Starts at 0.
    pub fn start() -> Clock {
        Clock { since: Instant::now(), cpu_secs_before: cpu_secs() }
    }

    /// Seconds since the start.
    pub fn secs(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// Processor time since the start, seconds: of this process and of the children that it has waited for.
    pub fn cpu_secs(&self) -> f64 {
        cpu_secs() - self.cpu_secs_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_of_the_process_and_its_children() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 200 3 4 1050 25 300 125 20 0 1 0 999 5 6";
        assert_eq!(cpu_secs_of(stat), 15.0);
        assert_eq!(cpu_secs_of(""), 0.0);
    }
}
