//! Are two answers equal? Lists, tuples, sets, intervals, matrices, relations, units and words, member by member.

use num_traits::Zero;

use super::exact::exact;
use super::relations;
use super::scalar;
use super::tree::{End, Expr};
use super::work::Work;

/// More members than an unordered comparison is tried for.
const MAX_UNORDERED: usize = 64;

/// Whether two answers are equal, in whatever form; the order of both does not matter.
pub fn same(a: &Expr, b: &Expr, work: &mut Work) -> bool {
    if work.spend(1).is_none() {
        return false;
    }
    if a == b {
        return true;
    }
    match (a, b) {
        (Expr::Related { .. }, _) | (_, Expr::Related { .. }) => relations::same(a, b, work),
        (Expr::Text(words), other) | (other, Expr::Text(words)) => match other {
            Expr::Symbol(name) => name.to_lowercase() == *words,
            _ => false,
        },
        (Expr::Measure(x, unit), Expr::Measure(y, other)) => unit == other && same(x, y, work),
        (Expr::Measure(x, unit), y) | (y, Expr::Measure(x, unit)) => without_unit(x, unit, y, work),
        (Expr::Based { value, base, .. }, Expr::Based { value: other, base: other_base, .. }) => {
            value == other && base == other_base
        }
        (Expr::Based { as_decimal: Some(n), .. }, other) | (other, Expr::Based { as_decimal: Some(n), .. }) => {
            same(&Expr::Number(n.clone().into()), other, work)
        }
        (Expr::Based { .. }, _) | (_, Expr::Based { .. }) => false,
        (Expr::List(x), Expr::List(y)) => unordered(x, y, work),
        (Expr::Set(x), Expr::Set(y)) => {
            let (x, y) = (distinct(x, work), distinct(y, work));
            unordered(&x, &y, work)
        }
        (Expr::Set(x), Expr::List(y)) | (Expr::List(y), Expr::Set(x)) => {
            let y = distinct(y, work);
            let x = distinct(x, work);
            unordered(&x, &y, work)
        }
        (Expr::Set(x), y) | (y, Expr::Set(x)) if x.len() == 1 => same(&x[0], y, work),
        (Expr::Tuple(x), Expr::Tuple(y)) => in_order(x, y, work),
        // "x = 1 or x = 2" is two values of one unknown, and no point.
        (Expr::Tuple(x), Expr::List(y)) | (Expr::List(y), Expr::Tuple(x)) => {
            !relations::one_name(y) && in_order(x, y, work)
        }
        (Expr::Interval(low, high), Expr::Interval(other_low, other_high)) => {
            end(low, other_low, work) && end(high, other_high, work)
        }
        (Expr::Tuple(ends), Expr::Interval(low, high)) | (Expr::Interval(low, high), Expr::Tuple(ends)) => {
            // `(0, 1)` is an open interval too.
            let open = !low.closed && !high.closed && ends.len() == 2;
            open && same(&ends[0], &low.at, work) && same(&ends[1], &high.at, work)
        }
        (Expr::Union(x), Expr::Union(y)) => {
            let (x, y) = (members_of_union(x), members_of_union(y));
            unordered(&x, &y, work)
        }
        (Expr::Union(_), Expr::List(sets)) | (Expr::List(sets), Expr::Union(_)) => {
            let union = if matches!(a, Expr::Union(_)) { a } else { b };
            relations::alternatives(sets).is_some_and(|sets| same(&Expr::Union(sets), union, work))
        }
        (Expr::Union(x), set) | (set, Expr::Union(x)) => {
            let joined = members_of_union(x);
            matches!(joined.as_slice(), [one] if same(one, set, work))
        }
        (Expr::Matrix(x), Expr::Matrix(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| in_order(x, y, work)),
        (Expr::Matrix(rows), other) | (other, Expr::Matrix(rows)) => matrix_as_tuple(rows, other, work),
        (a, b) if a.is_scalar() && b.is_scalar() => scalar::equal(a, b, work),
        _ => false,
    }
}

/// A value with a unit against a value without one: the unit was left out. 50 % is 1/2 as well, and 180° is π.
///
/// A percent sign is left out of numbers from 1 on only: 0.5 is 50 %, and nobody writes it for 0.5 %.
fn without_unit(x: &Expr, unit: &str, y: &Expr, work: &mut Work) -> bool {
    let is_below_1 =
        |x: &Expr, work: &mut Work| exact(x, work).is_some_and(|n| n.numer().magnitude() < n.denom().magnitude());
    if same(x, y, work) {
        return unit != "%" || !is_below_1(x, work) || exact(x, work).is_some_and(|n| n.is_zero());
    }
    let has_value = matches!(unit, "%" | "°") && x.is_scalar() && y.is_scalar();
    has_value && scalar::equal(&Expr::Measure(Box::new(x.clone()), unit.to_owned()), y, work)
}

fn end(a: &End, b: &End, work: &mut Work) -> bool {
    a.closed == b.closed && same(&a.at, &b.at, work)
}

fn in_order(x: &[Expr], y: &[Expr], work: &mut Work) -> bool {
    x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y, work))
}

/// Whether each member of one has a partner of its own in the other. Members that name different unknowns keep their
/// order: `a = 1, b = 2` is not `2, 1`.
fn unordered(x: &[Expr], y: &[Expr], work: &mut Work) -> bool {
    if x.len() != y.len() {
        return false;
    }
    if in_order(x, y, work) {
        return true;
    }
    let named = |members: &[Expr]| relations::different_names(members);
    if x.len() > MAX_UNORDERED || named(x) != named(y) {
        return false;
    }
    let mut free: Vec<&Expr> = y.iter().collect();
    x.iter().all(|x| match free.iter().position(|y| same(x, y, work)) {
        Some(idx) => {
            free.swap_remove(idx);
            true
        }
        None => false,
    })
}

/// Without repetitions.
fn distinct(members: &[Expr], work: &mut Work) -> Vec<Expr> {
    let mut out: Vec<Expr> = Vec::new();
    for member in members {
        if out.len() >= MAX_UNORDERED || !out.iter().any(|known| same(known, member, work)) {
            out.push(member.clone());
        }
    }
    out
}

/// With finite sets joined into one, and open pairs as intervals.
fn members_of_union(sets: &[Expr]) -> Vec<Expr> {
    let mut out = Vec::new();
    let mut finite = Vec::new();
    for set in sets {
        match set {
            Expr::Set(members) => finite.extend(members.iter().cloned()),
            other => out.push(other.clone()),
        }
    }
    if !finite.is_empty() {
        out.push(Expr::Set(finite));
    }
    out
}

/// A vector against a tuple, or rows of brackets, as programs print them.
fn matrix_as_tuple(rows: &[Vec<Expr>], other: &Expr, work: &mut Work) -> bool {
    let members = |e: &Expr| -> Option<Vec<Expr>> {
        match e {
            Expr::Tuple(members) => Some(members.clone()),
            Expr::Interval(low, high) if low.closed && high.closed => Some(vec![low.at.clone(), high.at.clone()]),
            _ => None,
        }
    };
    let Some(outer) = members(other) else { return false };
    let vector: Vec<Expr> = match rows {
        [row] => row.clone(),
        rows if rows[0].len() == 1 => rows.iter().map(|row| row[0].clone()).collect(),
        _ => Vec::new(),
    };
    if !vector.is_empty() && in_order(&vector, &outer, work) {
        return true;
    }
    outer.len() == rows.len()
        && rows.iter().zip(&outer).all(|(row, inner)| members(inner).is_some_and(|inner| in_order(row, &inner, work)))
}
