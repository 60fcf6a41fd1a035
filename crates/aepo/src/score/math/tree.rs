//! What can an answer be? The expression tree that texts are read into and comparisons work on.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// A function of one or more arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Sinh,
    Cosh,
    Tanh,
    Ln,
    Abs,
    Floor,
    Ceiling,
    Factorial,
    Binomial,
    Max,
    Min,
    Gcd,
    Lcm,
}

/// How two sides of a relation are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Relation {
    /// The same statement with the sides swapped; membership has no such form and stays.
    pub fn swapped(self) -> Relation {
        match self {
            Relation::Less => Relation::Greater,
            Relation::LessOrEqual => Relation::GreaterOrEqual,
            Relation::Greater => Relation::Less,
            Relation::GreaterOrEqual => Relation::LessOrEqual,
            same => same,
        }
    }

    /// Whether it orders its sides.
    pub fn is_order(self) -> bool {
        !matches!(self, Relation::Equal | Relation::NotEqual | Relation::In)
    }
}

/// One end of an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Where it ends; may be infinite.
    pub at: Expr,
    /// Whether the end belongs to the interval.
    pub closed: bool,
}

/// An answer, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// An exact number; decimals are exact too.
    Number(BigRational),
    /// A number in a written base. The base is part of such an answer: 17 in base 8 is not the answer 15.
    Based {
        /// The digits' value.
        value: BigInt,
        /// The value the digits would have in base 10; `None` where letters are among them.
        as_decimal: Option<BigInt>,
        /// The base.
        base: u32,
    },
    /// π, or e.
    Pi,
    /// Euler's number.
    Euler,
    /// The imaginary unit.
    Imaginary,
    /// Positive infinity.
    Infinity,
    /// A variable or any other name.
    Symbol(String),
    /// Words, case-folded and with single spaces.
    Text(String),
    /// Two or more summands.
    Sum(Vec<Expr>),
    /// Two or more factors; a quotient is a product with a power of −1.
    Product(Vec<Expr>),
    /// Base and exponent.
    Power(Box<Expr>, Box<Expr>),
    /// Degree and radicand. Odd roots of negative numbers are real, unlike powers.
    Root(Box<Expr>, Box<Expr>),
    /// A function and its arguments.
    Apply(Function, Vec<Expr>),
    /// +x or −x; `true` for the upper sign first (±), `false` for ∓.
    EitherSign(bool, Box<Expr>),
    /// A value with a unit in its canonical spelling; `%`, `°` and `$` are units too.
    Measure(Box<Expr>, String),
    /// Separated by commas, "and" or "or", without brackets: an order may be meant or not.
    List(Vec<Expr>),
    /// In an order.
    Tuple(Vec<Expr>),
    /// Without an order.
    Set(Vec<Expr>),
    /// From the first end to the second.
    Interval(Box<End>, Box<End>),
    /// Two or more sets.
    Union(Vec<Expr>),
    /// Rows of equal length.
    Matrix(Vec<Vec<Expr>>),
    /// `sides.len() == signs.len() + 1`.
    Related { sides: Vec<Expr>, signs: Vec<Relation> },
}

impl Expr {
    /// A small whole number.
    pub fn integer(n: i64) -> Expr {
        Expr::Number(BigRational::from_integer(BigInt::from(n)))
    }

    /// The reciprocal; nothing is computed but for a written number.
    pub fn reciprocal(self) -> Expr {
        match self {
            Expr::Number(n) if !n.is_zero() => Expr::Number(n.recip()),
            other => Expr::Power(Box::new(other), Box::new(Expr::integer(-1))),
        }
    }

    /// The product of two, kept flat.
    pub fn times(self, factor: Expr) -> Expr {
        match (self, factor) {
            (Expr::Number(one), factor) if one.is_one() => factor,
            (Expr::Product(mut factors), factor) => {
                factors.push(factor);
                Expr::Product(factors)
            }
            (first, second) => Expr::Product(vec![first, second]),
        }
    }

    /// The opposite. The sign goes inside a unit, so that −$5 is −5 with a unit.
    pub fn negated(self) -> Expr {
        match self {
            Expr::Number(n) => Expr::Number(-n),
            Expr::Measure(value, unit) => Expr::Measure(Box::new(value.negated()), unit),
            Expr::EitherSign(upper, x) => Expr::EitherSign(!upper, x),
            Expr::Product(mut factors) => {
                factors.insert(0, Expr::integer(-1));
                Expr::Product(factors)
            }
            other => Expr::Product(vec![Expr::integer(-1), other]),
        }
    }

