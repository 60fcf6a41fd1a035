//! Which defects of published files are put right? Control characters where a backslash and a letter were meant.
//!
//! A program that writes `\boxed` into a string without escaping the backslash gets a backspace and `oxed`: every system
//! prompt of the released training set holds that, and 21 of its questions a form feed and `rac`. Text that came out of a
//! PDF has single control characters inside of words. None of them is ever meant, so both are put right and counted.

/// What was done to the texts of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Commands that got their backslash and first letter back.
    pub n_commands: usize,
    /// Other control characters, taken out.
    pub n_removed: usize,
}

impl Repairs {
    /// Whether nothing was done.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Repairs::default()
    }
}

impl std::ops::AddAssign for Repairs {
    fn add_assign(&mut self, other: Repairs) {
        self.n_commands += other.n_commands;
        self.n_removed += other.n_removed;
    }
}

/// Control characters that escapes of most languages make, the letter that was escaped, and LaTeX commands that begin
/// with it. A tab, a line feed and a carriage return may be meant, so they are none of these.
const ESCAPES: [(char, char, &[&str]); 4] = [
    ('\u{7}', 'a', &["alpha", "angle", "approx", "arccos", "arcsin", "arctan", "arg", "ast", "aligned"]),
    ('\u{8}', 'b', &["boxed", "bar", "beta", "begin", "big", "bigg", "binom", "bmod", "boldsymbol", "bullet", "bot"]),
    ('\u{b}', 'v', &["vec", "varphi", "varepsilon", "vartheta", "vee", "vdots", "vert", "vphantom"]),
    ('\u{c}', 'f', &["frac", "fbox", "forall", "flat", "frown"]),
];

/// Puts a text right. White space stays as it is; so does what is no control character.
#[must_use]
pub fn repair(text: &str) -> (String, Repairs) {
    let mut repairs = Repairs::default();
    if !text.chars().any(is_defect) {
        return (text.to_owned(), repairs);
    }
    let mut right = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        if !is_defect(c) {
            right.push(c);
            continue;
        }
        let rest = &text[at + c.len_utf8()..];
        let command = ESCAPES.iter().find(|(control, _, commands)| {
            *control == c && commands.iter().any(|command| rest.starts_with(&command[1..]))
        });
        match command {
            Some((_, letter, _)) => {
                right.push('\\');
                right.push(*letter);
                repairs.n_commands += 1;
            }
            None => repairs.n_removed += 1,
        }
    }
    (right, repairs)
}

/// A control character that is no white space.
fn is_defect(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_get_their_backslash_back_and_other_controls_go() {
        let table = [
            ("The answer is \\[ \u{8}oxed{answer here} \\]", "The answer is \\[ \\boxed{answer here} \\]", 1, 0),
            ("as $\u{c}rac{m}{n}$", "as $\\frac{m}{n}$", 1, 0),
            ("\u{b}ec v, \u{7}lpha", "\\vec v, \\alpha", 2, 0),
            ("the di\u{b}fference, who \u{c}finds", "the difference, who finds", 0, 2),
            ("a\0b\u{1b}[0m\u{7f}", "ab[0m", 0, 3),
            ("tabs\tand\r\nlines é \u{a0}", "tabs\tand\r\nlines é \u{a0}", 0, 0),
            ("\u{8}", "", 0, 1),
        ];
        for (text, expected, n_commands, n_removed) in table {
            assert_eq!(repair(text), (expected.to_owned(), Repairs { n_commands, n_removed }), "{text:?}");
        }
    }

    #[test]
    fn every_command_begins_with_its_letter() {
        for (_, letter, commands) in ESCAPES {
            for command in commands {
                assert!(command.starts_with(letter), "{command}");
            }
        }
    }
}
