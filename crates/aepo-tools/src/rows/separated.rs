//! What does each record of a CSV or TSV file hold? Texts under the names of the first line.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use serde_json::Value;

use super::{At, Found, MAX_ROW_BYTES, Row, RowsError, too_long};

/// More fields than any table of questions has.
const MAX_FIELDS: usize = 10_000;
/// What the reader takes at once; a record may end before what was read ahead.
const AHEAD: usize = 1 << 16;

/// A table that is being read.
pub(super) struct Separated {
    reader: Reader<Bounded>,
    /// Bytes that may still be read for this record.
    left: Rc<Cell<usize>>,
    names: Vec<String>,
    n_read: u64,
    is_broken: bool,
}

/// A file of which only so much is read: a quotation mark that nothing closes would else take all of it into memory.
struct Bounded {
    file: File,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = buffer.len().min(self.left.get());
        if n == 0 && !buffer.is_empty() {
            return Err(std::io::Error::other(too_long()));
        }
        let n = self.file.read(&mut buffer[..n])?;
        self.left.set(self.left.get() - n);
        Ok(n)
    }
}

impl Separated {
    /// Reads the names of the fields.
    pub(super) fn open(path: &Path, file: File, separator: u8) -> Result<Separated, RowsError> {
        let left = Rc::new(Cell::new(MAX_ROW_BYTES));
        let bounded = Bounded { file, left: Rc::clone(&left) };
        let mut reader =
            ReaderBuilder::new().delimiter(separator).buffer_capacity(AHEAD).has_headers(true).from_reader(bounded);
        let wrong = |why: String| RowsError::Table { path: path.to_owned(), at: At::Line(1), why };
        let header = reader.byte_headers().map_err(|error| wrong(said(&error)))?.clone();
        if header.len() > MAX_FIELDS {
            return Err(wrong(format!("{} fields; at most {MAX_FIELDS} are read", header.len())));
        }
        let mut names: Vec<String> = Vec::new();
        for (i, name) in header.iter().enumerate() {
            let name = if i == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
            let name = std::str::from_utf8(name).map_err(|_| wrong(format!("name {} is no UTF-8", i + 1)))?.trim();
            if names.iter().any(|other| other == name) {
                return Err(wrong(format!("two fields are called {name:?}")));
            }
            names.push(name.to_owned());
        }
        Ok(Separated { reader, left, names, n_read: 0, is_broken: false })
    }

    /// The next record.
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<Found>, RowsError> {
        if self.is_broken {
            return Ok(None);
        }
        self.left.set(MAX_ROW_BYTES + AHEAD);
        let mut record = ByteRecord::new();
        let found = self.reader.read_byte_record(&mut record);
        // Rows and not lines: the reader counts a line more where lines end with a carriage return.
        self.n_read += 1;
        let at = At::Row(self.n_read);
        let row = match found {
            Ok(false) => return Ok(None),
            Ok(true) => self.row(&record),
            // Records of another length can be read past; whatever else is wrong concerns the file.
            Err(error) => match error.kind() {
                ErrorKind::UnequalLengths { len, expected_len, .. } => {
                    Err(format!("{len} fields, where the first line names {expected_len}"))
                }
                _ => {
                    self.is_broken = true;
                    return Err(RowsError::Table { path: path.to_owned(), at, why: said(&error) });
                }
            },
        };
        Ok(Some(Found { at, row }))
    }

    fn row(&self, record: &ByteRecord) -> Result<Row, String> {
        let mut row = Row::new();
        for (name, field) in self.names.iter().zip(record) {
            let text = std::str::from_utf8(field).map_err(|_| format!("field {name:?} is no UTF-8"))?;
            // An empty cell is nothing: a table has no other way to leave a value out.
            let value = if text.is_empty() { Value::Null } else { Value::String(text.to_owned()) };
            row.insert(name.clone(), value);
        }
        Ok(row)
    }
}

fn said(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::Io(cause) => cause.to_string(),
        _ => error.to_string(),
    }
}
