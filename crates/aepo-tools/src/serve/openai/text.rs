//! What text do tokens spell, while they come? Whole characters, and nothing that might turn out to be a stop.

use std::sync::Arc;

use aepo::prompt::served::overlap;

/// Spells the tokens of one answer.
pub(super) struct Speller {
    pieces: Arc<[Box<[u8]>]>,
    stops: Vec<String>,
    include_stop: bool,
    /// Bytes that are no whole character yet.
    pending: Vec<u8>,
    text: String,
    n_told: usize,
}

impl Speller {
    pub(super) fn new(pieces: Arc<[Box<[u8]>]>, stops: Vec<String>, include_stop: bool) -> Speller {
        Speller { pieces, stops, include_stop, pending: Vec::new(), text: String::new(), n_told: 0 }
    }

    /// Adds a token. The text behind it may still change: [`Speller::tell`] gives what may not.
    pub(super) fn add(&mut self, id: u32) {
        self.pending.extend_from_slice(self.pieces.get(id as usize).map_or(&[][..], |bytes| bytes));
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    self.text.push_str(whole);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let n = error.valid_up_to();
                    self.text.push_str(std::str::from_utf8(&self.pending[..n]).unwrap_or_default());
                    match error.error_len() {
                        Some(bad) => {
                            self.text.push(char::REPLACEMENT_CHARACTER);
                            self.pending.drain(..n + bad);
                        }
                        // The next token may complete it.
                        None => {
                            self.pending.drain(..n);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// What can be told by now and was not. From a whole stop on nothing is: it ends the answer.
    pub(super) fn tell(&mut self) -> String {
        let rest = &self.text[self.n_told..];
        let whole = self.stops.iter().filter_map(|stop| rest.find(stop.as_str())).min();
        let begun = self.stops.iter().map(|stop| overlap(rest, stop)).max().unwrap_or(0);
        let mut end = self.n_told + whole.unwrap_or(rest.len()).min(rest.len() - begun);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.told_to(end)
    }

    fn told_to(&mut self, end: usize) -> String {
        let told = self.text.get(self.n_told..end).unwrap_or_default().to_owned();
        self.n_told = self.n_told.max(end);
        told
    }

    /// The rest of an ended answer, and the stop that it holds, where a stop ended it.
    pub(super) fn end(&mut self) -> (String, Option<String>) {
        if !self.pending.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        let found = self.stops.iter().filter_map(|stop| Some((self.text.find(stop.as_str())?, stop)));
        let found = found.min_by_key(|&(at, stop)| (at, stop.len())).map(|(at, stop)| (at, stop.clone()));
        match found {
            Some((at, stop)) => {
                let end = if self.include_stop { at + stop.len() } else { at };
                self.text.truncate(end);
                (self.told_to(end), Some(stop))
            }
            None => (self.told_to(self.text.len()), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speller(pieces: &[&[u8]], stops: &[&str], include_stop: bool) -> Speller {
        let pieces: Vec<Box<[u8]>> = pieces.iter().map(|piece| (*piece).into()).collect();
        Speller::new(pieces.into(), stops.iter().map(|stop| (*stop).to_owned()).collect(), include_stop)
    }

    #[test]
    fn characters_are_told_whole_and_stops_never() {
        let pieces: &[&[u8]] = &[b"a", b"\xF0\x9F", b"\x8F\x94", b"EN", b"D!", b"\xFF", b""];
        // What is told behind each token, and at the end.
        type Case<'a> = (&'a [u32], &'a [&'a str], bool, &'a [&'a str], &'a str);
        let table: [Case<'_>; 7] = [
            (&[0, 1, 2, 0], &[], false, &["a", "", "🏔", "a"], ""),
            (&[0, 1], &[], false, &["a", ""], "\u{FFFD}"),
            (&[0, 1, 0], &[], false, &["a", "", "\u{FFFD}a"], ""),
            (&[5, 99, 6], &[], false, &["\u{FFFD}", "", ""], ""),
            (&[0, 3, 4], &["END"], false, &["a", "", ""], ""),
            (&[0, 3, 4], &["ND!", "END"], true, &["a", "", ""], "END"),
            (&[0, 3, 0], &["END"], false, &["a", "", "ENa"], ""),
        ];
        for (ids, stops, include, told, rest) in table {
            let mut speller = speller(pieces, stops, include);
            let parts: Vec<String> = ids
                .iter()
                .map(|&id| {
                    speller.add(id);
                    speller.tell()
                })
                .collect();
            assert_eq!(parts, told, "{ids:?} {stops:?}");
            assert_eq!(speller.end().0, rest, "{ids:?} {stops:?}");
        }
        let mut both = speller(&[b"xEND"], &["END", "xE"], false);
        both.add(0);
        assert_eq!(both.end(), (String::new(), Some("xE".to_owned())));
    }
}
