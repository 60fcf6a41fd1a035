//! Do two relations say the same? Equations up to a factor, inequalities as sets of numbers, "x = 5" and "5".

use super::scalar;
use super::shapes;
use super::tree::{End, Expr, Relation};
use super::work::Work;

/// Whether two answers are equal of which at least one is a relation.
pub fn same(a: &Expr, b: &Expr, work: &mut Work) -> bool {
    match (a, b) {
        (Expr::Related { .. }, Expr::Related { .. }) => both(a, b, work),
        (related @ Expr::Related { .. }, other) | (other, related @ Expr::Related { .. }) => {
            meant(related).is_some_and(|meant| shapes::same(&meant, other, work))
        }
        _ => false,
    }
}

/// What a relation gives its unknown: 5 for "x = 5", [0, 1) for "0 ≤ x < 1" and for "x ∈ [0, 1)".
fn meant(related: &Expr) -> Option<Expr> {
    let Expr::Related { sides, signs } = related else { return None };
    match (sides.as_slice(), signs.as_slice()) {
        // "x = x + 1" gives its unknown nothing.
        ([name, value], [Relation::Equal]) if is_name(name) && !value.any(&|e| e == name) => Some(value.clone()),
        ([value, name], [Relation::Equal]) if is_name(name) && !has_symbol(value) => Some(value.clone()),
        ([name, set], [Relation::In]) if is_name(name) => Some(set.clone()),
        // x = 2/4 = 1/2
        ([name, .., value], signs)
            if sides.len() > 2 && is_name(name) && signs.iter().all(|s| *s == Relation::Equal) =>
        {
            Some(value.clone())
        }
        _ => interval(related),
    }
}

/// The name of what is sought: `x`, `f(x)`, `(x, y)`, or words.
fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Symbol(_) | Expr::Text(_) => true,
        Expr::Product(parts) => {
            let letters: Vec<&str> = parts
                .iter()
                .map_while(|p| if let Expr::Symbol(name) = p { Some(name.as_str()) } else { None })
                .collect();
            let is_call = matches!(letters.as_slice(), [f, _] if FUNCTION_LETTERS.contains(f));
            // `AB` and `ABC` are a segment and an angle or a triangle.
            let are_points = letters.iter().all(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
            letters.len() == parts.len() && (is_call || are_points)
        }
        Expr::Tuple(parts) => parts.iter().all(is_name),
        _ => false,
    }
}

/// What functions are called whose argument is one letter.
const FUNCTION_LETTERS: [&str; 9] = ["f", "g", "h", "p", "q", "F", "G", "P", "Q"];

fn has_symbol(expr: &Expr) -> bool {
    expr.any(&|e| matches!(e, Expr::Symbol(_)))
}

/// The numbers for which an ordering of one symbol by constants holds.
fn interval(related: &Expr) -> Option<Expr> {
    let Expr::Related { sides, signs } = related else { return None };
    let closed = |sign: Relation| matches!(sign, Relation::LessOrEqual | Relation::GreaterOrEqual);
    let make = |low: (Expr, bool), high: (Expr, bool)| {
        let end = |(at, closed)| Box::new(End { at, closed });
        Some(Expr::Interval(end(low), end(high)))
    };
    let rises = |sign: Relation| matches!(sign, Relation::Less | Relation::LessOrEqual);
    if !signs.iter().all(|s| s.is_order()) {
        return None;
    }
    match (sides.as_slice(), signs.as_slice()) {
        ([Expr::Symbol(_), bound], [sign]) if !has_symbol(bound) => half(bound, *sign, &make),
        ([bound, Expr::Symbol(_)], [sign]) if !has_symbol(bound) => half(bound, sign.swapped(), &make),
        ([low, Expr::Symbol(_), high], [first, second])
            if rises(*first) == rises(*second) && !has_symbol(low) && !has_symbol(high) =>
        {
            let (low, high) = ((low.clone(), closed(*first)), (high.clone(), closed(*second)));
            if rises(*first) { make(low, high) } else { make(high, low) }
        }
        _ => None,
    }
}

