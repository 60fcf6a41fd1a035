//! What might a country be called that nobody has heard of? Invented names and facts, spread wide over the vocabulary.
//!
//! A small model copies only names whose token pieces it has copied before, so the pieces must come from everywhere:
//! names that sound like real ones, syllables, plain letters, and pieces of the vocabulary itself.

use std::collections::BTreeMap;

use super::countries::{Attribute, Country};
use super::dice::Dice;

/// Makes up names and facts.
#[derive(Clone, Debug)]
pub struct Namer {
    /// Letters that follow each pair of letters in the names it learned from; '^' begins a word, '$' ends it.
    chain: BTreeMap<[char; 2], Vec<char>>,
    /// Texts of ordinary tokens made of letters, perhaps with a space before them. May be empty.
    pieces: Vec<String>,
}

const ONSETS: [&str; 34] = [
    "b", "bl", "br", "c", "ch", "d", "dr", "f", "g", "gr", "h", "j", "k", "kh", "kr", "l", "m", "n", "ng", "p", "pr",
    "qu", "r", "s", "sh", "st", "t", "th", "tr", "v", "w", "y", "z", "",
];
const VOWELS: [&str; 22] =
    ["a", "a", "a", "e", "e", "i", "i", "o", "o", "u", "ai", "au", "ei", "ia", "ou", "é", "á", "í", "ó", "ü", "ã", "ô"];
const CODAS: [&str; 16] = ["", "", "", "", "n", "r", "s", "l", "m", "t", "k", "nd", "rg", "st", "x", "ch"];
const PREFIXES: [&str; 14] =
    ["South", "North", "New", "West", "East", "Saint", "San", "Santa", "Port", "El", "La", "Central", "Upper", "Great"];
const SUFFIXES: [&str; 8] = ["Islands", "City", "Republic", "Island", "Town", "Coast", "Kingdom", "States"];
const MONEY: [&str; 16] = [
    "dollars",
    "francs",
    "pounds",
    "pesos",
    "dinars",
    "rupees",
    "shillings",
    "rials",
    "kroner",
    "dirhams",
    "euros",
    "lei",
    "won",
    "manats",
    "liras",
    "kwachas",
];

impl Namer {
    /// Learns from the names and capitals of `countries`.
    #[must_use]
    pub fn new(countries: &[Country], pieces: Vec<String>) -> Namer {
        let mut chain: BTreeMap<[char; 2], Vec<char>> = BTreeMap::new();
        let names = countries.iter().flat_map(|c| [Some(c.name.as_str()), c.fact(Attribute::Capital)]).flatten();
        for word in names.flat_map(|name| name.split(|c: char| !c.is_alphabetic())).filter(|w| !w.is_empty()) {
            let mut pair = ['^', '^'];
            for letter in word.chars().flat_map(char::to_lowercase).chain(['$']) {
                chain.entry(pair).or_default().push(letter);
                pair = [pair[1], letter];
            }
        }
        Namer { chain, pieces }
    }

    /// A name of one to three words, mostly one.
    pub(crate) fn name(&self, dice: &mut Dice) -> String {
        let word = |dice: &mut Dice| capitalised(&self.word(dice));
        match dice.weighted(&[0.66, 0.14, 0.07, 0.04, 0.04, 0.02, 0.03]) {
            0 => word(dice),
            1 => format!("{} {}", word(dice), word(dice)),
            2 => format!("{} {}", dice.pick(&PREFIXES), word(dice)),
            3 => format!("{} {}", word(dice), dice.pick(&SUFFIXES)),
            4 => format!("{}-{}", word(dice), word(dice)),
            5 => format!("{}'{}", word(dice), word(dice)),
            _ => format!("{} and {}", word(dice), word(dice)),
        }
    }

    /// One word in lower case, except where it is a piece of the vocabulary with a capital.
    pub(crate) fn word(&self, dice: &mut Dice) -> String {
        match dice.weighted(&[0.34, 0.18, 0.14, if self.pieces.is_empty() { 0.0 } else { 0.34 }]) {
            0 => self.markov(dice),
            1 => (0..dice.between(1, 3))
                .map(|_| format!("{}{}{}", dice.pick(&ONSETS), dice.pick(&VOWELS), dice.pick(&CODAS)))
                .collect(),
            2 => (0..dice.between(3, 8)).map(|_| char::from(b'a' + dice.below(26) as u8)).collect(),
            _ => self.piece_word(dice),
        }
    }

