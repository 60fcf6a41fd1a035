//! What does this machine give? Cores, memory, and a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aepo::config::Arithmetic;
use aepo::prompt::template::Date;
use aepo_engine::gemm::{Along, Buffers, Factor, Numbers, Packed, Right, Target, multiply};
use aepo_engine::team::Team;

/// Certificates to trust instead of those of the public web, where the environment names a file of them.
pub fn certificates() -> Option<std::path::PathBuf> {
    std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from)
}

/// Threads that can run at once.
pub fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The day it is, in universal time; `None` where the clock stands before 1970.
pub fn today() -> Option<Date> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    date_of(since.as_secs() / 86_400)
}

/// The date of a day counted from 1970-01-01.
fn date_of(mut days: u64) -> Option<Date> {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for n in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < n {
            break;
        }
        days -= n;
        month += 1;
    }
    Date::new(u16::try_from(year).ok()?, month, u8::try_from(days + 1).ok()?)
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

/// Memory that a program may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Bytes.
    pub bytes: u64,
    /// Who says so.
    pub by: &'static str,
}

/// The lesser of what the system has available and what the groups of this process (cgroups) have left; `None` where
/// the system says neither.
pub fn free_memory() -> Option<Free> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let available = available_in(&read("/proc/meminfo").unwrap_or_default());
    let available = available.map(|bytes| Free { bytes, by: "MemAvailable of the system" });
    let group = read("/proc/self/cgroup").and_then(|text| left_in_groups(&text, &read));
    let group = group.map(|bytes| Free { bytes, by: "the memory limit of this process's cgroup" });
    available.into_iter().chain(group).min_by_key(|free| free.bytes)
}

/// `MemAvailable` of `/proc/meminfo`, bytes.
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What is left below the limits of a process's groups, from its own up to the root; file pages that can be given back
/// count as left. `groups` is `/proc/self/cgroup`: `0::/path` in version 2, `N:memory:/path` in version 1.
fn left_in_groups(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(kinds), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (root, limit, used, reclaimable) = match kinds {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "),
            kinds if kinds.split(',').any(|kind| kind == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
            }
            _ => continue,
        };
        // In a container the path is often that of the host, and only the root is there to be read.
        let mut path = path.trim_end_matches('/');
        loop {
            let folder = format!("{root}{path}");
            let number = |name: &str| read(&format!("{folder}/{name}"))?.trim().parse::<u64>().ok();
            if let (Some(limit), Some(used)) = (number(limit), number(used)) {
                let stat = read(&format!("{folder}/memory.stat")).unwrap_or_default();
                let cached = stat.lines().find_map(|line| line.strip_prefix(reclaimable)?.trim().parse::<u64>().ok());
                let left = limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0)));
                least = Some(least.map_or(left, |least| least.min(left)));
            }
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None => break,
            }
        }
    }
    least
}

/// Operations per second of the product of `rows` rows of `inner` numbers with packed weights of `cols` columns, as the
/// engine makes it, on `n_threads` threads, measured for a fifth of a second; 0 where no threads can be started.
pub fn product_speed(rows: usize, inner: usize, cols: usize, n_threads: usize, arithmetic: Arithmetic) -> f64 {
    let Ok(team) = Team::new(n_threads) else { return 0.0 };
    let (a, b) = (vec![0.5f32; rows * inner], vec![0.25f32; inner * cols]);
    let mut out = vec![0.0f32; rows * cols];
    let factor = |numbers, outer| Factor::new(Numbers::F32(numbers), outer, inner, inner, Along::Inner);
    let (left, right) = (factor(&a, rows), Packed::new(factor(&b, cols), arithmetic, &team));
    let mut buffers = Buffers::default();
    let mut product = || {
        let target = Target { data: &mut out, stride: cols, add: false };
        multiply(target, left, Right::Packed(&right), arithmetic, &team, &mut buffers);
    };
    // Pages are mapped in the first.
    product();
    let (clock, mut n) = (Instant::now(), 0);
    while n < 1 || clock.elapsed().as_secs_f64() < 0.2 {
        product();
        n += 1;
    }
    (n * 2 * rows * inner * cols) as f64 / clock.elapsed().as_secs_f64().max(1e-9)
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
    fn days_have_the_dates_of_the_calendar() {
        // date -u -d @$((DAYS * 86400)) +%F
        for (days, date) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_780, "2026-11-23")] {
            assert_eq!(date_of(days).unwrap().to_string(), date);
        }
        assert_eq!(date_of(20_819).unwrap().to_string(), "2027-01-01");
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(available_in("MemTotal: 9 kB\nMemAvailable:    1024 kB\n"), Some(1 << 20));
        assert_eq!(available_in("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn the_tightest_group_counts_with_what_it_can_give_back() {
        let files = |list: &'static [(&'static str, &'static str)]| {
            move |path: &str| list.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
        };
        let two = files(&[
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "50\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/a/memory.current", "600\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 500\ninactive_file 100\n"),
        ]);
        assert_eq!(left_in_groups("0::/a/b\n", &two), Some(500));
        assert_eq!(left_in_groups("0::/elsewhere\n", &two), None);
        let one = files(&[
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "300"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "100"),
        ]);
        assert_eq!(left_in_groups("3:cpu,memory:/of/the/host\n0::/\n", &one), Some(200));
        assert_eq!(left_in_groups("nonsense", &one), None);
    }

    #[test]
    fn a_product_has_a_speed() {
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            assert!(product_speed(16, 64, 64, 1, arithmetic) > 0.0);
        }
    }

    #[test]
    fn processor_time_is_of_the_process_and_its_children() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 200 3 4 1050 25 300 125 20 0 1 0 999 5 6";
        assert_eq!(cpu_secs_of(stat), 15.0);
        assert_eq!(cpu_secs_of(""), 0.0);
    }
}
