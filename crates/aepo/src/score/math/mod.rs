//! Are two answers to a mathematical question equal? Exact equality of values and shapes, not of texts.

mod atoms;
mod ball;
mod brackets;
mod calls;
mod complex;
mod digits;
mod exact;
mod extract;
mod functions;
mod lex;
mod names;
mod parse;
mod relations;
mod residue;
mod scalar;
mod shapes;
mod terms;
mod tree;
mod units;
mod value;
mod words;
mod work;

pub use extract::final_answer;

use parse::{Manner, Reading, read};
use tree::Expr;
use work::Work;

/// Longer texts are compared as texts only.
const MAX_BYTES: usize = 8000;

/// A verdict on two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Whether they are equal.
    pub equal: bool,
    /// Why, in a few words for a person.
    pub why: &'static str,
}

/// Whether `answer` equals `reference`; see [`compare`].
#[must_use]
pub fn equal(answer: &str, reference: &str) -> bool {
    compare(answer, reference).equal
}

/// Compares two answers in LaTeX or plain text. The order of the two does not matter.
///
/// Values are equal when they are the same number, whatever their form: `0.5`, `\frac12` and `50\%` are one; `0.333` and
/// 1/3 are not. Expressions with symbols are equal when they agree at many points. What has members is compared by
/// members: tuples and matrices in order, sets and bare lists in any order, intervals with their ends. `x = 5` is
/// equal to 5, an equation to its multiples, and an ordering to its interval. A unit, a percent sign, a degree sign or
/// the base of a number counts only where both sides have one. Words are compared without case. What is read as none of
/// these is compared as text without white space.
///
/// Ends within 100 ms on any input: work, depth and sizes are bounded, and what would go beyond is not equal.
#[must_use]
pub fn compare(answer: &str, reference: &str) -> Comparison {
    let verdict = |equal, why| Comparison { equal, why };
    let (a, b) = (words::undressed(answer), words::undressed(reference));
    if a.is_empty() || b.is_empty() {
        return verdict(false, "one of them is empty");
    }
    if a == b {
        return verdict(true, "the same text");
    }
    if let (Some(a), Some(b)) = (words::only_words(&a), words::only_words(&b)) {
        return if a == b { verdict(true, "the same words") } else { verdict(false, "other words") };
    }
    if a.len() > MAX_BYTES || b.len() > MAX_BYTES {
        return as_texts(&a, &b, "too long to be read as an expression, and other texts");
    }
    let (Some(first), Some(second)) = (readings(&a), readings(&b)) else {
        return as_texts(&a, &b, "no expression that is understood, and other texts");
    };
    let mut work = Work::new(Work::DEFAULT);
    for x in &first {
        for y in &second {
            if shapes::same(&x.expr, &y.expr, &mut work) {
                return verdict(true, "equal as values");
            }
        }
    }
    verdict(false, if work.is_spent() { "too much work to compare" } else { "other values" })
}

fn as_texts(a: &str, b: &str, otherwise: &'static str) -> Comparison {
    // A full stop inside of `\text{…}` was not dressing.
    let ended = |text: &str| {
        let text = words::typeset(text);
        match text.strip_suffix('.') {
            Some(stem) if !stem.ends_with('.') => stem.to_owned(),
            _ => text,
        }
    };
    let equal = ended(a) == ended(b);
    Comparison { equal, why: if equal { "the same text up to spaces" } else { otherwise } }
}

/// The ways to read a text, the likeliest first.
fn readings(text: &str) -> Option<Vec<Reading>> {
    let usual = Manner { group: true, units: true };
    let product = Manner { group: true, units: false };
    let first = read(text, usual).or_else(|| read(text, product)).or_else(|| {
        // `$x = 1$ or $x = 2$`: the dollar signs stand around formulas, not in front of prices.
        (text.contains('$') && !text.contains("\\$")).then(|| read(&text.replace('$', " "), usual))?
    })?;
    let mut all = Vec::new();
    if first.letter_unit {
        all.extend(read(text, product));
    }
    if first.grouped {
        // Members that look like groups of digits are at least in the same order as in the other list.
        all.extend(read(text, Manner { group: false, units: true }).map(|mut list| {
            if let Expr::List(members) = list.expr {
                list.expr = Expr::Tuple(members);
            }
            list
        }));
    }
    all.insert(0, first);
    Some(all)
}

#[cfg(test)]
mod tests;
