//! Which finished paths stay in the cache? Those used last, as many as there is room for.

use aepo::policy::PathId;

/// Paths without a request, from the one used longest ago on.
#[derive(Default)]
pub(super) struct Kept {
    paths: Vec<(PathId, Vec<u32>)>,
    /// Tokens that their blocks have room for.
    n_tokens: usize,
}

/// Tokens in a block of the cache: a path fills its last one in part.
pub(super) const BLOCK: usize = 16;

/// Tokens at the beginning of both.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn slots(tokens: &[u32]) -> usize {
    tokens.len().next_multiple_of(BLOCK)
}

impl Kept {
    /// Keeps a path and closes those that are nothing but its beginning.
    pub(super) fn add(&mut self, path: PathId, tokens: Vec<u32>, mut close: impl FnMut(PathId)) {
        self.paths.retain(|(old, beginning)| {
            let stays = !tokens.starts_with(beginning);
            if !stays {
                close(*old);
            }
            stays
        });
        self.paths.push((path, tokens));
        self.n_tokens = self.paths.iter().map(|(_, tokens)| slots(tokens)).sum();
    }

    /// The path that begins like `prompt` for longest, and for how many tokens; it counts as used.
    pub(super) fn longest_beginning(&mut self, prompt: &[u32]) -> (Option<PathId>, usize) {
        let lengths = self.paths.iter().map(|(_, tokens)| common(prompt, tokens));
        let Some((at, n)) = lengths.enumerate().max_by_key(|&(_, n)| n).filter(|&(_, n)| n > 0) else {
            return (None, 0);
        };
        let used = self.paths.remove(at);
        let path = used.0;
        self.paths.push(used);
        (Some(path), n)
    }

    /// Closes paths until what is kept takes no more than `room` tokens.
    pub(super) fn shrink(&mut self, room: usize, mut close: impl FnMut(PathId)) {
        let mut n_closed = 0;
        while self.n_tokens > room && n_closed < self.paths.len() {
            let (path, tokens) = &self.paths[n_closed];
            close(*path);
            self.n_tokens -= slots(tokens);
            n_closed += 1;
        }
        self.paths.drain(..n_closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut kept = Kept::default();
        let mut closed = Vec::new();
        kept.add(PathId(1), vec![1, 2, 3, 4], |path| closed.push(path.0));
        kept.add(PathId(2), vec![1, 2, 9], |path| closed.push(path.0));
        kept.add(PathId(3), vec![5; 10], |path| closed.push(path.0));
        assert_eq!(kept.longest_beginning(&[1, 2, 3, 7]), (Some(PathId(1)), 3));
        assert_eq!(kept.longest_beginning(&[7]), (None, 0));
        kept.shrink(48, |path| closed.push(path.0));
        assert!(closed.is_empty(), "three blocks fit");
        kept.shrink(47, |path| closed.push(path.0));
        assert_eq!(closed, [2], "the first was used after it");
        // The whole of the first, and more.
        kept.add(PathId(4), vec![1, 2, 3, 4, 5], |path| closed.push(path.0));
        assert_eq!((closed.as_slice(), kept.n_tokens), (&[2, 1][..], 32));
        kept.shrink(0, |path| closed.push(path.0));
        assert_eq!((closed.as_slice(), kept.n_tokens, kept.paths.len()), (&[2, 1, 3, 4][..], 0, 0));
    }
}
