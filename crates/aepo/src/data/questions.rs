//! What is asked about the world? Questions of four kinds, their wording, their truth, and the quickstart's tasks.

use std::collections::HashSet;

use super::countries::{Attribute, Country, Split, Topic, of_split};
use super::dice::Dice;
use super::findable::Index;
use super::task::{Grader, Task};
use super::world::search_corpus;
use crate::seed::Seed;

/// The kinds of question, as [`Task::kind`] names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A fact of a country that is named.
    OneHop,
    /// A fact of the country with a capital that is named.
    TwoHop,
    /// Two looked-up numbers and a calculation.
    Compare,
    /// A calculation with numbers too large to do in the head.
    Arithmetic,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::OneHop, Kind::TwoHop, Kind::Compare, Kind::Arithmetic];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::OneHop => "one-hop",
            Kind::TwoHop => "two-hop",
            Kind::Compare => "compare",
            Kind::Arithmetic => "arithmetic",
        }
    }
}

/// What is done with two looked-up numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The first, the larger one, minus the second.
    Minus,
    /// Their sum.
    Plus,
    /// Whose is larger.
    Larger,
}

/// A calculation over given numbers; no result is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calculation {
    /// a + b
    Sum(i64, i64),
    /// a − b, a ≥ b
    Difference(i64, i64),
    /// a · b
    Product(i64, i64),
    /// (a + b) · c
    SumTimes(i64, i64, i64),
}

impl Calculation {
    /// Its exact value.
    #[must_use]
    pub fn value(self) -> i128 {
        match self {
            Calculation::Sum(a, b) => i128::from(a) + i128::from(b),
            Calculation::Difference(a, b) => i128::from(a) - i128::from(b),
            Calculation::Product(a, b) => i128::from(a) * i128::from(b),
            Calculation::SumTimes(a, b, c) => (i128::from(a) + i128::from(b)) * i128::from(c),
        }
    }

    /// As Python writes it, each number behind a space: ` 12 + 34`, `( 12 + 34) * 56`.
    #[must_use]
    pub fn code(self) -> String {
        match self {
            Calculation::Sum(a, b) => format!(" {a} + {b}"),
            Calculation::Difference(a, b) => format!(" {a} - {b}"),
            Calculation::Product(a, b) => format!(" {a} * {b}"),
            Calculation::SumTimes(a, b, c) => format!("( {a} + {b}) * {c}"),
        }
    }
}

/// A question about a world, which is a list of countries given with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Index of the country, what is asked.
    OneHop(usize, Attribute),
    /// Index of the country whose capital is named, what is asked: something its other article states.
    TwoHop(usize, Attribute),
    /// Indices of two countries, an amount of both, what to do with them.
    Compare(usize, usize, Attribute, Comparison),
    /// A calculation.
    Arithmetic(Calculation),
}

/// The numbers that a split calculates with, both ends included.
#[must_use]
pub fn operand_range(split: Split) -> [i64; 2] {
    match split {
        Split::Train => [1_000, 59_999],
        Split::HeldOut => [60_000, 99_999],
    }
}

