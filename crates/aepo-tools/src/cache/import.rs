//! What did ARPO's cache hold? Its `search_cache.json` is one object: a query, without `"`, and the text it was answered.

use std::path::Path;

use aepo::tool::ToolOutcome;
use serde_json::{Map, Value};

use crate::cache::key::plain;
use crate::cache::{ANY_PROVIDER, Cache, CacheError, Entry, Key, now_secs};

/// Entries of one transaction.
const BATCH: usize = 4096;
/// Larger files are refused: the object is held in memory, bytes.
const MAX_BYTES: u64 = 8 << 30;

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries that were kept.
    pub n_kept: usize,
    /// Queries whose text was empty: the released code writes that where the search failed.
    pub n_empty: usize,
    /// Queries that were in the cache already; what was there stays.
    pub n_known: usize,
}

/// Takes the answers of ARPO's `search_cache.json` for calls of `tool`: for the provider of that identity, or for
/// whichever is asked. A value is a text, or a list of texts, which then are lines.
pub fn import_arpo(cache: &Cache, file: &Path, tool: &str, identity: Option<&str>) -> Result<Imported, CacheError> {
    let fault = |reason: String| CacheError::Import { path: file.to_path_buf(), reason };
    let n_bytes = std::fs::metadata(file).map_err(|e| fault(e.to_string()))?.len();
    if n_bytes > MAX_BYTES {
        return Err(fault(format!("it has {n_bytes} bytes; at most {MAX_BYTES} can be imported at once")));
    }
    let bytes = std::fs::read(file).map_err(|e| fault(e.to_string()))?;
    let object: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|e| fault(format!("not one JSON object of queries and texts: {e}")))?;
    // Everything is looked at before anything is kept.
    let mut entries = Vec::with_capacity(object.len());
    let mut imported = Imported::default();
    let created_secs = now_secs();
    for (query, value) in &object {
        let text = text_of(value)
            .ok_or_else(|| fault(format!("the value of {query:?} is neither a text nor a list of texts")))?;
        if text.trim().is_empty() {
            imported.n_empty += 1;
            continue;
        }
        let key = match identity {
            None | Some(ANY_PROVIDER) => Key::any(tool, query),
            Some(identity) => Key::imported(identity, tool, query),
        };
        if cache.get(&key)?.is_some() {
            imported.n_known += 1;
            continue;
        }
        let entry = Entry {
            tool: tool.to_owned(),
            input: plain(query),
            outcome: ToolOutcome::Ok,
            text,
            negative: false,
            wall_secs: 0.0,
            created_secs,
        };
        entries.push((key, entry));
    }
    for batch in entries.chunks(BATCH) {
        cache.put(batch)?;
        imported.n_kept += batch.len();
    }
    Ok(imported)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?.join("\n")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}