    /// The parts, in writing order.
    pub fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Number(_)
            | Expr::Based { .. }
            | Expr::Pi
            | Expr::Euler
            | Expr::Imaginary
            | Expr::Infinity
            | Expr::Symbol(_)
            | Expr::Text(_) => Vec::new(),
            Expr::Sum(parts)
            | Expr::Product(parts)
            | Expr::Apply(_, parts)
            | Expr::List(parts)
            | Expr::Tuple(parts)
            | Expr::Set(parts)
            | Expr::Union(parts)
            | Expr::Related { sides: parts, .. } => parts.iter().collect(),
            Expr::Power(a, b) | Expr::Root(a, b) => vec![a, b],
            Expr::EitherSign(_, x) | Expr::Measure(x, _) => vec![x],
            Expr::Interval(low, high) => vec![&low.at, &high.at],
            Expr::Matrix(rows) => rows.iter().flatten().collect(),
        }
    }

    /// Whether `test` holds for it or for any part.
    pub fn any(&self, test: &impl Fn(&Expr) -> bool) -> bool {
        test(self) || self.parts().into_iter().any(|part| part.any(test))
    }

    /// Whether it is one value: what sums, products and functions are made of.
    pub fn is_scalar(&self) -> bool {
        !self.any(&|e| {
            matches!(
                e,
                Expr::Text(_)
                    | Expr::List(_)
                    | Expr::Tuple(_)
                    | Expr::Set(_)
                    | Expr::Interval(..)
                    | Expr::Union(_)
                    | Expr::Matrix(_)
                    | Expr::Related { .. }
            )
        })
    }

    /// +1 or −1 for an infinite value.
    pub fn infinite(&self) -> Option<i8> {
        match self {
            Expr::Infinity => Some(1),
            Expr::Product(factors) => match factors.as_slice() {
                [Expr::Number(n), Expr::Infinity] if !n.is_zero() => Some(if n.is_negative() { -1 } else { 1 }),
                _ => None,
            },
            _ => None,
        }
    }

    /// With every ± decided: the upper signs or the lower ones.
    pub fn decided(&self, upper: bool) -> Expr {
        let all = |parts: &[Expr]| parts.iter().map(|p| p.decided(upper)).collect::<Vec<_>>();
        let one = |x: &Expr| Box::new(x.decided(upper));
        match self {
            Expr::EitherSign(plus_first, x) => {
                if *plus_first == upper {
                    x.decided(upper)
                } else {
                    x.decided(upper).negated()
                }
            }
            Expr::Sum(parts) => Expr::Sum(all(parts)),
            Expr::Product(parts) => Expr::Product(all(parts)),
            Expr::Apply(function, parts) => Expr::Apply(*function, all(parts)),
            Expr::List(parts) => Expr::List(all(parts)),
            Expr::Tuple(parts) => Expr::Tuple(all(parts)),
            Expr::Set(parts) => Expr::Set(all(parts)),
            Expr::Union(parts) => Expr::Union(all(parts)),
            Expr::Related { sides, signs } => Expr::Related { sides: all(sides), signs: signs.clone() },
            Expr::Power(a, b) => Expr::Power(one(a), one(b)),
            Expr::Root(a, b) => Expr::Root(one(a), one(b)),
            Expr::Measure(x, unit) => Expr::Measure(one(x), unit.clone()),
            Expr::Interval(low, high) => {
                let end = |e: &End| Box::new(End { at: e.at.decided(upper), closed: e.closed });
                Expr::Interval(end(low), end(high))
            }
            Expr::Matrix(rows) => Expr::Matrix(rows.iter().map(|row| all(row)).collect()),
            leaf => leaf.clone(),
        }
    }

    /// With every value under a ± replaced by its two values: a list of two, or two members of the list around it.
    pub fn spread(self) -> Expr {
        let has = |e: &Expr| e.any(&|e| matches!(e, Expr::EitherSign(..)));
        if !has(&self) {
            return self;
        }
        let both = |e: Expr| if has(&e) { vec![e.decided(true), e.decided(false)] } else { vec![e] };
        match self {
            Expr::List(parts) => Expr::List(parts.into_iter().flat_map(both).collect()),
            Expr::Set(parts) => Expr::Set(parts.into_iter().flat_map(both).collect()),
            other => Expr::List(both(other)),
        }
    }
}
