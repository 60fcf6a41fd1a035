//! What are the smallest parts of an expression? Numbers, symbols, fractions, and what commands stand for.

use num_bigint::BigInt;

use super::lex::Token;
use super::parse::Parser;
use super::tree::{End, Expr, Function};
use super::{brackets, calls, digits, names, units};

/// One atom.
pub fn atom(p: &mut Parser) -> Option<Expr> {
    match p.peek()?.clone() {
        Token::Digits(_) => number(p),
        Token::Based(text, base) => {
            p.at += 1;
            let value = BigInt::parse_bytes(text.as_bytes(), base)?;
            Some(Expr::Based { value, as_decimal: BigInt::parse_bytes(text.as_bytes(), 10), base })
        }
        Token::Word(word) => self::word(p, &word),
        Token::Name(name) => {
            p.at += 1;
            symbol(p, &name)
        }
        Token::Text(words) => {
            p.at += 1;
            // Words among values are a name, such as that of the unknown.
            Some(Expr::Symbol(super::words::folded(&words)))
        }
        Token::Function(function) => {
            p.at += 1;
            p.deeper(|p| calls::call(p, function))
        }
        Token::Command(name) => {
            p.at += 1;
            p.deeper(|p| command(p, name))
        }
        Token::Begin(name) => {
            p.at += 1;
            p.deeper(|p| brackets::matrix(p, &name))
        }
        Token::Sign(sign) => {
            p.at += 1;
            p.deeper(|p| brackets::bracket(p, sign))
        }
        Token::End | Token::NextRow => None,
    }
}

/// A written number, with the period of a repeating decimal behind it.
pub fn number(p: &mut Parser) -> Option<Expr> {
    let Some(Token::Digits(text)) = p.peek().cloned() else { return None };
    p.at += 1;
    if text.contains('.') && p.peek() == Some(&Token::Command("overline")) {
        p.at += 1;
        let in_braces = p.eat('{');
        let Some(Token::Digits(period)) = p.peek().cloned() else { return None };
        p.at += 1;
        if in_braces {
            p.expect('}')?;
        }
        return digits::repeating(&text, &period).map(Expr::Number);
    }
    digits::value(&text).map(Expr::Number)
}

/// A word of plain text: a function's or a letter's name, or letters that are multiplied.
fn word(p: &mut Parser, word: &str) -> Option<Expr> {
    if let Some(meaning) = names::plain(word) {
        p.tokens[p.at].token = meaning;
        return p.deeper(atom);
    }
    if word.len() >= 4 && !units::is_run(word) {
        p.at += 1;
        return subscripted(p, word);
    }
    let (first, rest) = word.split_at(1);
    if rest.is_empty() {
        p.at += 1;
    } else {
        p.tokens[p.at].token = Token::Word(rest.to_owned());
        p.tokens[p.at].spaced = false;
        return Some(constant(first).unwrap_or_else(|| Expr::Symbol(first.to_owned())));
    }
    symbol(p, first)
}

/// A letter: a constant, or a name that may go on with primes and a subscript.
fn symbol(p: &mut Parser, name: &str) -> Option<Expr> {
    if !matches!(p.peek_sign(), Some('_' | '\''))
        && let Some(constant) = constant(name)
    {
        return Some(constant);
    }
    subscripted(p, name)
}

fn constant(name: &str) -> Option<Expr> {
    match name {
        "pi" => Some(Expr::Pi),
        "e" => Some(Expr::Euler),
        "i" => Some(Expr::Imaginary),
        _ => None,
    }
}

fn subscripted(p: &mut Parser, name: &str) -> Option<Expr> {
    let mut name = name.to_owned();
    while p.eat('\'') {
        name.push('\'');
    }
    if p.eat('_') {
        let in_braces = p.eat('{');
        name.push('_');
        loop {
            match p.peek()? {
                Token::Digits(text) | Token::Word(text) | Token::Name(text) | Token::Text(text) => name.push_str(text),
                Token::Sign(c @ ('+' | '-' | ',')) if in_braces => name.push(*c),
                _ => return None,
            }
            p.at += 1;
            if !in_braces {
                break;
            }
            if p.eat('}') {
                break;
            }
        }
    }
    Some(Expr::Symbol(name))
}

/// One argument of a command: a group, or a single sign. Of several digits TeX takes the first.
pub fn argument(p: &mut Parser) -> Option<Expr> {
    match p.peek()?.clone() {
        Token::Sign('{') => {
            p.at += 1;
            p.deeper(brackets::group)
        }
        Token::Digits(text) if text.len() > 1 => {
            let first = text.get(..1).filter(|d| *d != ".")?;
            p.tokens[p.at].token = Token::Digits(text[1..].to_owned());
            p.tokens[p.at].spaced = false;
            digits::value(first).map(Expr::Number)
        }
        Token::Word(word) if word.len() > 1 => {
            let (first, rest) = word.split_at(1);
            p.tokens[p.at].token = Token::Word(rest.to_owned());
            p.tokens[p.at].spaced = false;
            Some(constant(first).unwrap_or_else(|| Expr::Symbol(first.to_owned())))
        }
        _ => p.deeper(atom),
    }
}

/// `\frac` behind its name.
pub fn fraction(p: &mut Parser) -> Option<Expr> {
    let over = argument(p)?;
    let under = argument(p)?;
    match (&over, &under) {
        (Expr::Number(a), Expr::Number(b)) if *b.numer() != BigInt::ZERO => Some(Expr::Number(a / b)),
        _ => Some(over.times(under.reciprocal())),
    }
}

fn command(p: &mut Parser, name: &str) -> Option<Expr> {
    match name {
        "frac" => fraction(p),
        "infty" => Some(Expr::Infinity),
        "emptyset" => Some(Expr::Set(Vec::new())),
        "reals" => Some(reals()),
        "binom" => Some(Expr::Apply(Function::Binomial, vec![argument(p)?, argument(p)?])),
        "sqrt" => calls::root(p),
        "log" | "lg" | "exp" => calls::logarithm(p, name),
        "boxed" => argument(p),
        "letter" => match argument(p)? {
            Expr::Symbol(name) => Some(Expr::Symbol(name)),
            other => other.is_scalar().then_some(other),
        },
        "mathbb" => match argument(p)? {
            Expr::Symbol(name) if name == "R" => Some(reals()),
            Expr::Symbol(name) => Some(Expr::Symbol(format!("mathbb {name}"))),
            _ => None,
        },
        "overline" => match argument(p)? {
            Expr::Symbol(name) => Some(Expr::Symbol(format!("overline {name}"))),
            Expr::Product(factors) if factors.iter().all(|f| matches!(f, Expr::Symbol(_))) => {
                let names = factors.iter().map(|f| if let Expr::Symbol(name) = f { name.as_str() } else { "" });
                Some(Expr::Symbol(format!("overline {}", names.collect::<Vec<_>>().join(" "))))
            }
            _ => None,
        },
        _ => None,
    }
}

fn reals() -> Expr {
    let end = |at: Expr| Box::new(End { at, closed: false });
    Expr::Interval(end(Expr::Infinity.negated()), end(Expr::Infinity))
}
