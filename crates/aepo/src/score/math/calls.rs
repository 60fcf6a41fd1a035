//! Which arguments does a function have? Roots, logarithms, and functions with and without brackets.

use super::lex::Token;
use super::parse::Parser;
use super::terms;
use super::tree::{Expr, Function};
use super::{atoms, tree};

/// `\sqrt` behind its name: a degree in square brackets, and the radicand. `sqrt(x)` of plain text too.
pub fn root(p: &mut Parser) -> Option<Expr> {
    let mut degree = Expr::integer(2);
    if p.eat('[') {
        degree = terms::sum(p)?;
        p.expect(']')?;
    }
    let radicand = atoms::argument(p)?;
    Some(Expr::Root(Box::new(degree), Box::new(radicand)))
}

/// `\log`, with base 10 where none is written, `\lg` and `\exp`, behind the name.
pub fn logarithm(p: &mut Parser, name: &str) -> Option<Expr> {
    let base = match name {
        "log" if p.eat('_') => atoms::argument(p)?,
        "exp" => Expr::Euler,
        _ => Expr::integer(10),
    };
    let power = exponent(p)?;
    let mut arguments = arguments(p)?;
    let first = arguments.remove(0);
    let value = match (name, arguments.pop()) {
        ("exp", None) => Expr::Power(Box::new(Expr::Euler), Box::new(first)),
        ("exp", Some(_)) => return None,
        // `log(8, 2)` of a program.
        (_, second) => {
            let base = second.unwrap_or(base);
            let ln = |x| Expr::Apply(Function::Ln, vec![x]);
            ln(first).times(ln(base).reciprocal())
        }
    };
    Some(raised(value, power))
}

/// A function behind its name: `\sin x`, `\sin(x)`, `\sin^2 x`, `\sin^{-1} x` (the inverse), `max(a, b)`.
pub fn call(p: &mut Parser, function: Function) -> Option<Expr> {
    let mut power = exponent(p)?;
    let mut function = function;
    if power.as_ref().is_some_and(|e| *e == Expr::integer(-1)) {
        function = match function {
            Function::Sin => Function::Arcsin,
            Function::Cos => Function::Arccos,
            Function::Tan => Function::Arctan,
            _ => return None,
        };
        power = None;
    }
    let arguments = arguments(p)?;
    let fits = match function {
        Function::Binomial => arguments.len() == 2,
        Function::Max | Function::Min | Function::Gcd | Function::Lcm => true,
        _ => arguments.len() == 1,
    };
    fits.then(|| raised(Expr::Apply(function, arguments), power))
}

/// The exponent between a function's name and its argument.
fn exponent(p: &mut Parser) -> Option<Option<Expr>> {
    if p.eat('^') { atoms::argument(p).map(Some) } else { Some(None) }
}

fn raised(value: Expr, power: Option<Expr>) -> Expr {
    match power {
        Some(power) => Expr::Power(Box::new(value), Box::new(power)),
        None => value,
    }
}

/// What stands in brackets behind a function; without brackets the factors up to the next function or sign.
fn arguments(p: &mut Parser) -> Option<Vec<Expr>> {
    if p.eat('(') {
        let members = p.members()?;
        p.expect(')')?;
        return Some(members);
    }
    if p.peek_sign() == Some('{') {
        return match atoms::argument(p)? {
            tree::Expr::Set(members) => Some(members),
            one => Some(vec![one]),
        };
    }
    let mut value = terms::power(p)?;
    while matches!(p.peek(), Some(Token::Word(_) | Token::Name(_) | Token::Command("frac" | "sqrt"))) && !is_function(p)
    {
        if let (Some(Token::Word(word)), true) = (p.peek(), p.spaced())
            && word.len() > 1
        {
            break;
        }
        let factor = terms::power(p)?;
        value = value.times(factor);
    }
    Some(vec![value])
}

fn is_function(p: &Parser) -> bool {
    match p.peek() {
        Some(Token::Word(word)) => matches!(super::names::plain(word), Some(Token::Function(_) | Token::Command(_))),
        _ => false,
    }
}
