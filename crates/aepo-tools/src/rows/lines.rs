//! What does each line of a file hold? Read from any place on, and never more than a bound of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use super::MAX_ROW_BYTES;

/// One line, without white space around it.
pub(crate) enum Line {
    /// Nothing but white space.
    Blank,
    /// Over the bound; it was read past.
    TooLong,
    /// What it holds.
    Text(Vec<u8>),
}

/// A file that is being read.
pub(crate) struct Lines {
    reader: BufReader<File>,
    /// Bytes before the next line.
    pub(crate) n_bytes: u64,
    /// Lines before the next.
    pub(crate) n_read: u64,
}

impl Lines {
    /// Goes on behind so many bytes, which are so many lines.
    pub(crate) fn new(file: File, n_bytes: u64, n_read: u64) -> std::io::Result<Lines> {
        let mut reader = BufReader::with_capacity(1 << 18, file);
        reader.seek(SeekFrom::Start(n_bytes))?;
        Ok(Lines { reader, n_bytes, n_read })
    }

    /// The next line.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Line>> {
        let mut line = Vec::new();
        let n = self.reader.by_ref().take(MAX_ROW_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if n == 0 {
            return Ok(None);
        }
        self.n_bytes += n as u64;
        self.n_read += 1;
        if line.len() > MAX_ROW_BYTES {
            self.n_bytes += self.skip(&line)?;
            return Ok(Some(Line::TooLong));
        }
        let is_first = self.n_read == 1;
        let text = if is_first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
        let text = text.trim_ascii();
        Ok(Some(match text.len() {
            0 => Line::Blank,
            n if n == line.len() => Line::Text(line),
            _ => Line::Text(text.to_vec()),
        }))
    }

    /// Reads on to the end of a line that is too long, without keeping it; returns how many bytes that were.
    fn skip(&mut self, begun: &[u8]) -> std::io::Result<u64> {
        if begun.ends_with(b"\n") {
            return Ok(0);
        }
        let mut n_skipped = 0;
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let n = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(n);
            n_skipped += n as u64;
            if end.is_some() || n == 0 {
                return Ok(n_skipped);
            }
        }
    }
}
