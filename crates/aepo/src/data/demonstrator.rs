//! How does a good but careless agent solve a question? Scripts with the right skills and, now and then, a bad choice.
//!
//! Every skill is shown as it should be; every *decision* (search or guess, which query, Python or the head, box or no
//! box) goes wrong with a set probability. What follows a wrong turn is consistent with it, so reinforcement learning
//! has decisions to mend and nothing else to learn.

use serde::{Deserialize, Serialize};

use super::countries::{Attribute, Country, Topic};
use super::demos::Role;
use super::dice::Dice;
use super::names::Namer;
use super::questions::{Calculation, Comparison, Question};
use super::world::article;
use crate::seed::Seed;

/// Probability of each bad choice, in [0, 1], each time the choice comes up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Carelessness {
    /// Answers a look-up question with a guess instead of searching.
    pub head_answer: f64,
    /// Searches without the name, or for what the other article states, and believes what comes back.
    pub wrong_query: f64,
    /// Calculates in the head, and gets it wrong, instead of running Python.
    pub head_math: f64,
    /// Makes a call that helps nothing before going on rightly.
    pub needless_call: f64,
    /// Forgets the box, or to close the thought, in the answer.
    pub bad_format: f64,
}

impl Default for Carelessness {
    fn default() -> Self {
        Carelessness { head_answer: 0.22, wrong_query: 0.2, head_math: 0.4, needless_call: 0.12, bad_format: 0.1 }
    }
}

/// A solved (or botched) question: what was written and what was read, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// From the prompt to the end of the answer; special tokens are written as tags.
    pub segments: Vec<(Role, String)>,
    /// Whether the answer is right and in the right form.
    pub right: bool,
}

/// Solves `question` about `world`, whose countries (at least one that is not asked about, for stray search results)
/// are all there is to find.
pub(crate) fn solve(
    dice: &mut Dice,
    care: &Carelessness,
    namer: &Namer,
    world: &[Country],
    question: &Question,
) -> Script {
    let words = question.words(world, dice);
    let truth = question.truth(world).unwrap_or_default();
    let mut pen = Pen {
        dice,
        care,
        namer,
        world,
        segments: vec![(Role::Context, format!("<|user|> {words}<|assistant|>"))],
        pages: Seed(0),
        answer: String::new(),
        well_formed: true,
    };
    pen.pages = Seed(pen.dice.below(usize::MAX) as u64);
    match *question {
        Question::OneHop(country, attribute) => pen.one_hop(country, attribute),
        Question::TwoHop(country, attribute) => pen.two_hop(country, attribute),
        Question::Compare(a, b, attribute, comparison) => pen.compare(a, b, attribute, comparison, &truth),
        Question::Arithmetic(calculation) => pen.arithmetic(calculation),
    }
    Script { right: pen.well_formed && pen.answer == truth, segments: pen.segments }
}

/// First thoughts: the decision stands in the first words.
const SEARCH: &str = " I will search.";
const KNOW: &str = " I know it.";
const COMPUTE: &str = " I will compute.";

struct Pen<'a> {
    dice: &'a mut Dice,
    care: &'a Carelessness,
    namer: &'a Namer,
    world: &'a [Country],
    segments: Vec<(Role, String)>,
    /// Fixes wording and order of the articles, so that a page read twice is the same.
    pages: Seed,
    answer: String,
    well_formed: bool,
}

