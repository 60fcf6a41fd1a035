//! How right is an answer? The one entrance to all graders, for training and for evaluation.

use super::text::shown;
use super::{choice, gaia, math, qa};
use crate::data::task::Grader;

/// What a grader says of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// In [0, 1].
    pub score: f64,
    /// Whether the answer says what an accepted one says. A score can be 1 without it: token F1 knows no order.
    pub exact: bool,
    /// Why, in a few words for a person.
    pub why: String,
}

impl Verdict {
    fn of(right: bool, why: String) -> Verdict {
        Verdict { score: f64::from(u8::from(right)), exact: right, why }
    }
}

/// The best verdict over the accepted answers.
///
/// [`Grader::Math`], [`Grader::Choice`] and [`Grader::Gaia`] give 1 or 0. [`Grader::Qa`] gives 1 to an answer that names
/// the accepted number, date, decision or words, and its F1 to any other.
#[must_use]
pub fn grade(grader: Grader, answer: &str, accepted: &[String]) -> Verdict {
    if accepted.is_empty() {
        return Verdict::of(false, "no answer is accepted".to_owned());
    }
    match grader {
        Grader::Math => mathematics(answer, accepted),
        Grader::Choice => either(answer, accepted, "choice", choice::equal),
        Grader::Gaia => either(answer, accepted, "answer by GAIA's rule", gaia::equal),
        Grader::Qa => open(answer, accepted),
    }
}

/// Right where any accepted answer is equal as mathematics.
fn mathematics(answer: &str, accepted: &[String]) -> Verdict {
    let mut other = "";
    for reference in accepted {
        let compared = math::compare(answer, reference);
        if compared.equal {
            return Verdict::of(true, format!("{}: {}", compared.why, shown(reference)));
        }
        if other.is_empty() {
            other = compared.why;
        }
    }
    Verdict::of(false, format!("{} is not {}: {other}", quoted(answer), all(accepted)))
}

/// Right where any accepted answer is equal.
fn either(answer: &str, accepted: &[String], what: &str, equal: impl Fn(&str, &str) -> bool) -> Verdict {
    match accepted.iter().find(|reference| equal(answer, reference)) {
        Some(reference) => Verdict::of(true, format!("the same {what} as {}", shown(reference))),
        None => Verdict::of(false, format!("{} is not {}", quoted(answer), all(accepted))),
    }
}

/// Token F1, and 1 where the same is said in other words.
fn open(answer: &str, accepted: &[String]) -> Verdict {
    let prepared = qa::Answer::new(answer);
    let found = accepted.iter().find_map(|reference| Some((prepared.same(reference)?, reference)));
    if let Some((same, reference)) = found {
        return Verdict::of(true, format!("{}: {}", same.name(), quoted(reference)));
    }
    let mut best = (0.0, &accepted[0]);
    for reference in accepted {
        let f1 = prepared.overlap(reference);
        if f1 > best.0 {
            best = (f1, reference);
        }
    }
    let (score, reference) = best;
    let why = match score > 0.0 {
        true => format!("token F1 {score:.2} with {}", quoted(reference)),
        false => format!("{} has nothing in common with {}", quoted(answer), all(accepted)),
    };
    Verdict { score, exact: false, why }
}

fn quoted(text: &str) -> String {
    match shown(text) {
        shown if shown.is_empty() => "an empty answer".to_owned(),
        shown => shown,
    }
}

/// The accepted answers for a person: the first, and how many more there are.
fn all(accepted: &[String]) -> String {
    match accepted {
        [] => String::new(),
        [one] => quoted(one),
        [first, rest @ ..] => format!("{} or {} more", quoted(first), rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(accepted: &[&str]) -> Vec<String> {
        accepted.iter().map(|a| (*a).to_owned()).collect()
    }

    #[test]
    fn each_grader_has_its_rule_and_says_why() {
        type Row = (Grader, &'static str, &'static [&'static str], f64, bool, &'static str);
        let table: [Row; 14] = [
            (Grader::Math, "1.0", &["2", "1"], 1.0, true, "equal as values: 1"),
            (Grader::Math, "15", &["1.5"], 0.0, false, "15 is not 1.5: other values"),
            (Grader::Choice, "(C)", &["C"], 1.0, true, "the same choice as C"),
            (Grader::Choice, "C or D", &["C"], 0.0, false, "C or D is not C"),
            (Grader::Gaia, "$10", &["10"], 1.0, true, "the same answer by GAIA's rule as 10"),
            (Grader::Gaia, "", &["10"], 0.0, false, "an empty answer is not 10"),
            (Grader::Qa, "The Paris", &["paris"], 1.0, true, "the same words: paris"),
            (Grader::Qa, "1930-10-22", &["x", "October 22, 1930"], 1.0, true, "the same date: October 22, 1930"),
            (Grader::Qa, "dinars", &["Algerian dinars"], 2.0 / 3.0, false, "token F1 0.67 with Algerian dinars"),
            (Grader::Qa, "1.5", &["15"], 1.0, false, "token F1 1.00 with 15"),
            (Grader::Qa, "Delhi New", &["New Delhi"], 1.0, false, "token F1 1.00 with New Delhi"),
            (Grader::Qa, "x\ny", &["a", "b", "c"], 0.0, false, "x y has nothing in common with a or 2 more"),
            (Grader::Qa, "", &["b"], 0.0, false, "an empty answer has nothing in common with b"),
            (Grader::Qa, "b", &[], 0.0, false, "no answer is accepted"),
        ];
        for (grader, answer, accepted, score, exact, why) in table {
            let got = grade(grader, answer, &owned(accepted));
            assert!((got.score - score).abs() < 1e-12, "{answer}: {got:?}");
            assert_eq!((got.exact, got.why.as_str()), (exact, why), "{answer}");
        }
    }

    #[test]
    fn an_open_answer_scores_its_f1_or_full_marks() {
        let accepted = owned(&["New York City", "NYC"]);
        for answer in ["New York", "NYC", "nyc!", "City of New York", "Boston", "", "new york city new york city"] {
            let verdict = grade(Grader::Qa, answer, &accepted);
            let expected = if verdict.exact { 1.0 } else { qa::best_f1(answer, &accepted) };
            assert_eq!(verdict.score, expected, "{answer}");
        }
    }
}