impl Question {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Question::OneHop(..) => Kind::OneHop,
            Question::TwoHop(..) => Kind::TwoHop,
            Question::Compare(..) => Kind::Compare,
            Question::Arithmetic(..) => Kind::Arithmetic,
        }
    }

    /// How its answers are compared.
    #[must_use]
    pub fn grader(&self) -> Grader {
        match self {
            Question::OneHop(_, a) | Question::TwoHop(_, a) if !a.is_number() => Grader::Qa,
            Question::Compare(_, _, _, Comparison::Larger) => Grader::Qa,
            _ => Grader::Math,
        }
    }

    /// The right answer; nothing when the world does not know a fact it needs.
    #[must_use]
    pub fn truth(&self, world: &[Country]) -> Option<String> {
        match *self {
            Question::OneHop(c, attribute) => world.get(c)?.fact(attribute).map(str::to_owned),
            Question::TwoHop(c, attribute) => {
                world.get(c)?.fact(Attribute::Capital)?;
                world.get(c)?.fact(attribute).map(str::to_owned)
            }
            Question::Compare(a, b, attribute, comparison) => {
                let (a, b) = (world.get(a)?, world.get(b)?);
                let (x, y) = (a.amount(attribute)?, b.amount(attribute)?);
                match comparison {
                    Comparison::Minus => Some((x - y).to_string()),
                    Comparison::Plus => Some((x + y).to_string()),
                    Comparison::Larger => Some(if x > y { &a.name } else { &b.name }.clone()),
                }
            }
            Question::Arithmetic(calculation) => Some(calculation.value().to_string()),
        }
    }

    /// The question in words. Every name and number stands behind a space.
    pub(crate) fn words(&self, world: &[Country], dice: &mut Dice) -> String {
        let name = |c: usize| world.get(c).map_or("", |c| c.name.as_str());
        match *self {
            Question::OneHop(c, attribute) => {
                let (words, name) = (attribute.words(), name(c));
                match dice.below(3) {
                    0 => format!("What is the {words} of {name}?"),
                    1 => format!("Tell me the {words} of {name}."),
                    _ => format!("Find the {words} of {name}."),
                }
            }
            Question::TwoHop(c, attribute) => {
                let words = attribute.words();
                let capital = world.get(c).and_then(|c| c.fact(Attribute::Capital)).unwrap_or_default();
                match dice.below(3) {
                    0 => format!("What is the {words} of the country whose capital is {capital}?"),
                    1 => format!("Find the {words} of the country with the capital {capital}."),
                    _ => format!("The capital of a country is {capital}. What is its {words}?"),
                }
            }
            Question::Compare(a, b, attribute, comparison) => {
                let (words, a, b) = (attribute.words(), name(a), name(b));
                match (comparison, dice.below(2)) {
                    (Comparison::Minus, 0) => format!("What is the {words} of {a} minus the {words} of {b}?"),
                    (Comparison::Minus, _) => format!("How much larger is the {words} of {a} than that of {b}?"),
                    (Comparison::Plus, 0) => format!("What is the {words} of {a} plus the {words} of {b}?"),
                    (Comparison::Plus, _) => format!("What is the total {words} of {a} and {b}?"),
                    (Comparison::Larger, 0) => format!("Which has the larger {words}, {a} or {b}?"),
                    (Comparison::Larger, _) => format!("Which of {a} and {b} has the larger {words}?"),
                }
            }
            Question::Arithmetic(calculation) => {
                let mut code = calculation.code();
                if code.starts_with('(') {
                    code.insert(0, ' ');
                } else if dice.chance(0.3) {
                    code = code.replace('+', "plus").replace('-', "minus").replace('*', "times");
                }
                match dice.below(3) {
                    0 => format!("What is{code}?"),
                    1 => format!("Compute{code}."),
                    _ => format!("Calculate{code}."),
                }
            }
        }
    }
}

/// Draws a question of `kind` about the countries `pool` (indices into `world`); nothing when the drawn countries lack
/// a fact it needs.
pub(crate) fn draw(
    dice: &mut Dice,
    kind: Kind,
    world: &[Country],
    pool: &[usize],
    operands: [i64; 2],
) -> Option<Question> {
    if kind == Kind::Arithmetic {
        return Some(Question::Arithmetic(draw_calculation(dice, operands)));
    }
    if pool.is_empty() {
        return None;
    }
    let country = *dice.pick(pool);
    let question = match kind {
        Kind::OneHop => Question::OneHop(country, *dice.pick(&Attribute::ALL)),
        Kind::TwoHop => {
            let society: Vec<Attribute> = Attribute::ALL.into_iter().filter(|a| a.topic() == Topic::Society).collect();
            Question::TwoHop(country, *dice.pick(&society))
        }
        Kind::Compare | Kind::Arithmetic => {
            let amounts: Vec<Attribute> = Attribute::ALL.into_iter().filter(|a| a.is_amount()).collect();
            let attribute = *dice.pick(&amounts);
            let comparison = *dice.pick(&[Comparison::Minus, Comparison::Plus, Comparison::Larger]);
            let (mut a, mut b) = (country, *dice.pick(pool));
            let (x, y) = (world.get(a)?.amount(attribute)?, world.get(b)?.amount(attribute)?);
            if a == b || x == y {
                return None;
            }
            if comparison == Comparison::Minus && x < y {
                (a, b) = (b, a);
            }
            Question::Compare(a, b, attribute, comparison)
        }
    };
    question.truth(world).map(|_| question)
}

fn draw_calculation(dice: &mut Dice, [low, high]: [i64; 2]) -> Calculation {
    // Numbers of five digits are preferred, where the range has them, so that both splits look alike.
    let operand =
        |dice: &mut Dice| if dice.chance(0.7) { dice.between(low.max(10_000), high) } else { dice.between(low, high) };
    let (a, b) = (operand(dice), operand(dice));
    match dice.weighted(&[0.15, 0.15, 0.4, 0.3]) {
        0 => Calculation::Sum(a, b),
        1 => Calculation::Difference(a.max(b), a.min(b)),
        2 => Calculation::Product(a, b),
        _ => Calculation::SumTimes(a, b, operand(dice)),
    }
}

