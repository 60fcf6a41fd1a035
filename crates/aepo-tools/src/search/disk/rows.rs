//! Which documents does a corpus hold? Rows of JSON lines or of a Parquet file, one at a time, from any place on.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{IndexError, io};
use crate::search::Document;

/// No row is longer, bytes.
const MAX_ROW_BYTES: usize = 16 << 20;

/// Which fields of a row make a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Its name; empty to number the rows.
    pub id: String,
    /// Its title, which a row may lack.
    pub title: String,
    /// Its text; `contents` holds title and text as Search-R1 writes them; `None` for `text` or else `contents`.
    pub text: Option<String>,
}

impl Default for Fields {
    fn default() -> Self {
        Fields { id: "id".to_owned(), title: "title".to_owned(), text: None }
    }
}

/// A place between two rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Bytes of JSON lines before it; rows of a Parquet file.
    pub at: u64,
    /// Lines or rows before it.
    pub n_read: u64,
}

/// A corpus that is being read.
pub(super) struct Rows {
    path: PathBuf,
    fields: Fields,
    place: Place,
    /// What `place.at` is at the end.
    end: u64,
    kind: Kind,
}

enum Kind {
    Lines(BufReader<File>),
    Parquet(Box<RowIter<'static>>),
}

/// One row: a document, or what is wrong with it.
pub(super) type Row = Result<Document, String>;

impl Rows {
    /// Opens a corpus at a place.
    pub(super) fn open(path: &Path, fields: &Fields, place: Place) -> Result<Rows, IndexError> {
        let file = File::open(path).map_err(io("opening", path))?;
        let (kind, end) = match extension(path)? {
            Extension::Jsonl => {
                let end = file.metadata().map_err(io("reading", path))?.len();
                let mut reader = BufReader::with_capacity(1 << 18, file);
                reader.seek(SeekFrom::Start(place.at)).map_err(io("reading", path))?;
                (Kind::Lines(reader), end)
            }
            Extension::Parquet => {
                let (rows, end) = guarded(path, || parquet_rows(file, fields, place.at))?;
                (Kind::Parquet(Box::new(rows)), end)
            }
        };
        Ok(Rows { path: path.to_owned(), fields: fields.clone(), place, end, kind })
    }

    /// Where the next row begins.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// How much of the corpus lies before the next row, in [0, 1].
    pub(super) fn share(&self) -> f64 {
        (self.place.at as f64 / self.end.max(1) as f64).min(1.0)
    }

    /// The next row that is not blank.
    pub(super) fn next(&mut self) -> Result<Option<Row>, IndexError> {
        match &mut self.kind {
            Kind::Lines(reader) => loop {
                let mut line = Vec::new();
                let n = reader.by_ref().take(MAX_ROW_BYTES as u64 + 1).read_until(b'\n', &mut line);
                let n = n.map_err(io("reading", &self.path))?;
                if n == 0 {
                    return Ok(None);
                }
                self.place.at += n as u64;
                self.place.n_read += 1;
                if line.len() > MAX_ROW_BYTES {
                    self.place.at += skip_line(reader, &line).map_err(io("reading", &self.path))?;
                    return Ok(Some(Err(format!("a row of more than {MAX_ROW_BYTES} bytes"))));
                }
                let first = self.place.n_read == 1;
                let text = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
                let text = text.trim_ascii();
                if !text.is_empty() {
                    return Ok(Some(parse(text).and_then(|row| document(row, &self.fields, self.place.n_read))));
                }
            },
            Kind::Parquet(rows) => {
                let Some(row) = guarded(&self.path, || rows.next().transpose().map_err(|e| e.to_string()))? else {
                    return Ok(None);
                };
                self.place.at += 1;
                self.place.n_read += 1;
                let columns = row.into_columns().into_iter().map(|(name, field)| (name, value(field)));
                Ok(Some(document(columns.collect(), &self.fields, self.place.n_read)))
            }
        }
    }
}

/// What a corpus is, by its name.
pub(super) enum Extension {
    /// One JSON object per line.
    Jsonl,
    /// A table.
    Parquet,
}

/// Which kind of file a name promises.
pub(super) fn extension(path: &Path) -> Result<Extension, IndexError> {
    match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("jsonl" | "ndjson") => Ok(Extension::Jsonl),
        Some("parquet") => Ok(Extension::Parquet),
        _ => Err(IndexError::UnknownFormat { path: path.to_owned() }),
    }
}

