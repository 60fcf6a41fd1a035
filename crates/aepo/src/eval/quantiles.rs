//! Where do Student's t and the normal distribution have a given probability? No tables, only sums that end.

/// The confidence of every interval of a report.
pub const CONFIDENCE: f64 = 0.95;

/// t with P(|T| ≤ t) = [`CONFIDENCE`] for a whole number of degrees of freedom, at least 1.
#[must_use]
pub fn t_quantile(degrees: u32) -> f64 {
    // The sums have a term per two degrees; far out, Student's t is the normal distribution with a correction
    // (Abramowitz and Stegun 26.7.5, whose next term is below 1e-12 here).
    if degrees > 10_000 {
        let (z, n) = (normal_quantile(0.5 + CONFIDENCE / 2.0), f64::from(degrees));
        let second = z * (5.0 * z.powi(4) + 16.0 * z * z + 3.0) / 96.0;
        return z + z * (z * z + 1.0) / (4.0 * n) + second / (n * n);
    }
    // The probability grows with the angle θ = atan(t/√ν), which has a finite range: halve it.
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if central_probability(middle, degrees) < CONFIDENCE { low = middle } else { high = middle }
    }
    f64::from(degrees).sqrt() * ((low + high) / 2.0).tan()
}

/// P(|T| ≤ √ν · tan θ), the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4:
/// odd ν: (2/π)·(θ + sin θ·(cos θ + 2/3 cos³θ + … + 2·4⋯(ν−3)/(1·3⋯(ν−2)) cos^(ν−2) θ)), with θ alone for ν = 1;
/// even ν: sin θ·(1 + 1/2 cos²θ + … + 1·3⋯(ν−3)/(2·4⋯(ν−2)) cos^(ν−2) θ).
fn central_probability(theta: f64, degrees: u32) -> f64 {
    let (sin, cos) = theta.sin_cos();
    let is_odd = degrees % 2 == 1;
    let mut term = if is_odd { cos } else { 1.0 };
    let mut sum = 0.0;
    for power in (if is_odd { 1 } else { 0 }..=i64::from(degrees) - 2).step_by(2) {
        sum += term;
        term *= cos * cos * (power + 1) as f64 / (power + 2) as f64;
    }
    if is_odd { std::f64::consts::FRAC_2_PI * (theta + sin * sum) } else { sin * sum }
}

/// Φ(z) = P(Z ≤ z) of the standard normal distribution:
/// 1/2 + φ(z)·(z + z³/3 + z⁵/(3·5) + …), Abramowitz and Stegun 26.2.11; 0 and 1 beyond ±8, where less than 1e-15 is left.
#[must_use]
pub fn normal_probability(z: f64) -> f64 {
    if z.abs() > 8.0 {
        return if z > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    (0.5 + density * sum).clamp(0.0, 1.0)
}

/// z with Φ(z) = `probability`, between −8 and 8.
#[must_use]
pub fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal_probability(middle) < probability { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SciPy 1.17.1: `[scipy.stats.t.ppf(0.975, n) for n in (1, 2, 3, 4, 7, 10, 29, 100)]`
    const GOLDEN_T: [(u32, f64); 8] = [
        (1, 12.706204736174694),
        (2, 4.302652729749462),
        (3, 3.1824463052837078),
        (4, 2.7764451051977934),
        (7, 2.364624251592784),
        (10, 2.228138851986274),
        (29, 2.045229642132703),
        (100, 1.9839715185235518),
    ];

    #[test]
    fn quantiles_are_those_of_another_program() {
        for (degrees, t) in GOLDEN_T {
            assert!((t_quantile(degrees) / t - 1.0).abs() < 1e-11, "{degrees}: {} is not {t}", t_quantile(degrees));
        }
        // The sums and the correction agree where one takes over from the other.
        assert!((t_quantile(10_000) - t_quantile(10_001)).abs() < 1e-7);
        // `statistics.NormalDist()` of Python 3: `.inv_cdf(0.975)`, `.inv_cdf(0.01)`, `.cdf(-3)`, `.cdf(0.5)`.
        assert!((normal_quantile(0.975) - 1.9599639845400536).abs() < 1e-12);
        assert!((normal_quantile(0.01) + 2.3263478740408408).abs() < 1e-12);
        assert!((normal_probability(-3.0) - 0.0013498980316301).abs() < 1e-13);
        assert!((normal_probability(0.5) - 0.6914624612740131).abs() < 1e-13);
        assert_eq!([normal_probability(-9.0), normal_probability(0.0), normal_probability(9.0)], [0.0, 0.5, 1.0]);
    }
}
