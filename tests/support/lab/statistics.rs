//! Is a distribution what it should be? Bounds so wide that chance breaks them less than once in a million runs.

/// Pearson's statistic for counts against weights: the sum of (seen − expected)² / expected.
///
/// # Panics
/// When the two are not of one length, or a weight is 0.
#[must_use]
pub fn chi_square(seen: &[u64], weights: &[u64]) -> f64 {
    assert_eq!(seen.len(), weights.len(), "one weight for each count");
    let (total, weight): (u64, u64) = (seen.iter().sum(), weights.iter().sum());
    let terms = seen.iter().zip(weights).map(|(seen, share)| {
        assert!(*share > 0, "a share of nothing has no expectation");
        let expected = total as f64 * *share as f64 / weight as f64;
        (*seen as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

/// What [`chi_square`] exceeds by chance less than once in a million runs, for that many counts. By Wilson and
/// Hilferty's approximation: the cube root of chi-square is nearly normal. 5.2 standard deviations are 10⁻⁷.
#[must_use]
pub fn chi_square_limit(counts: usize) -> f64 {
    let freedom = counts.saturating_sub(1).max(1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + 5.2 * spread.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_match_is_zero_and_a_skew_is_beyond_the_limit() {
        assert!(chi_square(&[100, 200], &[1, 2]) < 1e-9);
        assert!(chi_square(&[1100, 1000, 900], &[1, 1, 1]) < chi_square_limit(3));
        assert!(chi_square(&[1500, 1500, 0], &[1, 1, 1]) > chi_square_limit(3));
        assert!(chi_square(&[1250, 1000, 750], &[1, 1, 1]) > chi_square_limit(3));
    }

    /// With two degrees of freedom the chance to exceed x is exactly e^(−x/2).
    #[test]
    fn chance_alone_exceeds_the_limit_once_in_millions_of_runs() {
        let chance = (-chi_square_limit(3) / 2.0).exp();
        assert!((1e-9..1e-6).contains(&chance), "{chance}");
    }
}
