//! Where does a complex number lie? A ball for each part; real numbers keep an exact zero.

use num_bigint::Sign;
use num_rational::BigRational;

use super::ball::{Ball, MAX_SIZE, by_squaring};
use super::functions;

/// A number whose parts lie in two balls.
#[derive(Clone, Debug)]
pub struct Complex {
    pub re: Ball,
    pub im: Ball,
}

impl Complex {
    pub fn real(re: Ball) -> Complex {
        Complex { re, im: Ball::integer(0) }
    }

    pub fn rational(value: &BigRational, precision: u64) -> Complex {
        Complex::real(Ball::rational(value, precision))
    }

    pub fn is_real(&self) -> bool {
        self.im.is_zero()
    }

    /// The real part of a number that has no other.
    pub fn as_real(&self) -> Option<&Ball> {
        self.is_real().then_some(&self.re)
    }

    pub fn contains_zero(&self) -> bool {
        self.re.contains_zero() && self.im.contains_zero()
    }

    pub fn log2_bound(&self) -> i64 {
        self.re.log2_bound().max(if self.is_real() { i64::MIN } else { self.im.log2_bound() })
    }

    pub fn log2_radius(&self) -> i64 {
        self.re.log2_radius().max(self.im.log2_radius())
    }

    pub fn negated(&self) -> Complex {
        Complex { re: self.re.negated(), im: self.im.negated() }
    }

    pub fn plus(&self, other: &Complex, precision: u64) -> Complex {
        Complex { re: self.re.plus(&other.re, precision), im: self.im.plus(&other.im, precision) }
    }

    pub fn minus(&self, other: &Complex, precision: u64) -> Complex {
        self.plus(&other.negated(), precision)
    }

    pub fn times(&self, other: &Complex, precision: u64) -> Complex {
        let p = precision;
        if self.is_real() && other.is_real() {
            return Complex::real(self.re.times(&other.re, p));
        }
        Complex {
            re: self.re.times(&other.re, p).minus(&self.im.times(&other.im, p), p),
            im: self.re.times(&other.im, p).plus(&self.im.times(&other.re, p), p),
        }
    }

    pub fn reciprocal(&self, precision: u64) -> Option<Complex> {
        let p = precision;
        if self.is_real() {
            return Ball::integer(1).divided(&self.re, p).map(Complex::real);
        }
        let norm = self.re.times(&self.re, p).plus(&self.im.times(&self.im, p), p);
        Some(Complex { re: self.re.divided(&norm, p)?, im: self.im.negated().divided(&norm, p)? })
    }

    /// |z|.
    pub fn abs(&self, precision: u64) -> Option<Ball> {
        if self.is_real() {
            return Some(self.re.abs());
        }
        self.re.times(&self.re, precision).plus(&self.im.times(&self.im, precision), precision).square_root(precision)
    }

    /// An integer power.
    pub fn power(&self, n: i64, precision: u64) -> Option<Complex> {
        let raised = if let Some(real) = self.as_real() {
            Complex::real(real.power(n.unsigned_abs(), precision)?)
        } else {
            let is_out = |z: &Complex| z.log2_bound() > MAX_SIZE;
            let one = Complex::real(Ball::integer(1));
            by_squaring(one, self.clone(), n.unsigned_abs(), |a, b| a.times(b, precision), is_out)?
        };
        if n < 0 { raised.reciprocal(precision) } else { Some(raised) }
    }

    /// e^z.
    pub fn exp(&self, precision: u64) -> Option<Complex> {
        let size = functions::exp(&self.re, precision)?;
        if self.is_real() {
            return Some(Complex::real(size));
        }
        let (cos, sin) = functions::cos_sin(&self.im, precision)?;
        Some(Complex { re: size.times(&cos, precision), im: size.times(&sin, precision) })
    }

    /// The principal logarithm; nothing where a ball touches the cut along the negative numbers without lying on it.
    pub fn ln(&self, precision: u64) -> Option<Complex> {
        if let Some(real) = self.as_real() {
            let sign = real.sign()?;
            let size = functions::ln(&real.abs(), precision)?;
            let angle = if sign == Sign::Minus { functions::pi_ball(precision) } else { Ball::integer(0) };
            return Some(Complex { re: size, im: angle });
        }
        let size = functions::ln(&self.abs(precision)?, precision)?;
        Some(Complex { re: size, im: self.angle(precision)? })
    }

    fn angle(&self, precision: u64) -> Option<Ball> {
        let half_pi = functions::pi_ball(precision + 8).scaled(-1);
        let by_x = |p| functions::arctan(&self.im.divided(&self.re, p)?, p);
        match (self.re.sign(), self.im.sign()) {
            (Some(Sign::Plus), _) => by_x(precision),
            (_, Some(Sign::Plus)) => {
                let beside = functions::arctan(&self.re.divided(&self.im, precision)?, precision)?;
                Some(half_pi.minus(&beside, precision))
            }
            (_, Some(Sign::Minus)) => {
                let beside = functions::arctan(&self.re.divided(&self.im, precision)?, precision)?;
                Some(half_pi.negated().minus(&beside, precision))
            }
            _ => None,
        }
    }

    /// The principal square root.
    pub fn square_root(&self, precision: u64) -> Option<Complex> {
        if let Some(real) = self.as_real() {
            if real.sign() == Some(Sign::Minus) {
                return Some(Complex { re: Ball::integer(0), im: real.negated().square_root(precision)? });
            }
            return real.square_root(precision).map(Complex::real);
        }
        let half = self.ln(precision)?;
        Complex { re: half.re.scaled(-1), im: half.im.scaled(-1) }.exp(precision)
    }

    /// The principal value of self^exponent.
    pub fn raised(&self, exponent: &Complex, precision: u64) -> Option<Complex> {
        if self.re.is_zero() && self.is_real() {
            let positive = exponent.as_real()?.sign() == Some(Sign::Plus);
            return positive.then(|| Complex::real(Ball::integer(0)));
        }
        self.ln(precision + 32)?.times(exponent, precision + 32).exp(precision)
    }
}
