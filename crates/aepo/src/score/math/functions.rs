//! What are e^x, ln x, sin x, cos x and arctan x of a ball? Series in fixed point with guard bits, and what the ball's
//! own radius adds.

use std::sync::OnceLock;

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::ball::{Ball, power_of_two};

/// Bits below the precision in which series are summed. Fewer than 2^12 roundings of one unit each, amplified by at
/// most 2^32 through squarings and doublings, stay below 2^[`ERROR`] units.
const GUARD: u64 = 64;
const ERROR: u64 = 44;
/// Halvings of an argument before its series.
const HALVINGS: usize = 10;
/// Bits of the stored constants; every scale used is smaller.
const CONSTANT_SCALE: u64 = 2048;
/// Larger arguments of an exponential, and larger angles, in bits.
const MAX_ARGUMENT: i64 = 39;

/// Σ ±1/(n^(2k+1)·(2k+1)) in units of 2^−scale: arctan(1/n) with alternating signs, artanh(1/n) without.
fn inverse_series(n: u32, scale: u64, alternating: bool) -> BigInt {
    let mut term = (BigInt::one() << scale) / n;
    let mut sum = term.clone();
    let mut k = 1u32;
    while !term.is_zero() {
        term /= n * n;
        let part = &term / (2 * k + 1);
        if alternating && k % 2 == 1 {
            sum -= part
        } else {
            sum += part
        }
        k += 1;
    }
    sum
}

/// π in units of 2^−scale: Machin's 16·arctan(1/5) − 4·arctan(1/239).
fn pi(scale: u64) -> BigInt {
    static PI: OnceLock<BigInt> = OnceLock::new();
    let stored = PI.get_or_init(|| {
        let s = CONSTANT_SCALE + GUARD;
        (16 * inverse_series(5, s, true) - 4 * inverse_series(239, s, true)) >> GUARD
    });
    stored >> (CONSTANT_SCALE - scale.min(CONSTANT_SCALE))
}

/// ln 2 in units of 2^−scale: 18·artanh(1/26) − 2·artanh(1/4801) + 8·artanh(1/8749).
fn ln2(scale: u64) -> BigInt {
    static LN2: OnceLock<BigInt> = OnceLock::new();
    let stored = LN2.get_or_init(|| {
        let s = CONSTANT_SCALE + GUARD;
        let series = |n| inverse_series(n, s, false);
        (18 * series(26) - 2 * series(4801) + 8 * series(8749)) >> GUARD
    });
    stored >> (CONSTANT_SCALE - scale.min(CONSTANT_SCALE))
}

/// π.
pub fn pi_ball(precision: u64) -> Ball {
    let scale = precision + GUARD;
    Ball::rounded(pi(scale), BigUint::from(2u32), -(scale as i64), precision)
}

/// e^x for |x| < 1, all in units of 2^−scale: halved, a Taylor series, squared again.
fn exp_fixed(x: &BigInt, scale: u64) -> BigInt {
    let one = BigInt::one() << scale;
    let small = x >> HALVINGS;
    let mut term = one.clone();
    let mut sum = one;
    let mut k = 1u32;
    loop {
        term = ((term * &small) >> scale) / k;
        // Shifting rounds towards −∞, so that a negative term would end at −1 and not at 0.
        if term.is_zero() || term == -BigInt::one() {
            break;
        }
        sum += &term;
        k += 1;
    }
    for _ in 0..HALVINGS {
        sum = (&sum * &sum) >> scale;
    }
    sum
}

/// e^x; nothing where x is too large or too little known.
pub fn exp(x: &Ball, precision: u64) -> Option<Ball> {
    if x.is_zero() {
        return Some(Ball::integer(1));
    }
    if x.log2_bound() > MAX_ARGUMENT || x.log2_radius() > -2 {
        return None;
    }
    let scale = precision + GUARD + MAX_ARGUMENT as u64 + 1;
    let (fixed, radius) = x.fixed(scale);
    let n = (&fixed / ln2(scale)).to_i64()?;
    let rest = fixed - ln2(scale) * n;
    let value = exp_fixed(&rest, scale);
    // |e^(x+δ) − e^x| ≤ 2δ·e^x for δ < 1, and e^rest < 4.
    let error = power_of_two(ERROR) + radius * 8u32;
    Some(Ball::rounded(value, error, n - scale as i64, precision))
}

