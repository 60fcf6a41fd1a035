//! Which rows does a file hold? JSON lines, a JSON list, CSV, TSV or Parquet, one row at a time as a JSON object.
//!
//! No line, item or record is longer than [`MAX_ROW_BYTES`]; what is longer, no UTF-8 or cut off is an error of that row
//! or of the file, never a panic. Columns of Parquet are read in the pages that their file has them in.

mod error;
pub(crate) mod lines;
mod list;
pub(crate) mod parquet;
mod separated;
mod tasks;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _};
use std::path::{Path, PathBuf};

pub use ::aepo::data::files::Row;
pub use ::aepo::data::files::task_file::At;
use serde_json::Value;

pub use error::{ReadError, RowsError};
pub use tasks::{detect, read_tasks};

use lines::{Line, Lines};

/// No line, item or record is longer, bytes. Questions with a picture inside are long.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// A row, or what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Where it stands.
    pub at: At,
    /// Its fields, or why it has none.
    pub row: Result<Row, String>,
}

/// A file whose rows are being read.
pub struct Rows {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Lines(Lines),
    List(list::List),
    Separated(Box<separated::Separated>),
    Parquet { rows: Box<parquet::Records>, n_read: u64 },
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON lines, or one JSON list.
    Json,
    /// Fields between separators, with a first line of names.
    Separated(u8),
    /// A table.
    Parquet,
}

impl Form {
    /// What a name promises.
    pub(crate) fn of(path: &Path) -> Option<Form> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("jsonl" | "ndjson" | "json") => Some(Form::Json),
            Some("csv") => Some(Form::Separated(b',')),
            Some("tsv") => Some(Form::Separated(b'\t')),
            Some("parquet") => Some(Form::Parquet),
            _ => None,
        }
    }
}

/// Whether rows can be read from a file of this name.
#[must_use]
pub fn is_readable_name(path: &Path) -> bool {
    Form::of(path).is_some()
}

impl Rows {
    /// Opens a file; its name says in which form it is.
    pub fn open(path: &Path) -> Result<Rows, RowsError> {
        let form = Form::of(path).ok_or_else(|| RowsError::UnknownForm { path: path.to_owned() })?;
        let io = |what: &'static str| move |cause| RowsError::Io { what, path: path.to_owned(), cause };
        let file = File::open(path).map_err(io("opening"))?;
        if file.metadata().map_err(io("reading"))?.is_dir() {
            let cause = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(RowsError::Io { what: "reading", path: path.to_owned(), cause });
        }
        let kind = match form {
            Form::Json if begins_a_list(&file).map_err(io("reading"))? => Kind::List(list::List::new(file)),
            Form::Json => Kind::Lines(Lines::new(file, 0, 0).map_err(io("reading"))?),
            Form::Separated(by) => Kind::Separated(Box::new(separated::Separated::open(path, file, by)?)),
            Form::Parquet => {
                let all = parquet::guarded(|| parquet::Records::all(file));
                let rows = all.map_err(|why| RowsError::Parquet { path: path.to_owned(), row: 1, why })?;
                Kind::Parquet { rows: Box::new(rows), n_read: 0 }
            }
        };
        Ok(Rows { path: path.to_owned(), kind })
    }

    /// The next row that is not blank. A row that is wrong is found as such, and the next can be asked for; an error is
    /// one of the whole file, and nothing comes after it.
    pub fn next_row(&mut self) -> Result<Option<Found>, RowsError> {
        let io = |path: &Path, cause| RowsError::Io { what: "reading", path: path.to_owned(), cause };
        match &mut self.kind {
            Kind::Lines(lines) => loop {
                let Some(line) = lines.next().map_err(|cause| io(&self.path, cause))? else { return Ok(None) };
                let row = match line {
                    Line::Blank => continue,
                    Line::TooLong => Err(too_long()),
                    Line::Text(text) => object(&text),
                };
                return Ok(Some(Found { at: At::Line(lines.n_read), row }));
            },
            Kind::List(list) => list.next().map_err(|cause| io(&self.path, cause)),
            Kind::Separated(table) => table.next(&self.path),
            Kind::Parquet { rows, n_read } => {
                let row = *n_read + 1;
                let found = parquet::guarded(|| rows.next());
                let found = found.map_err(|why| RowsError::Parquet { path: self.path.clone(), row, why })?;
                let Some(columns) = found else { return Ok(None) };
                *n_read = row;
                Ok(Some(Found { at: At::Row(row), row: Ok(columns) }))
            }
        }
    }
}

/// What is said of a row over the bound.
pub(crate) fn too_long() -> String {
    format!("a row of more than {MAX_ROW_BYTES} bytes")
}

/// The object that a text is.
pub(crate) fn object(text: &[u8]) -> Result<Row, String> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON ({error})")),
    }
}

/// Whether the first thing in a file is a bracket; the file is at its beginning before and after.
fn begins_a_list(mut file: &File) -> std::io::Result<bool> {
    let mut reader = BufReader::with_capacity(1 << 12, file);
    let mut is_first = true;
    let begins = loop {
        let buffer = reader.fill_buf()?;
        let text = if is_first { buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(buffer) } else { buffer };
        if buffer.is_empty() {
            break false;
        }
        if let Some(byte) = text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            break *byte == b'[';
        }
        is_first = false;
        let n = buffer.len();
        reader.consume(n);
    };
    file.rewind()?;
    Ok(begins)
}
