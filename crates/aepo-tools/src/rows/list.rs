//! What does each item of a JSON list hold? Items are cut out by their brackets and strings, so that a list of any length
//! is read with one item in memory.

use std::fs::File;
use std::io::{BufReader, Read as _};

use super::{At, Found, MAX_ROW_BYTES, object, too_long};

/// A list that is being read.
pub(super) struct List {
    bytes: std::io::Bytes<BufReader<File>>,
    n_read: u64,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Before,
    Inside,
    After,
}

impl List {
    /// A file at its beginning.
    pub(super) fn new(file: File) -> List {
        List { bytes: BufReader::with_capacity(1 << 18, file).bytes(), n_read: 0, state: State::Before }
    }

    /// The next item.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Found>> {
        if self.state == State::Before {
            for byte in self.bytes.by_ref() {
                if byte? == b'[' {
                    break;
                }
            }
            self.state = State::Inside;
        }
        if self.state == State::After {
            return Ok(None);
        }
        let (mut item, mut depth, mut is_too_long) = (Vec::new(), 0usize, false);
        let (mut in_text, mut escaped) = (false, false);
        let ended = loop {
            let Some(byte) = self.bytes.next().transpose()? else { break None };
            if in_text {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_text = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => in_text = true,
                    b'{' | b'[' => depth += 1,
                    b',' if depth == 0 => break Some(b','),
                    b']' if depth == 0 => break Some(b']'),
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            match item.len() < MAX_ROW_BYTES {
                true => item.push(byte),
                false => is_too_long = true,
            }
        };
        let text = item.trim_ascii();
        if ended != Some(b',') {
            self.state = State::After;
        }
        if ended == Some(b']') && text.is_empty() {
            return Ok(None);
        }
        self.n_read += 1;
        let row = match (is_too_long, ended) {
            (true, _) => Err(too_long()),
            (false, None) => Err("the list does not end".to_owned()),
            (false, Some(_)) => object(text),
        };
        Ok(Some(Found { at: At::Row(self.n_read), row }))
    }
}
