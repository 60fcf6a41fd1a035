//! Which questions are the same? Texts without what differs between copies of one question, and where two sets meet.

use std::collections::{BTreeSet, HashMap};

/// A question in the form in which copies of it are equal: lower case, no white space, no punctuation, no spacing of
/// LaTeX, full-width characters as their plain ones.
///
/// What changes a mathematical question stays: operators, digits, the point between two digits, and the minus sign, while
/// the hyphen inside of a word goes.
#[must_use]
pub fn folded(question: &str) -> String {
    let text = without_spacing(question);
    let chars: Vec<char> =
        text.chars().map(plain).filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
    let at = |i: Option<usize>| i.and_then(|i| chars.get(i)).copied().unwrap_or(' ');
    let mut folded = String::with_capacity(text.len());
    for (i, &c) in chars.iter().enumerate() {
        let (before, after) = (at(i.checked_sub(1)), at(Some(i + 1)));
        let keep = match c {
            '+' | '*' | '/' | '^' | '=' | '<' | '>' | '|' | '%' => true,
            '-' => !(is_word(before, at(i.checked_sub(2))) && is_word(after, at(Some(i + 2)))),
            '.' => before.is_ascii_digit() && after.is_ascii_digit(),
            '!' => (before.is_ascii_digit() || before == ')') && i + 1 < chars.len(),
            c => c.is_alphanumeric() || (!c.is_ascii() && !is_foreign_punctuation(c)),
        };
        if keep {
            folded.push(c);
        }
    }
    folded
}

/// Commands of LaTeX that only space or size, and those that are another's larger or smaller form.
fn without_spacing(question: &str) -> String {
    const GONE: [&str; 17] = [
        "\\left",
        "\\right",
        "\\displaystyle",
        "\\textstyle",
        "\\qquad",
        "\\quad",
        "\\,",
        "\\;",
        "\\:",
        "\\!",
        "\\ ",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "\\bigl",
        "\\bigr",
    ];
    let mut text = question.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac");
    for command in GONE {
        if text.contains(command) {
            text = remove_command(&text, command);
        }
    }
    text
}

/// Takes a command out, but not `\left` out of `\leftarrow`.
fn remove_command(text: &str, command: &str) -> String {
    let is_named = command.ends_with(|c: char| c.is_ascii_alphabetic());
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(command) {
        let after = &rest[at + command.len()..];
        let is_longer = is_named && after.starts_with(|c: char| c.is_ascii_alphabetic());
        left.push_str(if is_longer { &rest[..at + command.len()] } else { &rest[..at] });
        rest = after;
    }
    left + rest
}

/// A full-width character as its plain one (Unicode's Halfwidth and Fullwidth Forms), and dashes as a minus sign.
fn plain(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        '−' | '–' | '—' | '‐' | '‑' => '-',
        '×' | '·' | '⋅' => '*',
        c => c,
    }
}

/// Whether a letter belongs to a word, and is no variable by itself.
fn is_word(near: char, next: char) -> bool {
    near.is_alphabetic() && next.is_alphabetic()
}

fn is_foreign_punctuation(c: char) -> bool {
    matches!(c, '\u{2000}'..='\u{206f}' | '\u{3001}'..='\u{303f}' | '«' | '»' | '¿' | '¡' | '¶' | '§' | '\u{feff}')
}

/// Groups of places that hold the same folded question, in order of their first; what folds to nothing is in none.
#[must_use]
pub fn duplicates(folded: &[String]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, text) in folded.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        match first.get(text.as_str()) {
            Some(&group) => groups[group].push(i),
            None => {
                first.insert(text, groups.len());
                groups.push(vec![i]);
            }
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// How two questions of different sets meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meeting {
    /// They are the same.
    Same,
    /// The first holds the whole second.
    Contains,
    /// The first is inside of the second.
    Within,
}

impl Meeting {
    /// For a sentence about the first.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Meeting::Same => "is",
            Meeting::Contains => "contains",
            Meeting::Within => "is inside of",
        }
    }
}

/// A shorter question inside of another one means nothing, characters after folding.
pub const MIN_CONTAINED_CHARS: usize = 40;

/// Where two sets meet, by places in each, in order of the first: the same questions, and long ones that stand whole in
/// another. Takes time in the length of all texts, and for each place at which long questions begin alike, in the number
/// of their different lengths.
#[must_use]
pub fn meetings(first: &[String], second: &[String]) -> Vec<(usize, usize, Meeting)> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, text) in second.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        places.entry(text).or_default().push(i);
    }
    let mut found = Vec::new();
    for (i, text) in first.iter().enumerate() {
        let same = places.get(text.as_str()).into_iter().flatten();
        found.extend(same.map(|&j| (i, j, Meeting::Same)));
    }
    found.extend(contained(second, first).into_iter().map(|(j, i)| (i, j, Meeting::Contains)));
    found.extend(contained(first, second).into_iter().map(|(i, j)| (i, j, Meeting::Within)));
    found.sort_unstable();
    found.dedup();
    found
}

/// Bytes by which the beginning of a long question is looked up. Every character has one at least.
const WINDOW: usize = MIN_CONTAINED_CHARS;

/// Long questions that begin alike: their lengths, and who they are.
#[derive(Default)]
struct Alike<'a> {
    lengths: BTreeSet<usize>,
    places: HashMap<&'a [u8], Vec<usize>>,
}

