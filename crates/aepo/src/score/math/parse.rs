//! Which expression does a text mean? The outer grammar: lists, relations, unions, units. `terms` reads what is inside.

use super::lex::{Lexed, Token, lex};
use super::tree::{Expr, Relation};
use super::{terms, units};

/// Deeper brackets than an answer has; reading them is bounded by it, and so is the stack of whatever walks the tree.
const MAX_DEPTH: usize = 40;

/// How a text is read where it can be read in two ways.
#[derive(Clone, Copy)]
pub struct Manner {
    /// `1,234` is a number, not two.
    pub group: bool,
    /// `5 m` has a unit, not two factors.
    pub units: bool,
}

/// A reading, and whether another manner would give another one.
pub struct Reading {
    pub expr: Expr,
    /// A comma was taken for a separator of thousands.
    pub grouped: bool,
    /// A single letter was taken for a unit.
    pub letter_unit: bool,
}

/// Reads a whole text, or nothing where it is no expression of this grammar.
pub fn read(text: &str, manner: Manner) -> Option<Reading> {
    let tokens = lex(text, manner.group)?;
    let mut parser = Parser { tokens: tokens.list, at: 0, depth: 0, bars: 0, manner, letter_unit: false };
    let expr = parser.statement()?;
    if parser.at < parser.tokens.len() {
        return None;
    }
    Some(Reading { expr: expr.spread(), grouped: tokens.grouped, letter_unit: parser.letter_unit })
}

/// Where reading has come to.
pub struct Parser {
    pub tokens: Vec<Lexed>,
    pub at: usize,
    depth: usize,
    /// Open bars of absolute values.
    pub bars: usize,
    pub manner: Manner,
    letter_unit: bool,
}

