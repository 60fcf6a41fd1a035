//! Are two values equal? Exactly where both are rational; rational functions by their residues; else by balls that are
//! too small to leave a doubt.

use num_traits::Zero;

use super::exact::exact;
use super::residue::{PRIMES, residue};
use super::tree::Expr;
use super::value::{N_POINTS, Point, is_counting, value};
use super::work::Work;

/// Bits of the first and of the second attempt.
const PRECISIONS: [u64; 2] = [256, 1024];
/// Values are equal when their difference is proven to be below 2^−133, or 10^−40; at the second attempt, relative to the
/// larger of them. Distinct values that anybody writes down differ by more; nothing is equal only because it is near.
const EQUAL_BELOW: i64 = -133;
/// At how many points two expressions with symbols must have values, and the same.
const MIN_POINTS: u32 = 3;

/// What is known of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Proven.
    NotZero,
    /// Zero, or below 10^−40.
    Zero,
    /// No value, or the work has run out.
    Unknown,
}

/// Whether two scalar expressions have the same value, for every value of their symbols.
pub fn equal(a: &Expr, b: &Expr, work: &mut Work) -> bool {
    if let (Some(a), Some(b)) = (a.infinite(), b.infinite()) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (exact(a, work), exact(b, work)) {
        return a == b;
    }
    let whole = needs_whole_numbers(a) || needs_whole_numbers(b);
    if let Some(verdict) = by_residues(a, b, work) {
        return verdict;
    }
    let mut n_good = 0;
    for idx in 0..n_points(&[a, b]) {
        match difference(a, b, Point { idx, whole }, work) {
            Difference::NotZero => return false,
            Difference::Zero => n_good += 1,
            Difference::Unknown => {}
        }
    }
    n_good >= MIN_POINTS.min(n_points(&[a, b]))
}

/// The verdict on two rational expressions; nothing where one of them is none.
fn by_residues(a: &Expr, b: &Expr, work: &mut Work) -> Option<bool> {
    let mut n_good = 0;
    for idx in 0..N_POINTS {
        for prime in PRIMES {
            let at = Point { idx, whole: false };
            let (Some(a), Some(b)) = (residue(a, at, prime, work), residue(b, at, prime, work)) else {
                // Another kind of expression has no residue anywhere.
                if idx == 1 && n_good == 0 {
                    return None;
                }
                continue;
            };
            if a != b {
                return Some(false);
            }
            n_good += 1;
        }
    }
    (n_good >= 2 * MIN_POINTS).then_some(true)
}

/// One point where there are no symbols.
fn n_points(expressions: &[&Expr]) -> u32 {
    if expressions.iter().any(|e| e.any(&|e| matches!(e, Expr::Symbol(_)))) { N_POINTS } else { 1 }
}

fn needs_whole_numbers(expr: &Expr) -> bool {
    expr.any(&|e| match e {
        Expr::Apply(f, _) if is_counting(*f) => e.any(&|e| matches!(e, Expr::Symbol(_))),
        _ => false,
    })
}

/// The difference of two expressions at a point.
fn difference(a: &Expr, b: &Expr, at: Point, work: &mut Work) -> Difference {
    for precision in PRECISIONS {
        let (Some(a), Some(b)) = (value(a, at, precision, work), value(b, at, precision, work)) else {
            return Difference::Unknown;
        };
        let difference = a.minus(&b, precision);
        if !difference.contains_zero() {
            return Difference::NotZero;
        }
        let size = if precision == PRECISIONS[1] { a.log2_bound().max(b.log2_bound()).max(0) } else { 0 };
        if difference.log2_radius() <= EQUAL_BELOW.saturating_add(size) {
            return Difference::Zero;
        }
    }
    Difference::Unknown
}

/// The sign of the factor c with a = c·b for every value of the symbols, c ≠ 0; nothing where there is none.
///
/// Two equations "a = 0" and "b = 0" with such a factor have the same solutions, and so have two inequalities when it
/// is positive.
pub fn constant_factor(a: &Expr, b: &Expr, work: &mut Work) -> Option<i8> {
    let precision = PRECISIONS[0];
    let mut first = None;
    let mut n_good = 0;
    for idx in 0..N_POINTS {
        let at = Point { idx, whole: false };
        let (Some(a), Some(b)) = (value(a, at, precision, work), value(b, at, precision, work)) else { continue };
        if a.contains_zero() != b.contains_zero() {
            return None;
        }
        if a.contains_zero() {
            continue;
        }
        let Some((a0, b0)) = &first else {
            first = Some((a, b));
            continue;
        };
        // a/b = a₀/b₀ without a division.
        let (left, right) = (a.times(b0, precision), b.times(a0, precision));
        let difference = left.minus(&right, precision);
        let size = left.log2_bound().max(right.log2_bound());
        if !difference.contains_zero() || difference.log2_radius() > EQUAL_BELOW + size {
            return None;
        }
        n_good += 1;
    }
    if n_good + 1 < MIN_POINTS {
        return None;
    }
    let (a, b) = first?;
    let positive = a.as_real()?.sign()? == b.as_real()?.sign()?;
    Some(if positive { 1 } else { -1 })
}

/// The difference of two sides, as an expression.
pub fn subtracted(a: &Expr, b: &Expr) -> Expr {
    match b {
        Expr::Number(n) if n.is_zero() => a.clone(),
        _ => Expr::Sum(vec![a.clone(), b.clone().negated()]),
    }
}