/// Reads on to the end of a line that is too long, without keeping it; returns how many bytes that were.
fn skip_line(reader: &mut BufReader<File>, begun: &[u8]) -> std::io::Result<u64> {
    if begun.ends_with(b"\n") {
        return Ok(0);
    }
    let mut n_skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let n = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(n);
        n_skipped += n as u64;
        if end.is_some() || n == 0 {
            return Ok(n_skipped);
        }
    }
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON ({error})")),
    }
}

/// A Parquet reader is made for good files: a bad one may make it panic, which here is an error of that file.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, String>) -> Result<T, IndexError> {
    let error = |why: String| IndexError::Parquet { path: path.to_owned(), why };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(found) => found.map_err(error),
        Err(_) => Err(error("the file is damaged".to_owned())),
    }
}

/// Rows from `skip` on, and how many there are in all; of the columns that are needed. Groups of rows that lie before are not read.
fn parquet_rows(file: File, fields: &Fields, skip: u64) -> Result<(RowIter<'static>, u64), String> {
    let (mut before, mut n_left_out) = (0u64, 0u64);
    let whole = SerializedFileReader::new(file.try_clone().map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let mut keep = Vec::new();
    for group in whole.metadata().row_groups() {
        let n = u64::try_from(group.num_rows()).map_err(|_| "a negative number of rows".to_owned())?;
        before = before.saturating_add(n);
        keep.push(before > skip);
        if before <= skip {
            n_left_out = before;
        }
    }
    let schema = whole.metadata().file_metadata().schema();
    let texts = match &fields.text {
        Some(text) => vec![text.as_str()],
        None => vec!["text", "contents"],
    };
    let wanted = |column: &Arc<Type>| {
        let name = column.name();
        [fields.id.as_str(), fields.title.as_str()].contains(&name) || texts.contains(&name)
    };
    let columns: Vec<Arc<Type>> = schema.get_fields().iter().filter(|column| wanted(column)).cloned().collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(columns).build().map_err(|e| e.to_string())?;
    let predicate = Box::new(move |_: &_, i: usize| keep.get(i).copied().unwrap_or(false));
    let options = ReadOptionsBuilder::new().with_predicate(predicate).build();
    let reader = SerializedFileReader::new_with_options(file, options).map_err(|e| e.to_string())?;
    let mut rows = RowIter::from_file_into(Box::new(reader)).project(Some(projection)).map_err(|e| e.to_string())?;
    for _ in n_left_out..skip {
        if let Some(row) = rows.next() {
            row.map_err(|e| e.to_string())?;
        }
    }
    Ok((rows, before))
}

/// A value as JSON lines would hold it. What cannot be part of a document is `false`, which is no text either.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => text.into(),
        // Text that its file does not declare to be text.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Bool(false), Into::into),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        _ => Value::Bool(false),
    }
}

/// The document of a row, the `n`-th of the corpus from 1.
fn document(mut row: Map<String, Value>, fields: &Fields, n: u64) -> Row {
    let id = match fields.id.as_str() {
        "" => (n - 1).to_string(),
        field => match row.remove(field) {
            Some(Value::String(id)) => id,
            Some(Value::Number(id)) => id.to_string(),
            Some(_) => return Err(format!("`{field}` is neither text nor a number")),
            None => {
                return Err(format!(
                    "no field `{field}`; --id-field names another, and --id-field \"\" numbers the rows"
                ));
            }
        },
    };
    let mut text_of = |field: &str| match row.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{field}` is no text")),
    };
    let title = text_of(&fields.title)?.unwrap_or_default();
    let (field, text) = match &fields.text {
        Some(field) => (field.as_str(), text_of(field)?),
        None => match text_of("text")? {
            Some(text) => ("text", Some(text)),
            None => ("contents", text_of("contents")?),
        },
    };
    let Some(text) = text else {
        let (wanted, hint) = match &fields.text {
            Some(field) => (format!("`{field}`"), "--text-field names another"),
            None => ("`text` or `contents`".to_owned(), "--text-field names it"),
        };
        return Err(format!("no field {wanted}; {hint}"));
    };
    let document = match field {
        "contents" => Document::from_contents(id, &text),
        _ => Document { id, title, text },
    };
    if document.title.trim().is_empty() && document.text.trim().is_empty() {
        return Err("neither title nor text".to_owned());
    }
    Ok(document)
}
