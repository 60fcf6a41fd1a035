//! Which value does an expression mean? The inner grammar: sums, products, powers; `atoms` reads what they consist of.

use num_traits::{One, Signed};

use super::lex::Token;
use super::parse::Parser;
use super::tree::Expr;
use super::{atoms, units};

/// Summands with their signs.
pub fn sum(p: &mut Parser) -> Option<Expr> {
    let mut summands = vec![signed(p, product)?];
    while let Some(sign @ ('+' | '-' | '±' | '∓')) = p.peek_sign() {
        p.at += 1;
        let next = signed(p, product)?;
        summands.push(with_sign(sign, next));
    }
    Some(if summands.len() == 1 { summands.remove(0) } else { Expr::Sum(summands) })
}

/// At most one sign in front: `--5` is no number that anybody means.
pub fn signed(p: &mut Parser, read: fn(&mut Parser) -> Option<Expr>) -> Option<Expr> {
    match p.peek_sign() {
        Some(sign @ ('+' | '-' | '±' | '∓')) => {
            p.at += 1;
            Some(with_sign(sign, read(p)?))
        }
        _ => read(p),
    }
}

fn with_sign(sign: char, x: Expr) -> Expr {
    match sign {
        '-' => x.negated(),
        '±' => Expr::EitherSign(true, Box::new(x)),
        '∓' => Expr::EitherSign(false, Box::new(x)),
        _ => x,
    }
}

/// Factors, with and without signs between them; a unit behind them is left to the caller.
fn product(p: &mut Parser) -> Option<Expr> {
    let mut value = power(p)?;
    loop {
        match p.peek_sign() {
            Some('*') => {
                p.at += 1;
                let factor = signed(p, power)?;
                value = value.times(factor);
            }
            Some('/') => {
                p.at += 1;
                let divisor = signed(p, power)?;
                value = value.times(divisor.reciprocal());
            }
            _ => {
                if is_times(p) {
                    p.at += 1;
                    let factor = power(p)?;
                    value = value.times(factor);
                } else if let Some(mixed) = mixed(p, &value) {
                    value = suffix(p, mixed)?;
                } else if starts_factor(p) {
                    let factor = power(p)?;
                    value = value.times(factor);
                } else {
                    return Some(value);
                }
            }
        }
    }
}

/// The letter of `3 x 10^5`, which stands for a sign.
fn is_times(p: &Parser) -> bool {
    let token = |n: usize| p.tokens.get(p.at + n).map(|t| &t.token);
    matches!(token(0), Some(Token::Word(w)) if w == "x" || w == "X")
        && matches!(token(1), Some(Token::Digits(d)) if d == "10")
        && matches!(token(2), Some(Token::Sign('^')))
}

/// `2\frac{1}{2}` and `2 1/2`: a whole number in front of a proper fraction of whole numbers.
fn mixed(p: &mut Parser, whole: &Expr) -> Option<Expr> {
    let Expr::Number(whole) = whole else { return None };
    let before = p.at.checked_sub(1).map(|idx| &p.tokens[idx].token)?;
    if !whole.is_integer() || whole.is_negative() || !matches!(before, Token::Digits(d) if !d.contains(['.', 'e', 'E']))
    {
        return None;
    }
    let start = p.at;
    let fraction = match p.peek()? {
        Token::Command("frac") => {
            p.at += 1;
            atoms::fraction(p)
        }
        Token::Digits(_) if p.spaced() => plain_fraction(p),
        _ => None,
    };
    match fraction {
        Some(Expr::Number(part)) if part.is_positive() && part < num_rational::BigRational::one() => {
            Some(Expr::Number(whole + part))
        }
        _ => {
            p.at = start;
            None
        }
    }
}

/// `1/2`, of whole numbers.
fn plain_fraction(p: &mut Parser) -> Option<Expr> {
    let over = atoms::number(p)?;
    p.expect('/')?;
    match (over, atoms::number(p)?) {
        (Expr::Number(a), Expr::Number(b)) if a.is_integer() && b.is_integer() && b.is_positive() => {
            Some(Expr::Number(a / b))
        }
        _ => None,
    }
}

/// Whether the next token begins a factor that stands without a sign behind another one.
fn starts_factor(p: &Parser) -> bool {
    match p.peek() {
        Some(Token::Word(word)) => {
            let is_unit = p.manner.units && super::names::plain(word).is_none() && units::is_unit(word, p.spaced());
            !is_unit && !matches!(word.as_str(), "and" | "or" | "U") || word == "U" && !p.spaced()
        }
        Some(Token::Name(_) | Token::Function(_)) => true,
        Some(Token::Command(name)) => *name != "emptyset" && *name != "reals" && *name != "mathbb",
        // `3!2` and `(3)2`; other digits behind a value are a slip.
        Some(Token::Digits(_)) => {
            let before = p.at.checked_sub(1).map(|idx| &p.tokens[idx].token);
            matches!(before, Some(Token::Sign('!' | ')'))) && !p.spaced()
        }
        Some(Token::Sign(sign)) => match sign {
            '(' | '{' | '√' | '⌊' | '⌈' => true,
            '|' => p.bars == 0,
            _ => false,
        },
        _ => false,
    }
}

/// An atom with what stands behind it: `!`, `%`, `°`, an exponent.
pub fn power(p: &mut Parser) -> Option<Expr> {
    let mut base = atoms::atom(p)?;
    if p.eat('!') {
        // A double factorial is another function.
        if p.peek_sign() == Some('!') {
            return None;
        }
        base = Expr::Apply(super::tree::Function::Factorial, vec![base]);
    }
    base = suffix(p, base)?;
    if p.peek_sign() != Some('^') {
        return Some(base);
    }
    p.at += 1;
    if let Some(degrees) = degrees(p, &base) {
        return Some(degrees);
    }
    let exponent = p.deeper(|p| signed(p, power))?;
    let raised = Expr::Power(Box::new(base), Box::new(exponent));
    suffix(p, raised)
}

/// `%` or `°` behind a value.
fn suffix(p: &mut Parser, value: Expr) -> Option<Expr> {
    let unit = match p.peek_sign() {
        Some('%') => "%",
        Some('°') => "°",
        _ => return Some(value),
    };
    p.at += 1;
    if matches!(value, Expr::Measure(..)) {
        return None;
    }
    Some(Expr::Measure(Box::new(value), unit.to_owned()))
}

/// `^\circ` and `^{\circ}`, behind the `^`.
fn degrees(p: &mut Parser, base: &Expr) -> Option<Expr> {
    let start = p.at;
    let in_braces = p.eat('{');
    if p.eat('°') && (!in_braces || p.eat('}')) {
        return Some(Expr::Measure(Box::new(base.clone()), "°".to_owned()));
    }
    p.at = start;
    None
}
