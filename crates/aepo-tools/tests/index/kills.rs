//! Is anything lost that a build had committed when it was killed? The test starts itself as the process that is killed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aepo_tools::search::disk::{BuildSettings, DiskIndex, Phase, build};

use crate::corpora::{answers, articles, built, jsonl, settings};

/// Tells a child which folder to build in.
const FOLDER: &str = "AEPO_TEST_INDEX_FOLDER";
/// How many kills; more than these few are asked for by this variable.
const KILLS: &str = "AEPO_TEST_INDEX_KILLS";

fn plan(folder: &Path) -> BuildSettings {
    settings(folder.join("corpus.jsonl"), folder.join("index"), 40)
}

/// What a child does: it builds, and writes each number down after the commit that it was told of.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let mut log = OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    // A child that goes on reports first what was there; that is no news.
    let mut last = acknowledged(&folder).0;
    build(&plan(&folder), |phase| {
        if let Phase::Indexing { n_committed, .. } = phase
            && n_committed != last
        {
            last = n_committed;
            writeln!(log, "{n_committed}").unwrap();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
}

/// The last number that children wrote, and how many they wrote.
fn acknowledged(folder: &Path) -> (u64, usize) {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers: Vec<u64> = whole.lines().map(|line| line.parse().unwrap()).collect();
    (numbers.last().copied().unwrap_or(0), numbers.len())
}

#[test]
fn nothing_committed_is_lost_and_the_answers_are_those_of_an_undisturbed_build() {
    let n_kills: usize = std::env::var(KILLS).ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let plan = plan(folder);
    // A child may commit a few times before it is killed, and there must be something left for the last.
    jsonl(&plan.corpus, &articles(40 * 4 * (n_kills + 3)));
    let whole = BuildSettings { out: folder.join("whole"), ..plan.clone() };
    built(&whole).unwrap();
    let mut n_before = 0;
    for kill in 0..n_kills {
        let (_, n_lines) = acknowledged(folder);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::child"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Until it has committed something, and then a moment that differs from kill to kill.
        let began = Instant::now();
        while acknowledged(folder).1 == n_lines && began.elapsed() < Duration::from_secs(300) {
            assert!(child.try_wait().unwrap().is_none(), "the child ended before kill {kill}");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(701 * (kill as u64 % 17)));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        let (n_committed, _) = acknowledged(folder);
        assert!(n_committed > n_before, "a child that went on from {n_before} committed {n_committed}");
        n_before = n_committed;
        assert!(DiskIndex::open(&plan.out).is_err(), "half an index was opened");
    }
    let made = built(&plan).unwrap();
    assert!(made.n_resumed >= n_before, "{n_before} were committed, {} were found", made.n_resumed);
    assert!(made.n_resumed < made.manifest.n_rows, "the last build had nothing to do");
    let (index, undisturbed) = (DiskIndex::open(&plan.out).unwrap(), DiskIndex::open(&whole.out).unwrap());
    DiskIndex::check(&plan.out, |_| ()).unwrap();
    assert_eq!(index.manifest().n_rows, undisturbed.manifest().n_rows);
    assert_eq!(answers(&index), answers(&undisturbed));
}
