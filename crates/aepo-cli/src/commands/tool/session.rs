//! Where are the programs of a session kept? A file of JSON lines, replaced as a whole.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aepo::seed::Seed;
use aepo_tools::python::Cell;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::error::usage;

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    code: String,
    seed: u64,
}

/// An open session. Another program that opens it waits until this one is dropped.
pub struct Session {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
    /// The programs that ended by themselves, oldest first.
    pub cells: Vec<Cell>,
}

impl Session {
    /// Reads a session; a file that is not there is one without programs.
    pub fn open(path: &Path) -> anyhow::Result<Session> {
        let what = || format!("session {}", path.display());
        let (mut file, mut text) = (locked(path).with_context(what)?, String::new());
        file.read_to_string(&mut text).with_context(what)?;
        let mut cells = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line).map_err(|e| {
                let hint = "a session is a file that `aepo tool python --session` has written";
                usage(format!("{}:{}: {e}", path.display(), i + 1), hint)
            })?;
            cells.push(Cell { code: line.code, seed: Seed(line.seed) });
        }
        Ok(Session { path: path.to_owned(), _file: file, cells })
    }

    /// The seed of the next program.
    pub fn next_seed(&self) -> Seed {
        Seed(0).child(self.cells.len() as u64)
    }

    /// Adds a program: afterwards the file holds all of them, or after a crash those before it.
    pub fn add(&mut self, cell: Cell) -> anyhow::Result<()> {
        self.cells.push(cell);
        let mut text = String::new();
        for cell in &self.cells {
            text += &serde_json::to_string(&Line { code: cell.code.clone(), seed: cell.seed.0 })?;
            text.push('\n');
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut beside = tempfile::NamedTempFile::new_in(folder).context("writing the session")?;
        beside.write_all(text.as_bytes()).context("writing the session")?;
        beside.as_file().sync_all().context("writing the session")?;
        beside.persist(&self.path).context("writing the session")?;
        File::open(folder).and_then(|folder| folder.sync_all()).context("writing the session")
    }
}

/// Opens and locks the file that the path names at that time: while one waits for the lock, it may be replaced.
fn locked(path: &Path) -> std::io::Result<File> {
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        let (ours, theirs) = (file.metadata()?, std::fs::metadata(path));
        if theirs.is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_kept_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        let mut session = Session::open(&path).unwrap();
        let first = session.next_seed();
        session.add(Cell { code: "x = 'é\n'".to_owned(), seed: first }).unwrap();
        session.add(Cell { code: "x".to_owned(), seed: session.next_seed() }).unwrap();
        let cells = session.cells.clone();
        drop(session);
        let session = Session::open(&path).unwrap();
        assert_eq!(session.cells, cells);
        assert!(session.next_seed() != first);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn two_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        std::thread::scope(|scope| {
            for i in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    Session::open(path).unwrap().add(Cell { code: i.to_string(), seed: Seed(i) }).unwrap()
                });
            }
        });
        let mut seeds: Vec<u64> = Session::open(&path).unwrap().cells.iter().map(|cell| cell.seed.0).collect();
        seeds.sort_unstable();
        assert_eq!(seeds, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn another_file_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        for text in
            ["print(1)\n", "{\"code\":\"1\",\"seed\":1}\n{\"code\":\"1\"", "{\"code\":\"1\",\"seed\":1,\"x\":1}\n"]
        {
            std::fs::write(&path, text).unwrap();
            let error = Session::open(&path).err().unwrap().to_string();
            assert!(error.contains("s.jsonl:"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