impl Pen<'_> {
    fn one_hop(&mut self, country: usize, attribute: Attribute) {
        if self.dice.chance(self.care.head_answer) {
            let guess = self.namer.value(self.dice, attribute);
            return self.answer(Some(KNOW), &guess);
        }
        let (read, value) = self.look_up(SEARCH, country, attribute);
        let thought = thought(read, &value);
        if attribute.is_number() && self.dice.chance(self.care.needless_call / 2.0) {
            self.call_python(Some(&thought), &format!(" {value}"), &value);
            return self.answer(None, &value);
        }
        self.answer(Some(&thought), &value);
    }

    fn two_hop(&mut self, country: usize, attribute: Attribute) {
        if self.dice.chance(self.care.head_answer) {
            let guess = self.namer.value(self.dice, attribute);
            return self.answer(Some(KNOW), &guess);
        }
        let capital = self.world[country].fact(Attribute::Capital).unwrap_or_default().to_owned();
        let (query, found) = match self.stray(country, attribute) {
            Some(stray) if self.dice.chance(self.care.wrong_query) => (" capital".to_owned(), stray),
            _ => (format!(" capital {capital}"), country),
        };
        self.call_search(SEARCH, &query, found, Topic::Geography);
        let name = format!(" It is {}.", self.world[found].name);
        let (read, value) = self.look_up(&name, found, attribute);
        self.answer(Some(&thought(read, &value)), &value);
    }

    fn compare(&mut self, a: usize, b: usize, attribute: Attribute, comparison: Comparison, truth: &str) {
        let name = |c: usize| self.world[c].name.clone();
        let (name_a, name_b) = (name(a), name(b));
        if self.dice.chance(self.care.head_answer) {
            let guess = match comparison {
                Comparison::Larger => self.dice.pick(&[name_a, name_b]).clone(),
                Comparison::Minus | Comparison::Plus => self.wrong_digits(truth),
            };
            return self.answer(Some(KNOW), &guess);
        }
        let (read_a, x) = self.look_up(SEARCH, a, attribute);
        let (read_b, y) = self.look_up(&thought(read_a, &x), b, attribute);
        let last = thought(read_b, &y);
        let numbers: [i128; 2] = [&x, &y].map(|n| n.parse().unwrap_or(0));
        let in_the_head = self.dice.chance(self.care.head_math);
        match comparison {
            Comparison::Larger if in_the_head => {
                let guess = self.dice.pick(&[name_a, name_b]).clone();
                self.answer(Some(&last), &guess);
            }
            Comparison::Larger => {
                let first = numbers[0] > numbers[1];
                self.call_python(Some(&last), &format!(" {x} > {y}"), if first { "True" } else { "False" });
                self.answer(None, if first { &name_a } else { &name_b });
            }
            Comparison::Minus | Comparison::Plus => {
                let (sign, value) = match comparison {
                    Comparison::Plus => ('+', numbers[0] + numbers[1]),
                    _ => ('-', numbers[0] - numbers[1]),
                };
                let value = value.to_string();
                if in_the_head {
                    let guess = self.wrong_digits(&value);
                    return self.answer(Some(&last), &guess);
                }
                self.call_python(Some(&last), &format!(" {x} {sign} {y}"), &value);
                self.answer(None, &value);
            }
        }
    }

    fn arithmetic(&mut self, calculation: Calculation) {
        let value = calculation.value().to_string();
        if self.dice.chance(self.care.head_math) {
            let guess = self.wrong_digits(&value);
            return self.answer(Some(KNOW), &guess);
        }
        if self.dice.chance(self.care.needless_call) {
            let page = self.dice.below(self.world.len());
            let topic = *self.dice.pick(&[Topic::Geography, Topic::Society]);
            self.call_search(SEARCH, &calculation.code(), page, topic);
        }
        self.call_python(Some(COMPUTE), &calculation.code(), &value);
        self.answer(None, &value);
    }

    /// Searches for one fact and returns what the agent takes for it: the fact itself, or after a wrong query another
    /// one. An amount is only ever mistaken for an amount, since the agent will calculate with it.
    fn look_up(&mut self, lead: &str, country: usize, attribute: Attribute) -> (Attribute, String) {
        let name = self.world[country].name.clone();
        let mut lead = lead.to_owned();
        let elsewhere = self.known(country, attribute, attribute.topic().other());
        if !elsewhere.is_empty() && self.dice.chance(self.care.needless_call / 2.0) {
            let useless = *self.dice.pick(&elsewhere);
            self.call_search(&lead, &format!(" {name} {}", useless.words()), country, useless.topic());
            lead = " Not here.".to_owned();
        }
        let (query, found, read) = if self.dice.chance(self.care.wrong_query) {
            let stray = self.stray(country, attribute);
            match (stray, elsewhere.as_slice()) {
                (Some(stray), others) if others.is_empty() || self.dice.chance(0.5) => {
                    (format!(" {}", attribute.words()), stray, attribute)
                }
                (_, others) if !others.is_empty() => {
                    let read = *self.dice.pick(others);
                    (format!(" {name} {}", read.words()), country, read)
                }
                _ => (format!(" {name} {}", attribute.words()), country, attribute),
            }
        } else {
            (format!(" {name} {}", attribute.words()), country, attribute)
        };
        self.call_search(&lead, &query, found, read.topic());
        (read, self.world[found].fact(read).unwrap_or_default().to_owned())
    }

    /// Facts of `country` in the article on `topic` that may be mistaken for `attribute`.
    fn known(&self, country: usize, attribute: Attribute, topic: Topic) -> Vec<Attribute> {
        let country = &self.world[country];
        Attribute::ALL
            .into_iter()
            .filter(|a| a.topic() == topic && country.fact(*a).is_some())
            .filter(|a| !attribute.is_amount() || country.amount(*a).is_some())
            .collect()
    }

    /// Another country whose article states the attribute and whose capital is known.
    fn stray(&mut self, country: usize, attribute: Attribute) -> Option<usize> {
        let fits = |c: &Country| {
            let stated = c.fact(attribute).is_some() && (!attribute.is_amount() || c.amount(attribute).is_some());
            stated && c.fact(Attribute::Capital).is_some()
        };
        let others: Vec<usize> = (0..self.world.len()).filter(|i| *i != country && fits(&self.world[*i])).collect();
        (!others.is_empty()).then(|| *self.dice.pick(&others))
    }

    fn call_search(&mut self, think: &str, query: &str, found: usize, topic: Topic) {
        let page = article(&self.world[found], topic, self.pages.child(found as u64).child(topic as u64)).shown();
        self.write(format!("<think>{think}</think><search>{query}</search>"));
        self.segments.push((Role::Context, format!("<result>{page}</result>")));
    }

    fn call_python(&mut self, think: Option<&str>, expression: &str, printed: &str) {
        let think = think.map(|t| format!("<think>{t}</think>")).unwrap_or_default();
        self.write(format!("{think}<python>print({expression})</python>"));
        self.segments.push((Role::Context, format!("<result>{printed}</result>")));
    }

    fn answer(&mut self, think: Option<&str>, value: &str) {
        self.answer = value.to_owned();
        let bad_format = self.dice.chance(self.care.bad_format);
        let (mut close, mut boxed) = ("</think>", format!("\\boxed{{ {value}}}"));
        if bad_format {
            self.well_formed = false;
            if think.is_some() && self.dice.chance(0.5) {
                close = "";
            } else {
                boxed = format!(" {value}");
            }
        }
        let think = think.map(|t| format!("<think>{t}{close}")).unwrap_or_default();
        self.write(format!("{think}<answer>{boxed}</answer><|end|>"));
    }

    fn write(&mut self, text: String) {
        self.segments.push((Role::Written, text));
    }

    /// `number` with at least one other digit; as many digits as before.
    fn wrong_digits(&mut self, number: &str) -> String {
        let mut digits: Vec<u8> = number.bytes().collect();
        let n_kept = digits.len().min(2);
        for digit in &mut digits[n_kept..] {
            *digit = b'0' + self.dice.below(10) as u8;
        }
        if digits == number.as_bytes()
            && let Some(last) = digits.last_mut()
        {
            *last = b'0' + (last.wrapping_sub(b'0') + 1 + self.dice.below(9) as u8) % 10;
        }
        digits.into_iter().map(char::from).collect()
    }
}

/// " Its area is 2381740."
fn thought(attribute: Attribute, value: &str) -> String {
    format!(" Its {} is {value}.", attribute.words())
}