    /// One to three pieces of the vocabulary run together.
    fn piece_word(&self, dice: &mut Dice) -> String {
        let n_pieces = dice.between(1, 3);
        let word: String = (0..n_pieces).map(|_| dice.pick(&self.pieces).trim()).collect();
        if word.chars().count() < 2 { self.markov(dice) } else { word }
    }

    fn markov(&self, dice: &mut Dice) -> String {
        let mut word = String::new();
        let mut pair = ['^', '^'];
        for n_letters in 0..12 {
            // Some letters are drawn blindly, so that combinations no real name has come up as well.
            let followers = self.chain.get(&pair);
            let letter = match followers {
                Some(letters) if !dice.chance(0.06) => *dice.pick(letters),
                _ => char::from(b'a' + dice.below(26) as u8),
            };
            if letter == '$' {
                if n_letters >= 3 {
                    break;
                }
                continue;
            }
            word.push(letter);
            pair = [pair[1], letter];
        }
        word
    }

    /// A run of `n_tokens` random pieces, words and digits behind a space, ending in a letter or a digit.
    pub(crate) fn span(&self, dice: &mut Dice, n_tokens: usize) -> String {
        let mut text = String::new();
        for _ in 0..n_tokens {
            match dice.weighted(&[if self.pieces.is_empty() { 0.0 } else { 0.8 }, 0.1, 0.1]) {
                0 => text.push_str(dice.pick::<String>(&self.pieces)),
                1 => text.push_str(&format!(" {}", dice.number(1))),
                _ => text.push_str(&format!(" {}", self.markov(dice))),
            }
        }
        format!(" {}", text.trim())
    }

    /// A made-up value of `attribute`, with as many digits as real ones have.
    pub(crate) fn value(&self, dice: &mut Dice, attribute: Attribute) -> String {
        let digits = |dice: &mut Dice, low, high| {
            let n_digits = dice.between(low, high) as u32;
            dice.number(n_digits).to_string()
        };
        match attribute {
            Attribute::Capital => self.name(dice),
            Attribute::Area => digits(dice, 3, 7),
            Attribute::HighestPoint => digits(dice, 2, 4),
            Attribute::Coastline if dice.chance(0.1) => "0".to_owned(),
            Attribute::Coastline => digits(dice, 2, 5),
            Attribute::Population => digits(dice, 5, 9),
            Attribute::MedianAge if dice.chance(0.1) => dice.between(15, 55).to_string(),
            Attribute::MedianAge => format!("{}.{}", dice.between(15, 55), dice.between(0, 9)),
            Attribute::Currency if dice.chance(0.4) => self.word(dice),
            Attribute::Currency if dice.chance(0.2) => format!("{} {}", self.name(dice), self.word(dice)),
            Attribute::Currency => format!("{} {}", capitalised(&self.word(dice)), dice.pick(&MONEY)),
            Attribute::InternetCode => {
                let letter = |dice: &mut Dice| char::from(b'a' + dice.below(26) as u8);
                format!(".{}{}", letter(dice), letter(dice))
            }
            Attribute::Independence => dice.between(1800, 2015).to_string(),
        }
    }

    /// A made-up country; a few of its facts are unknown.
    pub(crate) fn country(&self, dice: &mut Dice) -> Country {
        let facts =
            Attribute::ALL.map(|attribute| if dice.chance(0.07) { None } else { Some(self.value(dice, attribute)) });
        Country { name: self.name(dice), facts }
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::countries::tests::quickstart_countries;
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn names_are_many_and_clean() {
        let namer = Namer::new(&quickstart_countries(), vec![" Al".into(), "gi".into(), "ers".into()]);
        let mut dice = Dice::new(Seed(3));
        let mut names: Vec<String> = (0..2000).map(|_| namer.name(&mut dice)).collect();
        for name in &names {
            assert!(!name.is_empty() && name.trim() == name && !name.contains("  "), "{name:?}");
            assert!(name.chars().all(|c| c.is_alphabetic() || " -'".contains(c)), "{name:?}");
            assert!(name.chars().next_back().is_some_and(char::is_alphabetic), "{name:?}");
        }
        names.sort();
        names.dedup();
        assert!(names.len() > 1400, "{}", names.len());
    }

    #[test]
    fn values_parse_as_what_they_are() {
        let namer = Namer::new(&quickstart_countries(), Vec::new());
        let mut dice = Dice::new(Seed(4));
        for attribute in Attribute::ALL {
            for _ in 0..200 {
                let value = namer.value(&mut dice, attribute);
                assert_eq!(attribute.is_number(), value.parse::<f64>().is_ok(), "{value}");
                assert!(!attribute.is_amount() || value.parse::<i64>().is_ok(), "{value}");
            }
        }
    }
}
