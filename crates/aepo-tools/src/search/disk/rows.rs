//! Which documents does a corpus hold? Rows of JSON lines or of a Parquet file, one at a time, from any place on.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{IndexError, io};
use crate::rows::lines::{Line, Lines};
use crate::rows::parquet::{Records, guarded};
use crate::rows::{Form, object, too_long};
use crate::search::Document;

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

impl Fields {
    /// Whether a column holds one of them.
    fn has(&self, column: &str) -> bool {
        let is_text = match &self.text {
            Some(text) => column == text,
            None => ["text", "contents"].contains(&column),
        };
        is_text || [self.id.as_str(), self.title.as_str()].contains(&column)
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
    Lines(Lines),
    Parquet(Box<Records>),
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
                (Kind::Lines(Lines::new(file, place.at, place.n_read).map_err(io("reading", path))?), end)
            }
            Extension::Parquet => {
                let rows =
                    guarded(|| Records::of(file, place.at, |column| fields.has(column))).map_err(broken(path))?;
                let end = rows.n_rows;
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
            Kind::Lines(lines) => loop {
                let line = lines.next().map_err(io("reading", &self.path))?;
                self.place = Place { at: lines.n_bytes, n_read: lines.n_read };
                let row = match line {
                    None => return Ok(None),
                    Some(Line::Blank) => continue,
                    Some(Line::TooLong) => Err(too_long()),
                    Some(Line::Text(text)) => object(&text),
                };
                return Ok(Some(row.and_then(|row| document(row, &self.fields, self.place.n_read))));
            },
            Kind::Parquet(rows) => {
                let Some(row) = guarded(|| rows.next()).map_err(broken(&self.path))? else { return Ok(None) };
                self.place.at += 1;
                self.place.n_read += 1;
                Ok(Some(document(row, &self.fields, self.place.n_read)))
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
    let is_list = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    match Form::of(path) {
        Some(Form::Json) if !is_list => Ok(Extension::Jsonl),
        Some(Form::Parquet) => Ok(Extension::Parquet),
        _ => Err(IndexError::UnknownFormat { path: path.to_owned() }),
    }
}

/// A Parquet file that cannot be read.
fn broken(path: &Path) -> impl FnOnce(String) -> IndexError {
    let path = path.to_owned();
    move |why| IndexError::Parquet { path, why }
}

/// The document of a row, the `n`-th of the corpus from 1.
fn document(mut row: crate::rows::Row, fields: &Fields, n: u64) -> Row {
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
