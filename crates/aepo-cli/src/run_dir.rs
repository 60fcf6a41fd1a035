//! What does a run leave on the disk? One directory, in which every file is whole at every moment.
//!
//! ```text
//! config.toml                    every setting, resolved
//! metrics.jsonl                  one row per step
//! trees/step-NNNNNN.jsonl        every tree of step N, token by token
//! evals/step-NNNNNN.json         what was measured after N steps
//! checkpoints/step-NNNNNN/       what training goes on from after N steps
//! model/                         the model that came out, of a cold start and of LoRA
//! summary.json                   the result, once there is one
//! lock                           held while a trainer is at work
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aepo_engine::checkpoint::write_whole;
use anyhow::{Context as _, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::usage;

/// An open run directory; nobody else trains into it while this lives.
pub struct RunDir {
    /// Where it is.
    pub root: PathBuf,
    _lock: File,
}

/// Name of the resolved settings in a run directory.
pub const CONFIG: &str = "config.toml";

impl RunDir {
    /// Makes a run directory. One that holds anything is refused.
    pub fn create(root: &Path, config: &str) -> anyhow::Result<RunDir> {
        // Both are left by a run that ended before it wrote anything of its own.
        let hint = "--resume goes on with the run in it, --out DIR takes another directory";
        check_empty(root, &["lock", "config.tmp"], hint)?;
        make(root)?;
        let run = RunDir { root: root.to_owned(), _lock: lock(root)? };
        // From here on there is a run to resume.
        run.write(CONFIG, config.as_bytes())?;
        run.make_parts()?;
        Ok(run)
    }

    /// Opens a run directory to go on with its run.
    pub fn resume(root: &Path) -> anyhow::Result<RunDir> {
        if !root.join(CONFIG).is_file() {
            let message = format!("there is no run to resume in {}", root.display());
            return Err(usage(message, "leave --resume out to start one, or name its directory with --out"));
        }
        let run = RunDir { root: root.to_owned(), _lock: lock(root)? };
        run.make_parts()?;
        Ok(run)
    }

    fn make_parts(&self) -> anyhow::Result<()> {
        ["trees", "evals", "checkpoints"].iter().try_for_each(|part| make(&self.root.join(part)))
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_whole(&self.root.join(name), bytes)?;
        Ok(())
    }

    /// Writes one JSON object as a file.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.write(name, text.as_bytes())
    }

    /// Writes one JSON object per line as a file.
    pub fn write_lines(&self, name: &str, values: &[impl Serialize]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for value in values {
            serde_json::to_writer(&mut bytes, value)?;
            bytes.push(b'\n');
        }
        self.write(name, &bytes)
    }

    /// Reads a file that [`RunDir::write_json`] wrote; `None` when there is none.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        read_json(&self.root.join(name))
    }

    /// Adds a row to `metrics.jsonl`, whole or not at all.
    pub fn append_row(&self, row: &impl Serialize) -> anyhow::Result<()> {
        let path = self.root.join(METRICS);
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        let append = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            let n_before = file.metadata()?.len();
            file.write_all(&line).and_then(|()| file.sync_data()).inspect_err(|_| {
                // A full disk takes part of a row; the part is taken back. Where even that fails, --resume does it.
                let _ = file.set_len(n_before);
            })
        };
        append().with_context(|| path.display().to_string())
    }

    /// Leaves the first `n_steps` rows in `metrics.jsonl` and nothing behind them, neither later steps nor a torn row.
    pub fn keep_rows(&self, n_steps: u64) -> anyhow::Result<()> {
        let path = self.root.join(METRICS);
        let text = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && n_steps == 0 => return Ok(()),
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        };
        let mut n_bytes = 0;
        let lines = text.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"));
        let mut n_rows = 0;
        for line in lines.take(n_steps as usize) {
            let row: serde_json::Value =
                serde_json::from_slice(line).with_context(|| format!("{}, row {}", path.display(), n_rows + 1))?;
            if row["step"].as_u64() != Some(n_rows) {
                bail!("{}, row {}: key step must be {n_rows}", path.display(), n_rows + 1);
            }
            n_bytes += line.len();
            n_rows += 1;
        }
        if n_rows < n_steps {
            bail!("{} holds {n_rows} rows, but the checkpoint was written after {n_steps}", path.display());
        }
        if n_bytes < text.len() {
            self.write(METRICS, &text[..n_bytes])?;
        }
        Ok(())
    }
}

/// Name of the rows in a run directory.
pub const METRICS: &str = "metrics.jsonl";

/// Reads a JSON file; `None` when there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

/// Makes a directory, and those above it.
pub fn make(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

/// Refuses a directory that holds anything besides files called `allowed`.
pub fn check_empty(root: &Path, allowed: &[&str], hint: &str) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| root.display().to_string()),
    };
    for entry in entries {
        let name = entry.with_context(|| root.display().to_string())?.file_name();
        if !allowed.iter().any(|allowed| name == *allowed) {
            return Err(usage(format!("{} is not empty", root.display()), hint));
        }
    }
    Ok(())
}

/// Whether another process is at work in a directory.
pub fn is_taken(root: &Path) -> bool {
    let file = File::open(root.join("lock"));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Takes a directory for this process, until what is returned is dropped. The system lets go of it when the process
/// ends, however it ends.
pub fn lock(root: &Path) -> anyhow::Result<File> {
    let path = root.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(usage(format!("another aepo is at work in {}", root.display()), "wait for it, or take another --out"))
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run_with(text: &str) -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("run"), "").unwrap();
        std::fs::write(run.root.join(METRICS), text).unwrap();
        (dir, run)
    }

    fn rows(run: &RunDir) -> String {
        std::fs::read_to_string(run.root.join(METRICS)).unwrap()
    }

    #[test]
    fn rows_behind_the_checkpoint_and_torn_ones_go() {
        let (_dir, run) = run_with("{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n{\"st");
        run.keep_rows(2).unwrap();
        assert_eq!(rows(&run), "{\"step\":0}\n{\"step\":1}\n");
        run.append_row(&json!({"step": 2})).unwrap();
        run.keep_rows(3).unwrap();
        assert_eq!(rows(&run), "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n");
        run.keep_rows(0).unwrap();
        assert_eq!(rows(&run), "");
    }

    #[test]
    fn missing_and_foreign_rows_are_named() {
        for (text, n_steps, expected) in [
            ("{\"step\":0}\n", 2, "holds 1 rows"),
            ("{\"step\":0}\n{\"step\":1}", 2, "holds 1 rows"),
            ("{\"step\":0}\n{\"step\":7}\n", 2, "row 2: key step must be 1"),
            ("{\"step\":0}\nnonsense\n", 2, "row 2"),
        ] {
            let (_dir, run) = run_with(text);
            let error = format!("{:#}", run.keep_rows(n_steps).unwrap_err());
            assert!(error.contains("metrics.jsonl") && error.contains(expected), "{error}");
            assert_eq!(rows(&run), text);
        }
    }

    #[test]
    fn a_directory_has_one_trainer() {
        let (_dir, run) = run_with("");
        assert!(format!("{:#}", RunDir::resume(&run.root).err().unwrap()).contains("another aepo"));
        let root = run.root.clone();
        drop(run);
        assert!(RunDir::resume(&root).is_ok());
        assert!(format!("{:#}", RunDir::create(&root, "").err().unwrap()).contains("is not empty"));
    }
}