/// Up to `n` different questions of a split, the four kinds in turn; fewer when the table has not enough facts. A
/// question is only asked when a search for its words finds the articles it needs, and not those of a namesake.
#[must_use]
pub fn quickstart_tasks(countries: &[Country], split: Split, n: usize, seed: Seed) -> Vec<Task> {
    let index = Index::new(&search_corpus(countries));
    let world = of_split(countries, split);
    let pool: Vec<usize> = (0..world.len()).collect();
    let split_name = match split {
        Split::Train => "train",
        Split::HeldOut => "held-out",
    };
    let mut seen = HashSet::new();
    let mut tasks: Vec<Task> = Vec::new();
    // A small table runs out of questions; then the kinds that are left fill the rest, and at last it is enough.
    for attempt in 0..(40 * n as u64) {
        if tasks.len() == n {
            break;
        }
        let mut dice = Dice::new(seed.child(attempt));
        let kind = Kind::ALL[(tasks.len() + attempt as usize / (20 * n)) % Kind::ALL.len()];
        let Some(question) = draw(&mut dice, kind, &world, &pool, operand_range(split)) else { continue };
        let Some(answer) = question.truth(&world).filter(|_| index.answers(&question, &world)) else { continue };
        let words = question.words(&world, &mut dice);
        if seen.insert(words.clone()) {
            tasks.push(Task {
                id: format!("{split_name}-{}-{}", kind.name(), tasks.len()),
                kind: kind.name().to_owned(),
                question: words,
                answers: vec![answer],
                grader: question.grader(),
            });
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::super::countries::{contains_words, tests::quickstart_countries};
    use super::*;

    #[test]
    fn held_out_tasks_are_many_different_and_of_all_kinds() {
        let countries = quickstart_countries();
        let tasks = quickstart_tasks(&countries, Split::HeldOut, 480, Seed(1));
        assert_eq!(tasks.len(), 480);
        let different: HashSet<&str> = tasks.iter().map(|t| t.question.as_str()).collect();
        assert_eq!(different.len(), 480);
        let ids: HashSet<&str> = tasks.iter().map(|t| t.id.as_str()).collect();
        assert_eq!(ids.len(), 480);
        for kind in Kind::ALL {
            assert_eq!(tasks.iter().filter(|t| t.kind == kind.name()).count(), 120);
        }
        assert_eq!(tasks, quickstart_tasks(&countries, Split::HeldOut, 480, Seed(1)));
        assert_ne!(tasks, quickstart_tasks(&countries, Split::HeldOut, 480, Seed(2)));
    }

    #[test]
    fn training_tasks_know_nothing_of_the_held_out_split() {
        let countries = quickstart_countries();
        let held_out = of_split(&countries, Split::HeldOut);
        let names: Vec<&str> =
            held_out.iter().flat_map(|c| [Some(c.name.as_str()), c.fact(Attribute::Capital)]).flatten().collect();
        let [low, high] = operand_range(Split::HeldOut);
        for task in quickstart_tasks(&countries, Split::Train, 2000, Seed(3)) {
            for text in task.answers.iter().chain([&task.question]) {
                assert!(!names.iter().any(|name| contains_words(text, name)), "{text}");
            }
            if task.kind == "arithmetic" {
                let numbers = task.question.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<i64>().ok());
                assert!(numbers.into_iter().all(|n| !(low..=high).contains(&n)), "{}", task.question);
            }
        }
    }

    #[test]
    fn a_small_table_gives_what_it_has() {
        let countries = quickstart_countries();
        let only = quickstart_tasks(&countries[..3], Split::HeldOut, 8, Seed(1));
        assert!(only.len() <= 8 && only.iter().all(|t| !t.answers.is_empty()));
        assert!(quickstart_tasks(&[], Split::Train, 8, Seed(1)).iter().all(|t| t.kind == "arithmetic"));
        assert!(quickstart_tasks(&countries, Split::Train, 0, Seed(1)).is_empty());
    }

    #[test]
    fn calculations_are_exact() {
        let table = [
            (Calculation::Sum(59_999, 1_000), "60999", " 59999 + 1000"),
            (Calculation::Difference(5, 5), "0", " 5 - 5"),
            (Calculation::Product(99_999, 99_999), "9999800001", " 99999 * 99999"),
            (Calculation::SumTimes(99_999, 99_999, 99_999), "19999600002", "( 99999 + 99999) * 99999"),
            (Calculation::Product(i64::MAX, i64::MAX), "85070591730234615847396907784232501249", ""),
        ];
        for (calculation, value, code) in table {
            assert_eq!(calculation.value().to_string(), value);
            assert!(code.is_empty() || calculation.code() == code);
        }
    }
}
