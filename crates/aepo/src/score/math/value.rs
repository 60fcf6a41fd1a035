//! Which value has an expression at a point? Complex balls, with symbols replaced by sample numbers.

use num_bigint::{BigInt, Sign};
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

use super::ball::Ball;
use super::complex::Complex;
use super::exact;
use super::functions;
use super::tree::{Expr, Function};
use super::work::Work;

/// A point: which number each symbol stands for.
#[derive(Clone, Copy)]
pub struct Point {
    /// The number of the point; each has other values for all symbols.
    pub idx: u32,
    /// Only small positive whole numbers, for expressions with factorials and the like.
    pub whole: bool,
}

/// How many points there are.
pub const N_POINTS: u32 = 8;

impl Point {
    /// The value of a symbol here; the same for the same name.
    pub fn value(self, name: &str) -> BigRational {
        // FNV-1a over the name and the point, then the finaliser of splitmix64.
        let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ u64::from(self.idx);
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        let draw = |from: u64, to: u64| (from + (hash >> 8) % (to - from)) as i64;
        if self.whole {
            return BigRational::from_integer(BigInt::from(draw(2, 24)));
        }
        // In 1024ths: between 1 and 4, within the unit interval, of either sign, and large.
        let n = match self.idx % 4 {
            0 => draw(1100, 4096),
            1 => draw(64, 960),
            2 => draw(300, 4000) * if hash & 1 == 0 { 1 } else { -1 },
            _ => draw(10_000, 90_000) * if hash & 1 == 0 { 1 } else { -1 },
        };
        BigRational::new(BigInt::from(n), BigInt::from(1024))
    }
}

/// Costs in units of [`Work`], for the lower precision.
const SERIES: u64 = 40;

/// The value of an expression at a point, to `precision` bits where nothing cancels; nothing where it has none there,
/// or none that these balls can tell.
pub fn value(expr: &Expr, at: Point, precision: u64, work: &mut Work) -> Option<Complex> {
    let cost = (precision / 256).max(1);
    work.spend(cost)?;
    let p = precision;
    match expr {
        Expr::Number(n) => Some(Complex::rational(n, p)),
        Expr::Based { value, .. } => Some(Complex::rational(&BigRational::from_integer(value.clone()), p)),
        Expr::Pi => Some(Complex::real(functions::pi_ball(p))),
        Expr::Euler => functions::exp(&Ball::integer(1), p).map(Complex::real),
        Expr::Imaginary => Some(Complex { re: Ball::integer(0), im: Ball::integer(1) }),
        Expr::Symbol(name) => Some(Complex::rational(&at.value(name), p)),
        Expr::Sum(parts) => {
            let mut sum = Complex::real(Ball::integer(0));
            for part in parts {
                sum = sum.plus(&value(part, at, p, work)?, p);
            }
            Some(sum)
        }
        Expr::Product(parts) => {
            let mut product = Complex::real(Ball::integer(1));
            for part in parts {
                product = product.times(&value(part, at, p, work)?, p);
            }
            Some(product)
        }
        Expr::Power(base, exponent) => {
            if **base == Expr::Euler {
                work.spend(SERIES * cost)?;
                return value(exponent, at, p, work)?.exp(p);
            }
            let base = value(base, at, p, work)?;
            if let Some(exponent) = exact::exact(exponent, work) {
                return rational_power(&base, &exponent, p, work);
            }
            let exponent = value(exponent, at, p + 32, work)?;
            work.spend(4 * SERIES * cost * cost)?;
            base.raised(&exponent, p)
        }
        Expr::Root(degree, radicand) => {
            let degree = exact::exact(degree, work)?;
            let radicand = value(radicand, at, p, work)?;
            let odd = degree.is_integer() && degree.to_integer().bit(0);
            match radicand.as_real() {
                Some(real) if odd && real.sign() == Some(Sign::Minus) => {
                    Some(rational_power(&radicand.negated(), &degree.recip(), p, work)?.negated())
                }
                _ if degree.is_positive() => rational_power(&radicand, &degree.recip(), p, work),
                _ => None,
            }
        }
        Expr::Measure(x, unit) => {
            let x = value(x, at, p, work)?;
            match unit.as_str() {
                "%" => Some(x.times(&Complex::rational(&BigRational::new(1.into(), 100.into()), p), p)),
                "°" => Some(x.times(&Complex::real(functions::pi_ball(p)), p))
                    .map(|x| x.times(&Complex::rational(&BigRational::new(1.into(), 180.into()), p), p)),
                _ => None,
            }
        }
        Expr::Apply(function, arguments) => {
            let values = arguments.iter().map(|x| value(x, at, p, work)).collect::<Option<Vec<_>>>()?;
            work.spend(3 * SERIES * cost * cost)?;
            apply(*function, &values, p).or_else(|| counting(*function, arguments, at, p, work))
        }
        _ => None,
    }
}

