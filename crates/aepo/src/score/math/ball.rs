//! Where does a real number lie? Ball arithmetic: a binary mid-point with a proven bound on its error.

use num_bigint::{BigInt, BigUint, Sign};
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// The radius keeps about so many bits.
const RADIUS_BITS: u64 = 30;

/// All numbers within `radius`·2^`exponent` of `mid`·2^`exponent`.
///
/// Every operation takes the precision of its result in bits, rounds the mid-point to it, and widens the radius by what
/// rounding may have changed: what is computed without error lies in the result whenever the operands lie in theirs.
#[derive(Clone, Debug)]
pub struct Ball {
    pub mid: BigInt,
    pub radius: BigUint,
    pub exponent: i64,
}

impl Ball {
    pub fn integer(n: i64) -> Ball {
        Ball { mid: BigInt::from(n), radius: BigUint::zero(), exponent: 0 }
    }

    /// Rounds to `precision` bits.
    pub fn rounded(mid: BigInt, radius: BigUint, exponent: i64, precision: u64) -> Ball {
        let excess = mid.bits().saturating_sub(precision).max(radius.bits().saturating_sub(RADIUS_BITS));
        if excess == 0 {
            return Ball { mid, radius, exponent };
        }
        // Shifting cuts less than one off each.
        Ball { mid: mid >> excess, radius: (radius >> excess) + 2u32, exponent: exponent + excess as i64 }
    }

    pub fn rational(value: &BigRational, precision: u64) -> Ball {
        let exact = |n: &BigInt| Ball { mid: n.clone(), radius: BigUint::zero(), exponent: 0 };
        let over = exact(value.numer());
        if value.is_integer() {
            return Ball::rounded(over.mid, over.radius, 0, precision);
        }
        over.divided(&exact(value.denom()), precision).unwrap_or_else(|| Ball::integer(0))
    }

    pub fn contains_zero(&self) -> bool {
        *self.mid.magnitude() <= self.radius
    }

    /// Whether it is the number 0 and nothing else.
    pub fn is_zero(&self) -> bool {
        self.mid.is_zero() && self.radius.is_zero()
    }

    /// Whether all of it is positive, or all of it negative; nothing where it has both or zero.
    pub fn sign(&self) -> Option<Sign> {
        (!self.contains_zero()).then(|| self.mid.sign())
    }

    /// Above the binary logarithm of every absolute value in it.
    pub fn log2_bound(&self) -> i64 {
        let magnitude = self.mid.magnitude().bits().max(self.radius.bits()) as i64;
        magnitude + 1 + self.exponent
    }

    /// Above the binary logarithm of the radius; the smallest number where there is no error.
    pub fn log2_radius(&self) -> i64 {
        if self.radius.is_zero() { i64::MIN } else { self.radius.bits() as i64 + self.exponent }
    }

    pub fn negated(&self) -> Ball {
        Ball { mid: -&self.mid, radius: self.radius.clone(), exponent: self.exponent }
    }

    pub fn abs(&self) -> Ball {
        // Of numbers on both sides of zero the values lie even closer together.
        Ball { mid: self.mid.abs(), radius: self.radius.clone(), exponent: self.exponent }
    }

    /// Multiplied by 2^`n`, exactly.
    pub fn scaled(&self, n: i64) -> Ball {
        Ball { mid: self.mid.clone(), radius: self.radius.clone(), exponent: self.exponent + n }
    }

    pub fn plus(&self, other: &Ball, precision: u64) -> Ball {
        if self.is_zero() {
            return other.clone();
        }
        if other.is_zero() {
            return self.clone();
        }
        // Nothing far below the larger operand's last bit is worth computing.
        let floor = self.log2_bound().max(other.log2_bound()) - precision as i64 - 64;
        let cut = |x: &Ball| {
            if x.exponent >= floor {
                return x.clone();
            }
            let n = floor.abs_diff(x.exponent);
            Ball { mid: &x.mid >> n, radius: (&x.radius >> n) + 2u32, exponent: floor }
        };
        let (a, b) = (cut(self), cut(other));
        let exponent = a.exponent.min(b.exponent);
        let (up_a, up_b) = (a.exponent.abs_diff(exponent), b.exponent.abs_diff(exponent));
        Ball::rounded((a.mid << up_a) + (b.mid << up_b), (a.radius << up_a) + (b.radius << up_b), exponent, precision)
    }

