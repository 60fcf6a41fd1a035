//! What is left of a rational expression modulo a prime? A quick proof that two are different, however large they are.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

use super::exact::exact;
use super::tree::Expr;
use super::value::Point;
use super::work::Work;

/// 2^61 − 1 and 2^64 − 59, the largest prime of 64 bits.
pub const PRIMES: [u64; 2] = [(1 << 61) - 1, u64::MAX - 58];

/// The residue of an expression of sums, products and whole powers at a point; nothing where there is another operation
/// or a divisor without an inverse.
///
/// Expressions with different residues have different values there. Different expressions with the same residues for
/// several random points and two primes are as good as impossible (Schwartz and Zippel).
pub fn residue(expr: &Expr, at: Point, prime: u64, work: &mut Work) -> Option<u64> {
    work.spend(1)?;
    let product = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(prime)) as u64;
    match expr {
        Expr::Number(n) => of_rational(n, prime),
        Expr::Symbol(name) => of_rational(&at.value(name), prime),
        Expr::Sum(parts) => {
            let mut sum = 0u128;
            for part in parts {
                sum += u128::from(residue(part, at, prime, work)?);
            }
            Some((sum % u128::from(prime)) as u64)
        }
        Expr::Product(parts) => {
            let mut all = 1;
            for part in parts {
                all = product(all, residue(part, at, prime, work)?);
            }
            Some(all)
        }
        Expr::Power(base, exponent) => {
            let exponent = exact(exponent, work).filter(BigRational::is_integer)?.to_integer();
            let base = residue(base, at, prime, work)?;
            if base == 0 && !exponent.is_positive() {
                return None;
            }
            // By Fermat, exponents count modulo p − 1.
            let reduced = exponent.mod_floor(&BigInt::from(prime - 1)).to_u64()?;
            work.spend(8)?;
            Some(if base == 0 { 0 } else { power(base, reduced, prime) })
        }
        Expr::Measure(x, unit) if unit == "%" => {
            let hundredth = of_rational(&BigRational::new(1.into(), 100.into()), prime)?;
            Some(product(residue(x, at, prime, work)?, hundredth))
        }
        _ => None,
    }
}

fn power(base: u64, mut exponent: u64, prime: u64) -> u64 {
    let product = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(prime)) as u64;
    let (mut result, mut square) = (1, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(result, square);
        }
        square = product(square, square);
        exponent >>= 1;
    }
    result
}

fn of_rational(n: &BigRational, prime: u64) -> Option<u64> {
    let over = n.numer().mod_floor(&BigInt::from(prime)).to_u64()?;
    if n.is_integer() {
        return Some(over);
    }
    let under = n.denom().mod_floor(&BigInt::from(prime)).to_u64()?;
    let inverse = (under != 0).then(|| power(under, prime - 2, prime))?;
    Some((u128::from(over) * u128::from(inverse) % u128::from(prime)) as u64)
}
