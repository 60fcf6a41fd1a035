//! Which tasks does a file hold, whatever form and layout it has?

use std::path::Path;

use aepo::data::files::Shape;
use aepo::data::files::task_file::{Reader, TaskFile, TasksError};

use super::{Found, ReadError, Row, Rows};

/// Reads a file to its end; the first thing that is wrong with it is the error. Without a shape, the name of the file
/// and the fields of its first row say how it is laid out.
pub fn read_tasks(path: &Path, shape: Option<&Shape>) -> Result<TaskFile, ReadError> {
    let file = path.display().to_string();
    let mut rows = Rows::open(path)?;
    let mut reader = None;
    while let Some(Found { at, row }) = rows.next_row()? {
        let row = row.map_err(|cause| TasksError::NoRow { file: file.clone(), at, cause })?;
        let reader = match &mut reader {
            Some(reader) => reader,
            none => none.insert(Reader::new(&file, shape.map_or_else(|| detect(path, &row), |s| Ok(s.clone()))?)),
        };
        reader.push(at, &row)?;
    }
    match reader {
        Some(reader) => Ok(reader.finish()?),
        None => Err(TasksError::Empty { file }.into()),
    }
}

/// How a file is laid out, by its name and its first row.
pub fn detect(path: &Path, first_row: &Row) -> Result<Shape, TasksError> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    Shape::detect(&name, first_row).ok_or_else(|| {
        let mut fields: Vec<String> = first_row.keys().take(20).map(|key| format!("{key:?}")).collect();
        if first_row.len() > fields.len() {
            fields.push("…".to_owned());
        }
        let file = path.display().to_string();
        TasksError::UnknownLayout { file, fields: fields.join(", ") }
    })
}
