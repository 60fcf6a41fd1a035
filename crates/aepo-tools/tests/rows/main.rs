//! Are rows read from every form of file, within bounds, and do they become tasks?

mod forms;
mod hostile;
mod shared;

use std::path::{Path, PathBuf};

use aepo_tools::rows::{Found, Rows, RowsError, read_tasks};
use serde_json::Value;

/// A file of that name in a folder of its own.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// Every row of a file as `place: object` or `place: ! what is wrong`, and at last an error of the whole file.
fn rows(path: &Path) -> Vec<String> {
    let short = |text: String| text.replace(&path.display().to_string(), "FILE");
    let mut rows = match Rows::open(path) {
        Ok(rows) => rows,
        Err(error) => return vec![short(error.to_string())],
    };
    let mut said = Vec::new();
    loop {
        match rows.next_row() {
            Ok(None) => return said,
            Ok(Some(Found { at, row: Ok(row) })) => said.push(format!("{at}: {}", Value::Object(row))),
            Ok(Some(Found { at, row: Err(why) })) => said.push(format!("{at}: ! {why}")),
            Err(error) => {
                said.push(short(error.to_string()));
                return said;
            }
        }
    }
}

/// What reading tasks from a file of that name says when it fails.
fn refused(name: &str, bytes: &[u8]) -> String {
    let (_dir, path) = file(name, bytes);
    read_tasks(&path, None).unwrap_err().to_string().replace(&path.display().to_string(), name)
}

#[test]
fn an_unknown_form_and_a_file_that_is_not_there_are_errors() {
    let (_dir, path) = file("a.txt", b"{}");
    assert_eq!(rows(&path), ["FILE: the name of a file with rows ends in .jsonl, .json, .csv, .tsv or .parquet"]);
    let absent = path.with_file_name("absent.jsonl");
    assert!(matches!(Rows::open(&absent), Err(RowsError::Io { what: "opening", .. })));
    let folder = path.with_file_name("folder.jsonl");
    std::fs::create_dir(&folder).unwrap();
    assert!(matches!(Rows::open(&folder), Err(RowsError::Io { what: "reading", .. })));
}