fn rational_power(base: &Complex, exponent: &BigRational, p: u64, work: &mut Work) -> Option<Complex> {
    if exponent.is_integer() {
        let n = exponent.to_integer().to_i64()?;
        work.spend(2 * (64 - u64::from(n.unsigned_abs().leading_zeros())))?;
        return base.power(n, p);
    }
    if *exponent.denom() == BigInt::from(2) {
        work.spend(4)?;
        return base.square_root(p)?.power(exponent.numer().to_i64()?, p);
    }
    work.spend(4 * SERIES * (p / 256).max(1).pow(2))?;
    base.raised(&Complex::rational(exponent, p + 32), p)
}

fn apply(function: Function, values: &[Complex], p: u64) -> Option<Complex> {
    let first = values.first()?;
    if function == Function::Ln {
        return first.ln(p);
    }
    if function == Function::Abs {
        return first.abs(p).map(Complex::real);
    }
    let x = first.as_real()?;
    let one = Ball::integer(1);
    let quotient = |a: &Ball, b: &Ball| a.divided(b, p);
    let circular = || functions::cos_sin(x, p);
    let hyperbolic = || {
        let (up, down) = (functions::exp(x, p)?, functions::exp(&x.negated(), p)?);
        Some((up.plus(&down, p).scaled(-1), up.minus(&down, p).scaled(-1)))
    };
    let result = match function {
        Function::Sin => circular()?.1,
        Function::Cos => circular()?.0,
        Function::Tan => circular().and_then(|(cos, sin)| quotient(&sin, &cos))?,
        Function::Cot => circular().and_then(|(cos, sin)| quotient(&cos, &sin))?,
        Function::Sec => quotient(&one, &circular()?.0)?,
        Function::Csc => quotient(&one, &circular()?.1)?,
        Function::Sinh => hyperbolic()?.1,
        Function::Cosh => hyperbolic()?.0,
        Function::Tanh => hyperbolic().and_then(|(cosh, sinh)| quotient(&sinh, &cosh))?,
        Function::Arctan => functions::arctan(x, p)?,
        Function::Arcsin => arcsin(x, p)?,
        Function::Arccos => functions::pi_ball(p).scaled(-1).minus(&arcsin(x, p)?, p),
        Function::Floor => Ball { mid: x.floor()?, ..Ball::integer(0) },
        Function::Ceiling => Ball { mid: -x.negated().floor()?, ..Ball::integer(0) },
        Function::Max | Function::Min => {
            let mut best = x.clone();
            for other in &values[1..] {
                let other = other.as_real()?;
                let above = other.minus(&best, p).sign()? == Sign::Plus;
                if above == (function == Function::Max) {
                    best = other.clone();
                }
            }
            best
        }
        Function::Ln | Function::Abs | Function::Factorial | Function::Binomial | Function::Gcd | Function::Lcm => {
            return None;
        }
    };
    Some(Complex::real(result))
}

/// arcsin x = arctan(x / √(1 − x²)).
fn arcsin(x: &Ball, p: u64) -> Option<Ball> {
    let one = Ball::integer(1);
    if x.radius == num_bigint::BigUint::ZERO && x.abs().minus(&one, p).is_zero() {
        let half_pi = functions::pi_ball(p).scaled(-1);
        return Some(if x.mid.is_negative() { half_pi.negated() } else { half_pi });
    }
    let below = one.minus(&x.times(x, p), p).square_root(p)?;
    functions::arctan(&x.divided(&below, p)?, p)
}

/// Functions of whole numbers, whose arguments are exact at this point.
fn counting(function: Function, arguments: &[Expr], at: Point, p: u64, work: &mut Work) -> Option<Complex> {
    if !is_counting(function) {
        return None;
    }
    let placed: Vec<Expr> = arguments.iter().map(|x| at_point(x, at)).collect();
    exact::exact(&Expr::Apply(function, placed), work).map(|n| Complex::rational(&n, p))
}

/// Whether a function has values at whole numbers only.
pub fn is_counting(function: Function) -> bool {
    matches!(function, Function::Factorial | Function::Binomial | Function::Gcd | Function::Lcm)
}

/// The arguments of such functions are short: sums, products and powers of symbols and numbers.
fn at_point(expr: &Expr, at: Point) -> Expr {
    let all = |parts: &[Expr]| parts.iter().map(|x| at_point(x, at)).collect();
    match expr {
        Expr::Symbol(name) => Expr::Number(at.value(name)),
        Expr::Sum(parts) => Expr::Sum(all(parts)),
        Expr::Product(parts) => Expr::Product(all(parts)),
        Expr::Power(a, b) => Expr::Power(Box::new(at_point(a, at)), Box::new(at_point(b, at))),
        Expr::Apply(function, parts) => Expr::Apply(*function, all(parts)),
        other => other.clone(),
    }
}
