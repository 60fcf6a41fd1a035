//! Do the graders of texts score as SQuAD and GAIA define it? The scores come from `golden/make_graders.py`, which shares
//! no code with this crate.

use aepo::data::task::Grader;
use aepo::score::{choice, gaia, grade, qa, solution};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    /// Answer, truth, F1, exact match.
    qa: Vec<(String, String, f64, bool)>,
    /// Answer, truth, whether they are equal.
    gaia: Vec<(String, String, bool)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/graders.json")).unwrap()
}

#[test]
fn f1_and_exact_match_are_those_of_squad() {
    let pairs = golden().qa;
    assert!(pairs.len() >= 1000);
    for (answer, truth, f1, exact) in &pairs {
        let got = qa::f1(answer, truth);
        assert!((got - f1).abs() < 1e-12, "{answer:?} / {truth:?}: {got}, not {f1}");
        assert_eq!(qa::exact_match(answer, truth), *exact, "{answer:?} / {truth:?}");
        let truths = std::slice::from_ref(truth);
        assert_eq!((qa::best_f1(answer, truths), qa::any_exact_match(answer, truths)), (got, *exact));
        // The one entrance gives no less than the definition.
        let verdict = grade(Grader::Qa, answer, truths);
        assert!(verdict.score > f1 - 1e-12 && verdict.score <= 1.0, "{answer:?} / {truth:?}: {verdict:?}");
    }
}

#[test]
fn gaias_rule_is_that_of_its_scorer() {
    let pairs = golden().gaia;
    assert!(pairs.len() >= 1000);
    for (answer, truth, expected) in &pairs {
        assert_eq!(gaia::equal(answer, truth), *expected, "{answer:?} / {truth:?}");
        let verdict = grade(Grader::Gaia, answer, std::slice::from_ref(truth));
        assert_eq!(verdict.score, f64::from(u8::from(*expected)));
    }
}

/// A small generator of numbers, so that every run sees the same texts.
struct Draws(u64);

impl Draws {
    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        // The constants of PCG's multiplier; only the high bits are used.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

/// Pieces of answers to each kind of question, and of what breaks readers of them.
const PIECES: &[&str] = &[
    "a",
    "the",
    "A",
    "C",
    "(C)",
    "D)",
    "answer",
    "Answer: ",
    "option ",
    "or",
    ", ",
    ";",
    ".",
    ":",
    " ",
    "\n",
    "\t",
    "5",
    "1,200",
    "-",
    "−",
    "$",
    "%",
    "½",
    "٣",
    "５",
    "，",
    "。",
    "（",
    "）",
    "twelve",
    "hundred",
    "million",
    "and",
    "km",
    "October",
    "22nd",
    "1930-10-22",
    "1930年10月22日",
    "年",
    "月",
    "日",
    "十",
    "百",
    "万",
    "亿",
    "〇",
    "是",
    "答案是",
    "选",
    "北京",
    "\\",
    "\\text{",
    "\\boxed{",
    "{",
    "}",
    "[",
    "]",
    "*",
    "_",
    "`",
    "'",
    "’",
    "é",
    "e\u{301}",
    "ß",
    "İ",
    "Σ",
    "ς",
    "\u{0}",
    "\u{1c}",
    "\u{200b}",
    "\u{202e}",
    "\u{feff}",
    "𝟗",
    "𐐷",
    "🙂",
    "<answer>",
    "</answer>",
    "</think>",
    "final answer:",
    "####",
    "inf",
    "nan",
    "1e999",
    "1_0",
    "yes",
    "no",
    ",",
    "&",
];

#[test]
fn mixed_scripts_and_broken_marks_get_a_verdict() {
    let mut draws = Draws(6);
    let mut text = || {
        let n = draws.below(9);
        (0..n).map(|_| PIECES[draws.below(PIECES.len())]).collect::<String>()
    };
    for _ in 0..20_000 {
        let (a, b) = (text(), text());
        for grader in [Grader::Qa, Grader::Choice, Grader::Gaia] {
            let taken = solution::answer_in(grader, &a);
            let verdict = grade(grader, taken, &[b.clone(), a.clone()]);
            assert!((0.0..=1.0).contains(&verdict.score) && verdict.score >= f64::from(u8::from(verdict.exact)));
            assert!(verdict.why.chars().count() < 250 && !verdict.why.contains('\n'), "{a:?} {b:?}: {verdict:?}");
        }
        // Neither side is the answer by nature.
        assert_eq!(qa::f1(&a, &b), qa::f1(&b, &a), "{a:?} {b:?}");
        assert!(choice::letters(&a).is_none() || choice::equal(&a, &a), "{a:?}");
        // Whatever an answer is, it is the same as itself.
        assert_eq!((qa::f1(&a, &a), qa::exact_match(&a, &a), gaia::equal(&a, &a)), (1.0, true, true), "{a:?}");
        let same = qa::same(&a, &a);
        assert!(same.is_some(), "{a:?}");
    }
}

#[test]
fn long_texts_are_read_in_one_pass() {
    // At a cost that grows with the square, each of these would take hours.
    for piece in PIECES {
        let long = piece.repeat((1 << 16) / piece.len());
        for grader in [Grader::Qa, Grader::Choice, Grader::Gaia] {
            let verdict = grade(grader, solution::answer_in(grader, &long), &["C".to_owned(), "北京".to_owned()]);
            assert!((0.0..=1.0).contains(&verdict.score));
            let verdict = grade(grader, "C", std::slice::from_ref(&long));
            assert!((0.0..=1.0).contains(&verdict.score));
        }
    }
}
