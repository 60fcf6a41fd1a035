//! What do brackets hold? Groups, sets, tuples, intervals, absolute values, prices, matrices.

use super::atoms::atom;
use super::lex::Token;
use super::parse::Parser;
use super::terms;
use super::tree::{End, Expr, Function};

/// What a bracket opens, behind it.
pub fn bracket(p: &mut Parser, sign: char) -> Option<Expr> {
    let currency = |p: &mut Parser, unit: &str| match terms::signed(p, terms::power)? {
        Expr::Measure(..) => None,
        value => Some(Expr::Measure(Box::new(value), unit.to_owned())),
    };
    match sign {
        '{' => group(p),
        '«' => {
            if p.eat('»') {
                return Some(Expr::Set(Vec::new()));
            }
            if let Some(condition) = set_builder(p, '»') {
                return condition;
            }
            let members = p.members()?;
            p.expect('»')?;
            Some(Expr::Set(members))
        }
        '(' | '[' => round_or_square(p, sign == '['),
        '|' => {
            p.bars = 1;
            let inside = terms::sum(p)?;
            p.expect('|')?;
            Some(Expr::Apply(Function::Abs, vec![inside]))
        }
        '⌊' | '⌈' => {
            let inside = terms::sum(p)?;
            let (close, function) = if sign == '⌊' { ('⌋', Function::Floor) } else { ('⌉', Function::Ceiling) };
            p.expect(close)?;
            Some(Expr::Apply(function, vec![inside]))
        }
        '√' => Some(Expr::Root(Box::new(Expr::integer(2)), Box::new(atom(p)?))),
        '$' | '€' | '£' | '¥' => currency(p, &sign.to_string()),
        _ => None,
    }
}

/// A value in brackets, a tuple, or an interval.
fn round_or_square(p: &mut Parser, opens_closed: bool) -> Option<Expr> {
    let mut members = p.members()?;
    let ends_closed = match p.peek_sign()? {
        ')' => false,
        ']' => true,
        _ => return None,
    };
    p.at += 1;
    match (members.len(), opens_closed || ends_closed) {
        (1, _) => (opens_closed == ends_closed).then(|| members.remove(0)),
        (2, true) if !members.iter().any(|m| matches!(m, Expr::Interval(..) | Expr::Tuple(_))) => {
            let high = members.pop()?;
            let low = members.pop()?;
            let end = |at, closed| Box::new(End { at, closed });
            Some(Expr::Interval(end(low, opens_closed), end(high, ends_closed)))
        }
        _ => (opens_closed == ends_closed).then_some(Expr::Tuple(members)),
    }
}

/// `\begin{pmatrix} … \end{pmatrix}` behind its name.
pub fn matrix(p: &mut Parser, name: &str) -> Option<Expr> {
    if !matches!(name, "pmatrix" | "bmatrix" | "matrix" | "array" | "Bmatrix" | "smallmatrix") {
        return None;
    }
    let mut rows = vec![Vec::new()];
    loop {
        if p.peek() == Some(&Token::End) {
            break;
        }
        let entry = terms::sum(p)?;
        rows.last_mut()?.push(entry);
        match p.peek()? {
            Token::Sign('&') => p.at += 1,
            Token::NextRow => {
                p.at += 1;
                if p.peek() != Some(&Token::End) {
                    rows.push(Vec::new());
                }
            }
            Token::End => {}
            _ => return None,
        }
    }
    p.at += 1;
    let width = rows[0].len();
    (width > 0 && rows.iter().all(|row| row.len() == width)).then_some(Expr::Matrix(rows))
}

/// What stands in braces, up to the closing one.
pub fn group(p: &mut Parser) -> Option<Expr> {
    if let Some(condition) = set_builder(p, '}') {
        return condition;
    }
    let inside = p.statement()?;
    p.expect('}')?;
    Some(match inside {
        // Braces around several members were meant for a set.
        Expr::List(members) => Expr::Set(members),
        other => other,
    })
}

/// `x \mid x > 3` in braces: what the condition says of x. The outer nothing stands for another text.
fn set_builder(p: &mut Parser, close: char) -> Option<Option<Expr>> {
    let token = |n: usize| p.tokens.get(p.at + n).map(|t| &t.token);
    let is_one =
        matches!(token(0), Some(Token::Word(_) | Token::Name(_))) && matches!(token(1), Some(Token::Sign('|' | ':')));
    is_one.then(|| {
        p.at += 2;
        let condition = p.statement()?;
        p.expect(close)?;
        matches!(condition, Expr::Related { .. }).then_some(condition)
    })
}