/// Which of `parts` stand whole inside of which of `wholes`, and are not the same.
fn contained(parts: &[String], wholes: &[String]) -> Vec<(usize, usize)> {
    let mut alike: HashMap<u64, Alike<'_>> = HashMap::new();
    for (i, part) in parts.iter().enumerate().filter(|(_, part)| part.chars().nth(MIN_CONTAINED_CHARS - 1).is_some()) {
        let group = alike.entry(hash(&part.as_bytes()[..WINDOW])).or_default();
        group.lengths.insert(part.len());
        group.places.entry(part.as_bytes()).or_default().push(i);
    }
    let mut found = Vec::new();
    let mut answered: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, whole) in wholes.iter().enumerate() {
        let parts = answered.entry(whole).or_insert_with(|| parts_of(whole.as_bytes(), &alike));
        found.extend(parts.iter().map(|&i| (i, j)));
    }
    found
}

fn parts_of(whole: &[u8], alike: &HashMap<u64, Alike<'_>>) -> Vec<usize> {
    let mut found = Vec::new();
    if whole.len() <= WINDOW || alike.is_empty() {
        return found;
    }
    let leaving = (0..WINDOW).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let mut rolling = hash(&whole[..WINDOW]);
    for at in 0..=whole.len() - WINDOW {
        if at > 0 {
            let (gone, come) = (u64::from(whole[at - 1]) + 1, u64::from(whole[at + WINDOW - 1]) + 1);
            rolling = rolling.wrapping_mul(BASE).wrapping_add(come).wrapping_sub(gone.wrapping_mul(leaving));
        }
        let Some(group) = alike.get(&rolling) else { continue };
        let lengths = group.lengths.iter().take_while(|&&n| n <= whole.len() - at).filter(|&&n| n < whole.len());
        for &n in lengths {
            found.extend(group.places.get(&whole[at..at + n]).into_iter().flatten());
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// An odd number with bits everywhere.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |hash: u64, &byte| hash.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_question_are_equal() {
        let table = [
            ("What is  $\\dfrac{1}{2} + x$?", "what is \\( \\frac {1}{2}\\, + \\, x \\)"),
            ("Find $\\left(a, b\\right)$.", "find (a,b)"),
            ("Who wrote “Dune”?", "who wrote \"dune\""),
            ("A well-known multi-hop question", "a well known multi hop question"),
            ("１＋２＝？", "1+2="),
            ("半径是多少？", "半径是多少"),
            ("1 – 2", "1 - 2"),
            ("Is it 3, or 4?", "is it 3 or 4"),
        ];
        for (a, b) in table {
            assert_eq!(folded(a), folded(b), "{a} / {b}");
        }
    }

    #[test]
    fn other_questions_are_not() {
        let table = [
            ("Solve x + 1 = 0", "Solve x - 1 = 0"),
            ("Is 1.5 more?", "Is 15 more?"),
            ("Find -x", "Find x"),
            ("5! and 6", "5 and 6"),
            ("x^2", "x2"),
            ("a < b", "a > b"),
            ("a/b", "ab"),
            ("50% of", "50 of"),
            ("\\leftarrow", "\\arrow"),
            ("肖亮是谁", "肖明是谁"),
            ("who was first", "who was last"),
        ];
        for (a, b) in table {
            assert_ne!(folded(a), folded(b), "{a} / {b}");
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn duplicates_are_groups_in_order() {
        assert_eq!(duplicates(&texts(&["a", "b", "", "a", "c", "b", "a", ""])), [vec![0, 3, 6], vec![1, 5]]);
    }

    #[test]
    fn sets_meet_in_equal_questions_and_in_long_ones_inside_of_others() {
        let long = "everymorningayagoesfora9kilometerlongwalkandstops";
        let within = format!("solvethis{long}thanks");
        let first = texts(&["short", long, &within, "x"]);
        let second = texts(&["x", "ashortone", long, long]);
        let expected = [
            (1, 2, Meeting::Same),
            (1, 3, Meeting::Same),
            (2, 2, Meeting::Contains),
            (2, 3, Meeting::Contains),
            (3, 0, Meeting::Same),
        ];
        assert_eq!(meetings(&first, &second), expected);
        assert_eq!(meetings(&texts(&[long]), &texts(&[&within])), [(0, 0, Meeting::Within)]);
    }

    /// Against the definition, on texts over two letters in which everything begins alike.
    #[test]
    fn containment_is_what_looking_everywhere_finds() {
        let mut state = 7u64;
        let mut text = |most: u64| {
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            };
            let n = 30 + draw() % most;
            "é".repeat(35) + &(0..n).map(|_| if draw() % 8 == 0 { 'b' } else { 'a' }).collect::<String>()
        };
        let wholes: Vec<String> = (0..150).map(|_| text(40)).collect();
        // Half of them are cut out of a whole, at any place and of any length from 35 on.
        let part = |i: usize| match i % 2 {
            0 => wholes[i].chars().skip(i % 31).take(35 + i % 17).collect(),
            _ => text(8),
        };
        let parts: Vec<String> = (0..150).map(part).collect();
        let is_long = |text: &String| text.chars().count() >= MIN_CONTAINED_CHARS;
        let mut expected = Vec::new();
        for (j, whole) in wholes.iter().enumerate() {
            let inside =
                |(_, part): &(usize, &String)| is_long(part) && *part != whole && whole.contains(part.as_str());
            expected.extend(parts.iter().enumerate().filter(inside).map(|(i, _)| (i, j)));
        }
        assert!(expected.len() > 20, "{}", expected.len());
        assert_eq!(contained(&parts, &wholes), expected);
    }
}