    pub fn minus(&self, other: &Ball, precision: u64) -> Ball {
        self.plus(&other.negated(), precision)
    }

    pub fn times(&self, other: &Ball, precision: u64) -> Ball {
        let radius =
            self.mid.magnitude() * &other.radius + other.mid.magnitude() * &self.radius + &self.radius * &other.radius;
        Ball::rounded(&self.mid * &other.mid, radius, self.exponent + other.exponent, precision)
    }

    /// The quotient, or nothing where the divisor may be zero.
    pub fn divided(&self, by: &Ball, precision: u64) -> Option<Ball> {
        if by.contains_zero() {
            return None;
        }
        if self.is_zero() {
            return Some(Ball::integer(0));
        }
        let up = (precision + 8 + by.mid.bits()).saturating_sub(self.mid.bits());
        let over = &self.mid << up;
        let quotient = &over / &by.mid;
        // |a/b − (a+δa)/(b+δb)| ≤ (δa + |a/b|·δb) / (|b| − δb), and the division cuts less than one off.
        let error = (&self.radius << up) + (quotient.magnitude() + 1u32) * &by.radius;
        let radius = error / (by.mid.magnitude() - &by.radius) + 2u32;
        Some(Ball::rounded(quotient, radius, self.exponent - by.exponent - up as i64, precision))
    }

    /// The square root of a positive number or of exactly 0; nothing where zero or less may lie in the ball.
    pub fn square_root(&self, precision: u64) -> Option<Ball> {
        if self.is_zero() {
            return Some(Ball::integer(0));
        }
        if self.sign()? == Sign::Minus {
            return None;
        }
        let mut up = (2 * precision + 8).saturating_sub(self.mid.bits());
        // An exponent that halves.
        up += u64::from((self.exponent - up as i64).rem_euclid(2) == 1);
        let scaled = self.mid.magnitude() << up;
        let root = scaled.sqrt();
        // |√x − √(x+δ)| ≤ δ/√x.
        let radius = (&self.radius << up) / &root + 2u32;
        Some(Ball::rounded(BigInt::from(root), radius, (self.exponent - up as i64) / 2, precision))
    }

    /// The n-th power by repeated squaring; nothing where its size leaves all bounds.
    pub fn power(&self, n: u64, precision: u64) -> Option<Ball> {
        let is_out = |ball: &Ball| ball.log2_bound().abs() > MAX_SIZE;
        by_squaring(Ball::integer(1), self.clone(), n, |a, b| a.times(b, precision), is_out)
    }

    /// The nearest multiple of 2^−`scale` to the mid-point, in these units, and the radius in the same, rounded up.
    pub fn fixed(&self, scale: u64) -> (BigInt, BigUint) {
        let shift = self.exponent + scale as i64;
        if shift >= 0 {
            (&self.mid << shift, &self.radius << shift)
        } else {
            (&self.mid >> shift.unsigned_abs(), (&self.radius >> shift.unsigned_abs()) + 2u32)
        }
    }

    /// The one whole number that is the largest below all of it; nothing where a whole number lies inside.
    pub fn floor(&self) -> Option<BigInt> {
        if self.log2_bound() > 4096 {
            return None;
        }
        let down = |x: BigInt| if self.exponent >= 0 { x << self.exponent } else { x >> self.exponent.unsigned_abs() };
        let radius = BigInt::from(self.radius.clone());
        let (low, high) = (down(&self.mid - &radius), down(&self.mid + &radius));
        (low == high).then_some(low)
    }
}

/// Binary logarithms of larger numbers are not computed with.
pub const MAX_SIZE: i64 = 1 << 40;

/// `base` to the n-th by repeated squaring; nothing where a product on the way `is_out` of bounds.
pub fn by_squaring<T>(one: T, base: T, n: u64, times: impl Fn(&T, &T) -> T, is_out: impl Fn(&T) -> bool) -> Option<T> {
    let (mut result, mut square, mut left) = (one, base, n);
    while left > 0 {
        if left & 1 == 1 {
            result = times(&result, &square);
        }
        left >>= 1;
        if left > 0 {
            square = times(&square, &square);
        }
        if is_out(&result) || is_out(&square) {
            return None;
        }
    }
    Some(result)
}

/// 2^n as a radius.
pub fn power_of_two(n: u64) -> BigUint {
    BigUint::one() << n
}
