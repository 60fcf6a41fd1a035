//! Does every hostile program end as its row says, and is everything else as it was before?

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::probe::{self, Holds};
use aepo_tools::python::{Backend, Executor, Limits, Program, PythonSettings};

use crate::CATEGORIES;
use crate::table::Case;

/// Programs that run at once.
const N_SLOTS: usize = 4;
/// What a program may overrun its deadline by before it counts as a hang. The exact bound is measured by the example
/// `soak`, on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(20);
/// In the environment of everything here, and in no program's.
pub const SECRET: &str = "canary-of-the-environment";
/// A user that owns nothing. Not 65534, which other programs run as.
const NOBODY: u32 = 64_929;

/// Limits under which most hostile programs run.
pub fn limits() -> Limits {
    Limits { wall_secs: 2.0, cpu_secs: 10, ..Limits::default() }
}

/// Limits for honest programs on a busy machine.
pub fn patient() -> Limits {
    Limits { wall_secs: 60.0, cpu_secs: 30, ..Limits::default() }
}

/// An executor of exactly this backend; says why and gives `None` where this machine does not offer it. One that the
/// machine does offer must start.
pub fn start(backend: Backend, n_slots: usize) -> Option<Executor> {
    let lacking: Vec<_> = probe::kernel().into_iter().filter(|part| needs(backend).contains(&part.name)).collect();
    if let Some(part) =
        lacking.iter().find(|part| part.holds == Holds::No || part.name != "Landlock" && part.holds != Holds::Yes)
    {
        eprintln!("skipped: {}: {}: {}", backend.name(), part.name, part.says);
        return None;
    }
    let settings = PythonSettings { backend, interpreter: interpreter(), ..PythonSettings::default() };
    let executor = Executor::start(&settings, n_slots, None).unwrap_or_else(|e| panic!("{}: {e}", backend.name()));
    Some(executor)
}

/// The parts of a machine that a backend is built from, by their names in `probe`.
fn needs(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Namespaces => &["namespaces", "private mounts", "Landlock", "pidfd"],
        _ => &["Landlock", "pidfd"],
    }
}

/// The interpreter that the caller of the tests names, if any.
fn interpreter() -> Option<PathBuf> {
    std::env::var_os("AEPO_PYTHON").map(PathBuf::from)
}

/// What programs must not change or reach.
struct Surroundings {
    dir: tempfile::TempDir,
    listener: TcpListener,
}

impl Surroundings {
    fn new() -> Surroundings {
        let dir = tempfile::Builder::new().prefix("hostile-").tempdir().unwrap();
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::write(dir.path().join("canary"), "canary").unwrap();
        // Nothing but the sandbox stands between a program and this file.
        open(dir.path(), 0o777);
        open(&dir.path().join("canary"), 0o666);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Surroundings { dir, listener }
    }

    fn fill(&self, code: &str) -> String {
        let canary = self.dir.path().join("canary").display().to_string();
        let port = self.listener.local_addr().unwrap().port().to_string();
        let code = code.replace("CANARY", &canary).replace("PORT", &port).replace("SECRET", SECRET);
        code.replace("SERVER", &std::process::id().to_string())
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let text = std::fs::read_to_string(self.dir.path().join("canary"));
        if text.as_deref().ok() != Some("canary") {
            faults.push(format!("the canary is {text:?}"));
        }
        let names: Vec<_> = std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        if names != ["canary"] {
            faults.push(format!("the canary's directory holds {names:?}"));
        }
        if self.listener.accept().is_ok() {
            faults.push("somebody connected to our port".to_owned());
        }
        faults
    }
}

/// Process ids of everything that descends from `root`, and what each is.
pub fn descendants(root: u32) -> Vec<(u32, String)> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next().unwrap_or(""), fields.next().and_then(|f| f.parse::<u32>().ok()));
        parents.push((pid, parent.unwrap_or(0), format!("{name}) {state}")));
    }
    let mut found: Vec<(u32, String)> = Vec::new();
    let mut front = vec![root];
    while let Some(at) = front.pop() {
        for (pid, parent, name) in &parents {
            if *parent == at {
                front.push(*pid);
                found.push((*pid, name.clone()));
            }
        }
    }
    found.sort();
    found
}