/// The natural logarithm of a positive number.
pub fn ln(x: &Ball, precision: u64) -> Option<Ball> {
    if x.sign()? != Sign::Plus {
        return None;
    }
    let scale = precision + GUARD + 48;
    let n_bits = x.mid.bits();
    let n = x.exponent + n_bits as i64;
    // x = f·2^n with f in [1/2, 1).
    let f = if n_bits >= scale { &x.mid >> (n_bits - scale) } else { &x.mid << (scale - n_bits) };
    // y ← y + 2(f − e^y)/(f + e^y) triples the right bits, of which a machine's logarithm gives 50.
    let f_top = (&f >> (scale - 60)).to_f64()? / (1u64 << 60) as f64;
    let mut y = BigInt::from((f_top.ln() * (1u64 << 60) as f64) as i64) << (scale - 60);
    let mut right_bits = 48;
    while right_bits < scale + 3 {
        let e = exp_fixed(&y, scale);
        y += (((&f - &e) << (scale + 1)) / (&f + &e)).clone();
        right_bits *= 3;
    }
    let value = y + ln2(scale) * n;
    // |ln(x+δ) − ln x| ≤ δ/(x − δ); the rounding of n·ln 2 is below |n| units.
    let relative = (&x.radius << scale) / (x.mid.magnitude() - &x.radius) + 1u32;
    let error = power_of_two(ERROR) + BigUint::from(n.unsigned_abs()) + relative;
    Some(Ball::rounded(value, error, -(scale as i64), precision))
}

/// Cosine and sine; nothing where the angle is too large or too little known.
pub fn cos_sin(x: &Ball, precision: u64) -> Option<(Ball, Ball)> {
    if x.is_zero() {
        return Some((Ball::integer(1), Ball::integer(0)));
    }
    if x.log2_bound() > MAX_ARGUMENT || x.log2_radius() > -2 {
        return None;
    }
    let scale = precision + GUARD + MAX_ARGUMENT as u64 + 1;
    let (fixed, radius) = x.fixed(scale);
    let half_pi = pi(scale) >> 1;
    let quarters: BigInt = &fixed / &half_pi;
    let rest = fixed - &quarters * &half_pi;
    let (cos, sin) = cos_sin_fixed(&rest, scale);
    let (cos, sin) = match quarters.to_i64()?.rem_euclid(4) {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    };
    let error = power_of_two(ERROR) + radius;
    let ball = |value| Ball::rounded(value, error.clone(), -(scale as i64), precision);
    Some((ball(cos), ball(sin)))
}

/// Cosine and sine of |x| < 2 in units of 2^−scale: halved, Taylor series, doubled again.
fn cos_sin_fixed(x: &BigInt, scale: u64) -> (BigInt, BigInt) {
    let one = BigInt::one() << scale;
    let small = x >> HALVINGS;
    let square = (&small * &small) >> scale;
    let series = |first: BigInt, offset: u32| {
        let mut term = first.clone();
        let mut sum = first;
        let mut k = 1u32;
        while !term.is_zero() && term != -BigInt::one() {
            term = -((term * &square) >> scale) / ((2 * k - 1 + offset) * (2 * k + offset));
            sum += &term;
            k += 1;
        }
        sum
    };
    let (mut cos, mut sin) = (series(one.clone(), 0), series(small.clone(), 1));
    for _ in 0..HALVINGS {
        sin = (&sin * &cos) >> (scale - 1);
        cos = ((&cos * &cos) >> (scale - 1)) - &one;
    }
    (cos, sin)
}

/// The arc tangent.
pub fn arctan(x: &Ball, precision: u64) -> Option<Ball> {
    if x.is_zero() {
        return Some(Ball::integer(0));
    }
    let working = precision + GUARD;
    if x.log2_bound() > 1 {
        // arctan x = ±π/2 − arctan(1/x).
        let inverse = Ball::integer(1).divided(x, working)?;
        let half_pi = pi_ball(working).scaled(-1);
        let half_pi = if x.mid.is_negative() { half_pi.negated() } else { half_pi };
        return Some(half_pi.minus(&small_arctan(&inverse, precision)?, precision));
    }
    small_arctan(x, precision)
}

