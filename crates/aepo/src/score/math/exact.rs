//! Which rational number is an expression, exactly? Nothing where it is none, or too large to be written out.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::tree::{Expr, Function};
use super::work::Work;

/// The largest size of a numerator or denominator that is computed, in bits.
const MAX_BITS: u64 = 8192;
/// The largest number of which a factorial is taken.
const MAX_FACTORIAL: i64 = 900;

/// The exact value of an expression without symbols and roots of other numbers than powers.
pub fn exact(expr: &Expr, work: &mut Work) -> Option<BigRational> {
    let value = compute(expr, work)?;
    (bits(&value) <= MAX_BITS).then_some(value)
}

fn bits(value: &BigRational) -> u64 {
    value.numer().bits().max(value.denom().bits())
}

fn compute(expr: &Expr, work: &mut Work) -> Option<BigRational> {
    work.spend(1)?;
    match expr {
        Expr::Number(n) => Some(n.clone()),
        Expr::Based { value, .. } => Some(BigRational::from_integer(value.clone())),
        Expr::Sum(parts) => {
            let mut sum = BigRational::zero();
            for part in parts {
                let part = exact(part, work)?;
                work.spend_bits(bits(&part).max(bits(&sum)))?;
                sum += part;
                if bits(&sum) > MAX_BITS {
                    return None;
                }
            }
            Some(sum)
        }
        Expr::Product(parts) => {
            let mut product = BigRational::one();
            for part in parts {
                let part = exact(part, work)?;
                work.spend_bits(bits(&part).max(bits(&product)))?;
                product *= part;
                if bits(&product) > MAX_BITS {
                    return None;
                }
            }
            Some(product)
        }
        Expr::Power(base, exponent) => {
            let base = exact(base, work)?;
            power(&base, &exact(exponent, work)?, work)
        }
        Expr::Root(degree, radicand) => {
            let degree = exact(degree, work)?;
            let radicand = exact(radicand, work)?;
            if !degree.is_integer() || !degree.is_positive() {
                return None;
            }
            root(&radicand, degree.to_u32()?, work)
        }
        Expr::Measure(x, unit) if unit == "%" => Some(exact(x, work)? / BigInt::from(100)),
        Expr::Apply(function, arguments) => {
            let values = arguments.iter().map(|x| exact(x, work)).collect::<Option<Vec<_>>>()?;
            apply(*function, &values, work)
        }
        _ => None,
    }
}

/// base^exponent, for an exponent whose denominator's root is exact.
pub fn power(base: &BigRational, exponent: &BigRational, work: &mut Work) -> Option<BigRational> {
    if exponent.is_zero() {
        return (!base.is_zero()).then(BigRational::one);
    }
    if base.is_zero() {
        return exponent.is_positive().then(BigRational::zero);
    }
    if base.is_one() {
        return Some(BigRational::one());
    }
    let base = if exponent.is_integer() {
        base.clone()
    } else {
        // A power of a negative number with a broken exponent is complex.
        if base.is_negative() {
            return None;
        }
        root(base, exponent.denom().to_u32()?, work)?
    };
    let n = exponent.numer().to_i64()?;
    if bits(&base).saturating_sub(1).checked_mul(n.unsigned_abs())? > MAX_BITS {
        return None;
    }
    work.spend_bits(bits(&base).saturating_mul(n.unsigned_abs()).min(MAX_BITS))?;
    // ±1 has any power.
    if base == -BigRational::one() {
        return Some(if n % 2 == 0 { BigRational::one() } else { base });
    }
    let raised = base.pow(i32::try_from(n).ok()?);
    Some(raised)
}

/// The real root of a rational number, where it is rational.
fn root(radicand: &BigRational, degree: u32, work: &mut Work) -> Option<BigRational> {
    if degree == 0 || (radicand.is_negative() && degree.is_multiple_of(2)) {
        return None;
    }
    if radicand.is_zero() {
        return Some(BigRational::zero());
    }
    work.spend_bits(bits(radicand).saturating_mul(4))?;
    if u64::from(degree) > bits(radicand) {
        return (radicand.abs() == BigRational::one()).then(|| radicand.clone());
    }
    let of = |n: &BigInt| {
        let root = n.nth_root(degree);
        (num_traits::pow(root.clone(), degree as usize) == *n).then_some(root)
    };
    Some(BigRational::new(of(radicand.numer())?, of(radicand.denom())?))
}

fn apply(function: Function, values: &[BigRational], work: &mut Work) -> Option<BigRational> {
    let integers = || {
        let all = values.iter().map(|v| v.is_integer().then(|| v.to_integer())).collect::<Option<Vec<BigInt>>>()?;
        (!all.is_empty()).then_some(all)
    };
    let first = values.first()?;
    match function {
        Function::Abs => Some(first.abs()),
        Function::Floor => Some(first.floor()),
        Function::Ceiling => Some(first.ceil()),
        Function::Max => values.iter().max().cloned(),
        Function::Min => values.iter().min().cloned(),
        Function::Gcd | Function::Lcm => {
            let integers = integers()?;
            let mut all = integers.into_iter();
            let mut result = all.next()?.abs();
            for n in all {
                work.spend_bits(n.bits().max(result.bits()))?;
                result = if function == Function::Gcd { result.gcd(&n) } else { result.lcm(&n) };
                if result.bits() > MAX_BITS {
                    return None;
                }
            }
            Some(BigRational::from_integer(result))
        }
        Function::Factorial => {
            let n = integers()?[0].to_i64().filter(|n| (0..=MAX_FACTORIAL).contains(n))?;
            work.spend(n.unsigned_abs())?;
            Some(BigRational::from_integer((1..=n).map(BigInt::from).product()))
        }
        Function::Binomial => {
            let both = integers()?;
            let [n, k] = both.as_slice() else { return None };
            binomial(n, k, work)
        }
        // The values of these at rational numbers are rational at 0 alone.
        Function::Sin | Function::Tan | Function::Arcsin | Function::Arctan | Function::Sinh | Function::Tanh => {
            first.is_zero().then(BigRational::zero)
        }
        Function::Cos | Function::Cosh | Function::Sec => first.is_zero().then(BigRational::one),
        Function::Ln | Function::Arccos => first.is_one().then(BigRational::zero),
        Function::Cot | Function::Csc => None,
    }
}

fn binomial(n: &BigInt, k: &BigInt, work: &mut Work) -> Option<BigRational> {
    if k.is_negative() || n.is_negative() {
        return None;
    }
    if k > n {
        return Some(BigRational::zero());
    }
    let k = k.min(&(n - k)).to_u64()?;
    if k > 4000 {
        return None;
    }
    let mut result = BigInt::one();
    for j in 0..k {
        work.spend(1 + result.bits() / 256)?;
        result = result * (n - j) / (j + 1);
        if result.bits() > MAX_BITS {
            return None;
        }
    }
    Some(BigRational::from_integer(result))
}
