//! Where does a turn end? Known to prompts, which say it, and to policies, which sample up to it.

use std::sync::Arc;

/// What ends a turn: an id, or a text that its tokens spell, perhaps over several tokens and with more behind it in the
/// last one. Nothing is cut off: the turn ends with the whole token that completes the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Each ends the turn.
    pub ids: Vec<u32>,
    /// Each ends the turn; none is empty.
    pub texts: Vec<String>,
    /// Bytes that each id stands for; needed where there are texts. An id beyond them spells nothing.
    pub pieces: Arc<[Box<[u8]>]>,
}

impl Stop {
    /// Ids alone.
    #[must_use]
    pub fn at(ids: &[u32]) -> Arc<Stop> {
        Arc::new(Stop { ids: ids.to_vec(), ..Stop::default() })
    }

    /// Whether the last token of `turn` ends it, given that none before did.
    #[must_use]
    pub fn ends(&self, turn: &[u32]) -> bool {
        let Some((&last, before)) = turn.split_last() else { return false };
        if self.ids.contains(&last) {
            return true;
        }
        let longest = self.texts.iter().map(String::len).max().unwrap_or(0);
        if longest == 0 {
            return false;
        }
        let piece = |id: u32| self.pieces.get(id as usize).map_or(&[][..], |bytes| bytes);
        // Back from the end, as many bytes before the last token as a text that ends in it can have.
        let mut bytes: Vec<u8> = piece(last).iter().rev().copied().collect();
        let wanted = bytes.len() + longest - 1;
        for &id in before.iter().rev() {
            if bytes.len() >= wanted {
                break;
            }
            bytes.extend(piece(id).iter().rev());
        }
        bytes.truncate(wanted);
        bytes.reverse();
        self.texts.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every prefix of `turn` that is the first to end, or nothing.
    fn first_end(stop: &Stop, turn: &[u32]) -> Option<usize> {
        (1..=turn.len()).find(|&n| stop.ends(&turn[..n]))
    }

    #[test]
    fn a_text_may_be_spread_over_tokens_and_end_inside_one() {
        let pieces: Vec<Box<[u8]>> = ["</", "python", ">\n", "x", "", "</python>", "\n</py", "thon>!", "</search>"]
            .map(|p| p.as_bytes().into())
            .into();
        let stop =
            Stop { ids: vec![4], texts: vec!["</python>".to_owned(), "</search>".to_owned()], pieces: pieces.into() };
        let table: [(&[u32], Option<usize>); 9] = [
            (&[0, 1, 2, 3], Some(3)),
            (&[3, 5, 3], Some(2)),
            (&[6, 7, 3], Some(2)),
            (&[3, 8], Some(2)),
            (&[3, 4], Some(2)),
            (&[0, 1, 3, 2], None),
            (&[0, 1], None),
            (&[], None),
            (&[99, 0, 99, 1, 2], Some(5)),
        ];
        for (turn, expected) in table {
            assert_eq!(first_end(&stop, turn), expected, "{turn:?}");
        }
        assert_eq!(first_end(&Stop::at(&[3]), &[0, 1, 3]), Some(3));
    }
}