/// arctan x for |x| ≤ 4: arctan x = 2·arctan(x / (1 + √(1 + x²))), and a series.
fn small_arctan(x: &Ball, precision: u64) -> Option<Ball> {
    if x.log2_bound() > 2 {
        return None;
    }
    let scale = precision + GUARD;
    let one = BigInt::one() << scale;
    let (mut t, radius) = x.fixed(scale);
    for _ in 0..HALVINGS {
        let root = ((((&t * &t) >> scale) + &one) << scale).magnitude().sqrt();
        t = (t << scale) / (BigInt::from(root) + &one);
    }
    let square = (&t * &t) >> scale;
    let mut power = t.clone();
    let mut sum = t;
    let mut k = 1u32;
    while !power.is_zero() && power != -BigInt::one() {
        power = -((power * &square) >> scale);
        sum += &power / (2 * k + 1);
        k += 1;
    }
    let error = power_of_two(ERROR) + radius;
    Some(Ball::rounded(sum << HALVINGS, error, -(scale as i64), precision))
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;

    use super::super::digits;
    use super::*;

    /// Whether a ball holds the number with these leading digits and is smaller than their last place.
    #[track_caller]
    fn check(ball: Option<Ball>, digits: &str) {
        let ball = ball.unwrap();
        let expected: BigRational = digits::value(digits).unwrap();
        let n_places = digits.split_once('.').unwrap().1.len();
        let place = Ball::rational(&digits::value(&format!("1e-{n_places}")).unwrap(), 300);
        let off = ball.minus(&Ball::rational(&expected, 300), 300);
        assert!(off.abs().minus(&place, 300).sign() == Some(Sign::Minus), "{digits}");
        assert!(ball.log2_radius() < -200, "{digits}: {}", ball.log2_radius());
    }

    fn rational(over: i64, under: i64) -> Ball {
        Ball::rational(&BigRational::new(over.into(), under.into()), 256)
    }

    /// Digits of constants: OEIS A000796, A001113, A002162, A049469, A049470, A002392.
    #[test]
    fn constants_have_their_digits() {
        check(Some(pi_ball(256)), "3.14159265358979323846264338327950288419716939937510");
        check(exp(&Ball::integer(1), 256), "2.71828182845904523536028747135266249775724709369995");
        check(ln(&Ball::integer(2), 256), "0.69314718055994530941723212145817656807550013436025");
        check(ln(&Ball::integer(10), 256), "2.30258509299404568401799145468436420760110148862877");
        check(
            cos_sin(&Ball::integer(1), 256).map(|(_, sin)| sin),
            "0.84147098480789650665250232163029899962256306079837",
        );
        check(
            cos_sin(&Ball::integer(1), 256).map(|(cos, _)| cos),
            "0.54030230586813971740093660744297660373231042061792",
        );
        check(
            arctan(&Ball::integer(1), 256).map(|x| x.scaled(2)),
            "3.14159265358979323846264338327950288419716939937510",
        );
    }

    #[test]
    fn inverses_undo_each_other_and_balls_hold_the_truth() {
        for k in -40..40i64 {
            let x = rational(7 * k + 3, 11);
            let there_and_back = ln(&exp(&x, 256).unwrap(), 256).unwrap();
            assert!(there_and_back.minus(&x, 256).contains_zero(), "{k}");
            assert!(there_and_back.log2_radius() < -200, "{k}");
            let (cos, sin) = cos_sin(&x, 256).unwrap();
            let one = cos.times(&cos, 256).plus(&sin.times(&sin, 256), 256);
            assert!(one.minus(&Ball::integer(1), 256).contains_zero(), "{k}");
            let tangent = arctan(&sin.divided(&cos, 256).unwrap(), 256).unwrap();
            let turns = x.minus(&tangent, 256).divided(&pi_ball(256), 256).unwrap();
            // A multiple of π: a whole number lies in the ball, so that it has no one floor.
            assert!(turns.floor().is_none() || turns.radius.is_zero(), "{k}");
            let square = x.times(&x, 256).square_root(256).unwrap();
            assert!(square.minus(&x.abs(), 256).contains_zero(), "{k}");
        }
    }

    #[test]
    fn what_is_little_known_or_too_large_has_no_value() {
        let wide = Ball { mid: BigInt::from(1), radius: BigUint::from(1u32), exponent: 0 };
        assert!(exp(&wide, 256).is_none() && cos_sin(&wide, 256).is_none() && ln(&wide, 256).is_none());
        assert!(exp(&Ball::integer(1).scaled(60), 256).is_none());
        assert!(ln(&Ball::integer(0), 256).is_none() && ln(&Ball::integer(-1), 256).is_none());
        assert!(Ball::integer(2).power(u64::MAX, 256).is_none());
    }
}