/// "symbol `sign` bound" as an interval.
fn half(bound: &Expr, sign: Relation, make: &impl Fn((Expr, bool), (Expr, bool)) -> Option<Expr>) -> Option<Expr> {
    let bound = bound.clone();
    match sign {
        Relation::Less => make((Expr::Infinity.negated(), false), (bound, false)),
        Relation::LessOrEqual => make((Expr::Infinity.negated(), false), (bound, true)),
        Relation::Greater => make((bound, false), (Expr::Infinity, false)),
        Relation::GreaterOrEqual => make((bound, true), (Expr::Infinity, false)),
        Relation::Equal | Relation::NotEqual | Relation::In => None,
    }
}

/// The one symbol of a relation that has no other.
fn unknown(related: &Expr) -> Option<&str> {
    let Expr::Related { sides, .. } = related else { return None };
    sides.iter().find_map(|side| if let Expr::Symbol(name) = side { Some(name.as_str()) } else { None })
}

fn both(a: &Expr, b: &Expr, work: &mut Work) -> bool {
    let (Expr::Related { sides: x, signs }, Expr::Related { sides: y, signs: other }) = (a, b) else { return false };
    // Side by side, or with the sides of one swapped.
    let turned = |signs: &[Relation]| signs.iter().rev().map(|s| s.swapped()).collect::<Vec<_>>();
    let backwards: Vec<&Expr> = y.iter().rev().collect();
    if signs == other && x.len() == y.len() && x.iter().zip(y).all(|(x, y)| shapes::same(x, y, work)) {
        return true;
    }
    if !signs.contains(&Relation::In)
        && *signs == turned(other)
        && x.iter().zip(&backwards).all(|(x, y)| shapes::same(x, y, work))
    {
        return true;
    }
    // The same set of numbers for the same unknown.
    if let (Some(p), Some(q)) = (unknown(a), unknown(b))
        && p == q
        && let (Some(p), Some(q)) = (set(a), set(b))
    {
        return shapes::same(&p, &q, work);
    }
    let ([x0, x1], [y0, y1], [sign], [other]) = (x.as_slice(), y.as_slice(), signs.as_slice(), other.as_slice()) else {
        return false;
    };
    if ![x0, x1, y0, y1].iter().all(|side| side.is_scalar()) {
        return false;
    }
    let (x, y) = (scalar::subtracted(x0, x1), scalar::subtracted(y0, y1));
    match (sign, other) {
        (Relation::Equal, Relation::Equal) | (Relation::NotEqual, Relation::NotEqual) => {
            scalar::constant_factor(&x, &y, work).is_some()
        }
        (Relation::In, _) | (_, Relation::In) => false,
        (sign, other) if sign == other => scalar::constant_factor(&x, &y, work) == Some(1),
        (sign, other) if *sign == other.swapped() => scalar::constant_factor(&x, &y, work) == Some(-1),
        _ => false,
    }
}

/// The set of numbers that an ordering or a membership names.
fn set(related: &Expr) -> Option<Expr> {
    let Expr::Related { signs, .. } = related else { return None };
    if signs.contains(&Relation::In) { meant(related) } else { interval(related) }
}

/// The sets that "x < 1 or x > 2" and "(−∞, 1) or (2, ∞)" join; nothing where a member is no such set.
pub fn alternatives(members: &[Expr]) -> Option<Vec<Expr>> {
    let is_unbounded = |ends: &[Expr]| ends.len() == 2 && ends.iter().any(|e| e.infinite().is_some());
    let one = |member: &Expr| match member {
        Expr::Related { .. } => set(member),
        Expr::Interval(..) => Some(member.clone()),
        Expr::Tuple(ends) if is_unbounded(ends) => Some(member.clone()),
        _ => None,
    };
    members.iter().map(one).collect()
}

/// Whether two members of a list, or more, are values of one unknown.
pub fn one_name(members: &[Expr]) -> bool {
    members.iter().filter_map(unknown).count() > 1 && !different_names(members)
}

/// Whether members of a list are values of different unknowns.
pub fn different_names(members: &[Expr]) -> bool {
    let mut names = members.iter().filter_map(unknown);
    let Some(first) = names.next() else { return false };
    names.any(|name| name != first)
}
