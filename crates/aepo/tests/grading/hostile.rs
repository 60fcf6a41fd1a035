//! Does every text get a verdict soon, the same in both orders, and is every text equal to itself?

use std::time::{Duration, Instant};

use aepo::score::math;

use super::texts::hostile;

/// A verdict takes less than 100 ms where the crate is optimised; here it is not, and the machine may be busy.
const AT_MOST: Duration = Duration::from_secs(10);

/// Checks a pair in both orders and the time it takes.
fn check(a: &str, b: &str) -> bool {
    let start = Instant::now();
    let verdict = math::compare(a, b);
    let took = start.elapsed();
    let shown = |text: &str| text.chars().take(60).collect::<String>();
    assert!(took < AT_MOST, "{took:?}: {} | {}", shown(a), shown(b));
    assert_eq!(verdict.equal, math::equal(b, a), "not symmetric: {} | {}", shown(a), shown(b));
    verdict.equal
}

#[test]
fn hostile_texts_get_a_verdict() {
    for text in hostile() {
        if !text.trim().is_empty() {
            let same = check(&text, &text);
            let empty = ["$", "$$", "."].contains(&text.as_str()) || text.chars().all(|c| "\\$.{}*".contains(c));
            assert!(same || empty, "not equal to itself: {}", text.chars().take(60).collect::<String>());
        }
        assert!(!check(&text, "3.25 + x_7"), "{}", text.chars().take(60).collect::<String>());
        assert!(!check(&text, &format!("{text} + 1")) || text.contains("infty") || text.is_empty(), "{text}");
        check(&text, "5");
    }
}

/// Draws that depend on nothing but a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}

const PIECES: [&str; 72] = [
    "1",
    "2",
    "10",
    "37",
    "0",
    "0.5",
    "1,234",
    "x",
    "y",
    "n",
    "\\pi",
    "e",
    "i",
    "+",
    "-",
    "*",
    "/",
    "^",
    "^2",
    "^{",
    "_",
    "_1",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\\{",
    "\\}",
    "\\frac",
    "\\frac{1}{2}",
    "\\frac12",
    "\\sqrt",
    "\\sqrt{2}",
    "\\sqrt[3]",
    "|",
    "!",
    "%",
    "\\%",
    "\\$",
    "$",
    ",",
    ";",
    " ",
    "  ",
    "=",
    "<",
    "\\le",
    ">",
    "\\in",
    "\\cup",
    "\\pm",
    "\\infty",
    "\\sin",
    "\\ln",
    "\\log_2",
    "\\binom",
    "\\left",
    "\\right",
    "\\text{cm}",
    "\\text{ and }",
    "or",
    "km",
    "^\\circ",
    "\\overline{3}",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\\\",
    "&",
    "²",
    "½",
];

#[test]
fn random_texts_are_equal_to_themselves_and_verdicts_are_symmetric() {
    let mut dice = Dice(7);
    let mut last = String::from("1");
    let mut n_equal = 0;
    for _ in 0..6000 {
        let n = 1 + dice.below(12);
        let text: String = (0..n).map(|_| PIECES[dice.below(PIECES.len())]).collect();
        // What is nothing but dressing is empty, and empty answers are equal to nothing.
        assert!(check(&text, &text) || text.chars().all(|c| " $\\.{}".contains(c)), "{text:?}");
        n_equal += usize::from(check(&text, &last));
        check(&text, &format!("{text} "));
        last = text;
    }
    assert!(n_equal < 600, "{n_equal} of 6000 unrelated texts are equal");
}

#[test]
fn mutations_of_answers_are_decided_and_symmetric() {
    let rows: Vec<(String, String, String, bool, bool)> =
        serde_json::from_str(include_str!("../golden/grading.json")).unwrap();
    let mut dice = Dice(11);
    for (_, answer, reference, ..) in &rows {
        for _ in 0..6 {
            let mut chars: Vec<char> = answer.chars().collect();
            for _ in 0..1 + dice.below(3) {
                let at = dice.below(chars.len() + 1);
                match dice.below(3) {
                    0 if at < chars.len() => {
                        chars.remove(at);
                    }
                    1 if at < chars.len() => chars[at] = PIECES[dice.below(PIECES.len())].chars().next().unwrap(),
                    _ => chars.splice(at..at, PIECES[dice.below(PIECES.len())].chars()).for_each(drop),
                }
            }
            let mutated: String = chars.into_iter().collect();
            check(&mutated, reference);
            check(&mutated, answer);
        }
    }
}
