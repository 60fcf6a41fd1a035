//! What does each row of a Parquet file hold? Its columns as JSON values, lists and groups included.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::Row;

/// A Parquet reader is made for good files: a bad one may make it panic, which here is an error of that file.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the file is damaged".to_owned()))
}

/// A file that is being read.
pub(crate) struct Records {
    rows: RowIter<'static>,
    /// Rows in all, those that were skipped included.
    pub(crate) n_rows: u64,
}

impl Records {
    /// Every row with every column.
    pub(crate) fn all(file: File) -> Result<Records, String> {
        Records::of(file, 0, |_| true)
    }

    /// Rows from `skip` on, of the columns that are wanted. Groups of rows that lie before are not read.
    pub(crate) fn of(file: File, skip: u64, wanted: impl Fn(&str) -> bool) -> Result<Records, String> {
        let said = |error: parquet::errors::ParquetError| error.to_string();
        let (mut before, mut n_left_out) = (0u64, 0u64);
        let whole = SerializedFileReader::new(file.try_clone().map_err(|e| e.to_string())?).map_err(said)?;
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
        let columns: Vec<Arc<Type>> =
            schema.get_fields().iter().filter(|column| wanted(column.name())).cloned().collect();
        let projection = Type::group_type_builder(schema.name()).with_fields(columns).build().map_err(said)?;
        let predicate = Box::new(move |_: &_, i: usize| keep.get(i).copied().unwrap_or(false));
        let options = ReadOptionsBuilder::new().with_predicate(predicate).build();
        let reader = SerializedFileReader::new_with_options(file, options).map_err(said)?;
        let mut rows = RowIter::from_file_into(Box::new(reader)).project(Some(projection)).map_err(said)?;
        for _ in n_left_out..skip {
            if let Some(row) = rows.next() {
                row.map_err(said)?;
            }
        }
        Ok(Records { rows, n_rows: before })
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, String> {
        let row = self.rows.next().transpose().map_err(|error| error.to_string())?;
        Ok(row.map(|row| row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()))
    }
}

/// A value as JSON would hold it. What JSON has no form for is `null`: bytes that are no UTF-8, numbers without a value.
fn value(field: Field) -> Value {
    let real = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(b) => b.into(),
        Field::Str(text) => text.into(),
        // Text that its file does not declare to be text.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Into::into),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) | Field::Date(n) | Field::TimeMillis(n) => n.into(),
        Field::Long(n) | Field::TimestampMillis(n) | Field::TimestampMicros(n) | Field::TimeMicros(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        Field::Float16(x) => real(f64::from(x)),
        Field::Float(x) => real(f64::from(x)),
        Field::Double(x) => real(x),
        Field::Decimal(_) => field.to_string().into(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::Group(row) => {
            let fields = row.into_columns().into_iter().map(|(name, field)| (name, value(field)));
            Value::Object(fields.collect())
        }
        Field::MapInternal(map) => {
            let entry = |(key, field): &(Field, Field)| match value(key.clone()) {
                Value::String(key) => (key, value(field.clone())),
                key => (key.to_string(), value(field.clone())),
            };
            Value::Object(map.entries().iter().map(entry).collect::<Map<String, Value>>())
        }
    }
}