impl Parser {
    pub fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.token)
    }

    pub fn peek_sign(&self) -> Option<char> {
        match self.peek() {
            Some(Token::Sign(c)) => Some(*c),
            _ => None,
        }
    }

    pub fn spaced(&self) -> bool {
        self.tokens.get(self.at).is_some_and(|t| t.spaced)
    }

    /// Goes past `sign` if it is next.
    pub fn eat(&mut self, sign: char) -> bool {
        let is_next = self.peek_sign() == Some(sign);
        self.at += usize::from(is_next);
        is_next
    }

    pub fn expect(&mut self, sign: char) -> Option<()> {
        self.eat(sign).then_some(())
    }

    /// Runs `read` one bracket deeper, with no bar open there.
    pub fn deeper<T>(&mut self, read: impl FnOnce(&mut Parser) -> Option<T>) -> Option<T> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let bars = std::mem::take(&mut self.bars);
        let result = read(self);
        self.bars = bars;
        self.depth -= 1;
        result
    }

    /// Members separated by commas, semicolons, "and" or "or"; one member is itself.
    pub fn statement(&mut self) -> Option<Expr> {
        let mut members = self.members()?;
        Some(if members.len() == 1 { members.remove(0) } else { Expr::List(members) })
    }

    /// One member or more.
    pub fn members(&mut self) -> Option<Vec<Expr>> {
        let mut members = vec![self.member()?];
        loop {
            let mut n_separators = 0;
            while self.separator() {
                n_separators += 1;
            }
            match n_separators {
                0 => return Some(members),
                // `, and`
                1 | 2 => members.push(self.member()?),
                _ => return None,
            }
        }
    }

    fn separator(&mut self) -> bool {
        let separates = match self.peek() {
            Some(Token::Sign(',' | ';')) => true,
            Some(Token::Word(word)) => matches!(word.as_str(), "and" | "or"),
            Some(Token::Text(word)) => matches!(word.trim(), "and" | "or"),
            _ => false,
        };
        self.at += usize::from(separates);
        separates
    }

    /// One side, or several with signs of relation between them.
    fn member(&mut self) -> Option<Expr> {
        let mut sides = vec![self.union()?];
        let mut signs = Vec::new();
        while let Some(sign) = self.relation() {
            self.at += 1;
            signs.push(sign);
            sides.push(self.union()?);
        }
        // What is only nearly equal is another way to say it, and not the answer.
        while self.eat('≈') {
            self.union()?;
        }
        Some(if signs.is_empty() { sides.remove(0) } else { Expr::Related { sides, signs } })
    }

    fn relation(&self) -> Option<Relation> {
        Some(match self.peek_sign()? {
            '=' => Relation::Equal,
            '≠' => Relation::NotEqual,
            '<' => Relation::Less,
            '≤' => Relation::LessOrEqual,
            '>' => Relation::Greater,
            '≥' => Relation::GreaterOrEqual,
            '∈' => Relation::In,
            _ => return None,
        })
    }

    fn union(&mut self) -> Option<Expr> {
        let mut sets = vec![self.measure()?];
        while self.eat('∪') || self.eat_letter_for_union() {
            sets.push(self.measure()?);
        }
        Some(if sets.len() == 1 { sets.remove(0) } else { Expr::Union(sets) })
    }

    /// Goes past the letter in `(0, 9) U (9, 36)`, which stands for the sign.
    fn eat_letter_for_union(&mut self) -> bool {
        let sign = |idx: usize| match self.tokens.get(idx).map(|t| &t.token) {
            Some(Token::Sign(c)) => *c,
            _ => ' ',
        };
        let between =
            self.at > 0 && matches!(sign(self.at - 1), ')' | ']' | '}') && matches!(sign(self.at + 1), '(' | '[' | '{');
        let is_next = between && matches!(self.peek(), Some(Token::Word(letter)) if letter == "U");
        self.at += usize::from(is_next);
        is_next
    }

    /// A sum, and the unit behind it.
    fn measure(&mut self) -> Option<Expr> {
        if let Some(words) = self.lone_words() {
            return Some(words);
        }
        let mut value = terms::sum(self)?;
        let mut words: Vec<(String, Option<String>)> = Vec::new();
        loop {
            let word = match self.peek() {
                Some(Token::Text(word)) if !matches!(word.trim(), "and" | "or") => word.clone(),
                Some(Token::Word(word)) if self.manner.units && !matches!(word.as_str(), "and" | "or") => word.clone(),
                Some(Token::Sign('/')) if !words.is_empty() => "/".to_owned(),
                _ => break,
            };
            // Inches, but not "5 in total".
            if word == "in" && words.is_empty() && !self.ends_after_word() {
                return None;
            }
            if let Some(power) = units::multiplier(&word).filter(|_| words.is_empty()) {
                self.at += 1;
                value = value.times(Expr::integer(10_i64.pow(power)));
                continue;
            }
            if units::changes_value(&word, words.is_empty()) {
                return None;
            }
            self.letter_unit |= word.len() == 1 && matches!(self.peek(), Some(Token::Word(_)));
            self.at += 1;
            words.push((word, self.power_of_unit()?));
        }
        if words.is_empty() {
            return Some(value);
        }
        let unit = units::spelling(&words);
        match value {
            Expr::Measure(value, inner) if inner == unit || unit.is_empty() => Some(Expr::Measure(value, inner)),
            // 5° Celsius.
            Expr::Measure(value, inner) if inner == "°" => Some(Expr::Measure(value, format!("° {unit}"))),
            Expr::Measure(..) => None,
            // An angle in radians is a number.
            value if unit.is_empty() || unit == "rad" => Some(value),
            value => Some(Expr::Measure(Box::new(value), unit)),
        }
    }

    fn ends_after_word(&self) -> bool {
        matches!(self.tokens.get(self.at + 1).map(|t| &t.token), None | Some(Token::Sign('^' | ',' | ';')))
    }

    /// `^2` or `^{2}` behind a unit.
    fn power_of_unit(&mut self) -> Option<Option<String>> {
        if !self.eat('^') {
            return Some(None);
        }
        let in_braces = self.eat('{');
        let negative = self.eat('-');
        let Some(Token::Digits(digits)) = self.peek() else { return None };
        let power = if negative { format!("-{digits}") } else { digits.clone() };
        self.at += 1;
        if in_braces {
            self.expect('}')?;
        }
        Some(Some(power))
    }

    /// Words that are a member by themselves: `\text{even}`, or `no solution`.
    fn lone_words(&mut self) -> Option<Expr> {
        let start = self.at;
        let mut words = Vec::new();
        let mut is_text = false;
        loop {
            match self.peek() {
                Some(Token::Text(word)) if !matches!(word.trim(), "and" | "or") => {
                    is_text = true;
                    words.push(word.clone());
                }
                Some(Token::Word(word)) if !matches!(word.as_str(), "and" | "or") => {
                    is_text |= super::words::is_word(word);
                    words.push(word.clone());
                }
                _ => break,
            }
            self.at += 1;
        }
        // A name in front of a relation is a symbol, like any other.
        let ends = matches!(self.peek(), None | Some(Token::Sign(',' | ';' | ')' | ']' | '}' | '»')));
        if is_text && ends {
            return Some(Expr::Text(super::words::folded(&words.join(" "))));
        }
        self.at = start;
        None
    }
}