/// Waits until `condition` holds; gives up after [`PATIENCE`].
pub fn eventually(condition: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// One honest call; what is wrong with its answer.
pub fn honest(executor: &Executor) -> Option<String> {
    let ran = executor.run(&Program::new("print(sum(range(10)))", Seed(1), &patient()));
    let right = ran.outcome == ToolOutcome::Ok && ran.stdout == "45\n" && ran.stderr.is_empty();
    (!right).then(|| format!("an honest call gave {:?} {:?} {:?}", ran.outcome, ran.stdout, ran.message))
}

fn try_case(executor: &Executor, surroundings: &Surroundings, case: &Case) -> Vec<String> {
    let mut limits = (case.limits)(limits());
    if !case.ends.contains(&ToolOutcome::Timeout) {
        // It has to end by itself or by another limit, however little of a busy machine it gets.
        limits.wall_secs = limits.wall_secs.max(patient().wall_secs);
    }
    let began = Instant::now();
    let ran = executor.run(&Program::new(&surroundings.fill(&case.code), Seed(3), &limits));
    let wall = began.elapsed();
    let mut faults = Vec::new();
    let (cpu_secs, wall_secs) = (ran.cpu_secs, ran.wall_secs);
    let said = format!(
        "{:?}: {:.300} {:.300} {:?} {:.300} (wall {wall_secs:.2} s, processor {cpu_secs:.2} s)",
        ran.outcome, ran.stdout, ran.stderr, ran.exit_code, ran.message
    );
    let held = case.not_held.is_none();
    if held && !case.ends.contains(&ran.outcome) {
        faults.push(format!("ended as {said}"));
    }
    if held && [&ran.stdout, &ran.stderr].into_iter().chain(&ran.value).any(|text| text.contains("BREACH")) {
        faults.push(format!("got through: {said}"));
    }
    if held && ran.outcome == ToolOutcome::Ok && case.prints.is_some_and(|prints| prints != ran.stdout) {
        faults.push(format!("printed something else: {said}"));
    }
    if wall > Duration::from_secs_f64(limits.wall_secs) + PATIENCE {
        faults.push(format!("took {wall:?} of {} s", limits.wall_secs));
    }
    let n_bytes = ran.stdout.len() + ran.stderr.len() + ran.value.map_or(0, |value| value.len());
    if n_bytes > limits.max_output_bytes || ran.message.len() > 4200 {
        faults.push(format!("said {n_bytes} bytes, and {} in the last line", ran.message.len()));
    }
    faults.extend(honest(executor));
    faults
}

/// Runs every program at one level.
fn hold(backend: Backend) {
    let Some(executor) = start(backend, N_SLOTS) else { return };
    let surroundings = Surroundings::new();
    // Some programs would do harm if nothing held them; this one would not.
    let gate = "import os\ntry: os.kill(SERVER, 0)\nexcept OSError: print('held')";
    let ran = executor.run(&Program::new(&surroundings.fill(gate), Seed(0), &patient()));
    assert_eq!(ran.stdout, "held\n", "{ran:?}");
    let before = descendants(std::process::id());

    let level = executor.level();
    let rows = CATEGORIES.iter().flat_map(|(category, rows)| rows.iter().flat_map(|row| row.cases(category, level)));
    let cases: Vec<Case> = rows.collect();
    let (next, report) = (AtomicUsize::new(0), Mutex::new(String::new()));
    std::thread::scope(|scope| {
        for _ in 0..N_SLOTS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for fault in try_case(&executor, &surroundings, case) {
                        let _ = writeln!(report.lock().unwrap(), "{}: {fault}", case.name);
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap();
    surroundings.faults().iter().for_each(|fault| report += &format!("{fault}\n"));
    // The sandbox may keep helpers, but no more of them than before.
    if !eventually(|| descendants(std::process::id()).len() <= before.len()) {
        report += &format!("left behind: {:?}, before: {before:?}\n", descendants(std::process::id()));
    }
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..N_SLOTS).map(|_| scope.spawn(|| honest(&executor))).collect();
        calls.into_iter().filter_map(|call| call.join().unwrap()).for_each(|fault| report += &fault);
    });
    drop(executor);
    if !eventually(|| descendants(std::process::id()).is_empty()) {
        report += &format!("left behind at the end: {:?}\n", descendants(std::process::id()));
    }
    let not_held: Vec<_> = cases.iter().filter(|case| case.not_held.is_some()).collect();
    eprintln!("{}: {} programs, {} of them not held", level.name(), cases.len(), not_held.len());
    assert!(report.is_empty(), "at level {}:\n{report}", level.name());
}

/// Runs one test of this program in a process of its own, so that what descends from it is its own.
fn apart(test: &str, nobody: bool) {
    let exe = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(&exe);
    // Of its own as well, so that what is left there is its.
    let mut dir = tempfile::tempdir().unwrap();
    command.env("TMPDIR", dir.path());
    if nobody {
        use std::os::unix::process::CommandExt as _;
        // Where the tests are built may be closed to others, and so may our home and temporary directory.
        let place = tempfile::Builder::new().prefix("hostile-nobody-").tempdir_in("/tmp").unwrap();
        let copy = place.path().join("hostile");
        std::fs::copy(&exe, &copy).unwrap();
        for (path, mode) in [(place.path().to_path_buf(), 0o755), (copy.clone(), 0o755)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let home = place.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        command = std::process::Command::new(&copy);
        command.uid(NOBODY).gid(NOBODY).current_dir(&home).env("HOME", &home).env("TMPDIR", &home);
        if interpreter().is_some_and(|path| !matches!(probe::closed_to_others(&path), Ok(None))) {
            // It is closed to others, too; the system's own is not.
            command.env_remove("AEPO_PYTHON");
        }
        dir = place;
    }
    command.args(["--exact", test, "--nocapture"]).env(APART, "1").env("SECRET_OF_THE_TESTS", SECRET);
    let done = command.output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    drop(dir);
}

/// Set in a copy of this program that runs one test.
const APART: &str = "AEPO_HOSTILE_APART";

/// Runs `act` in a process of its own.
pub fn alone(test: &str, act: impl FnOnce()) {
    match std::env::var_os(APART) {
        Some(_) => act(),
        None => apart(test, false),
    }
}

/// Runs `act` in a process of its own, and where this user has all rights, again as one without.
fn as_both(test: &str, act: impl FnOnce()) {
    if std::env::var_os(APART).is_none() && probe::kernel::uid() == 0 {
        apart(test, true);
    }
    alone(test, act);
}

#[test]
fn namespaces_hold() {
    as_both("suite::namespaces_hold", || hold(Backend::Namespaces));
}

#[test]
fn landlock_holds() {
    as_both("suite::landlock_holds", || hold(Backend::Landlock));
}
