//! A part of the traffic to a few endpoints, the rest to the others.

use crate::share::{Choice, Share, grouped, living};

/// Gives `percent` of all connections to the endpoints that `chosen` holds for, and the rest to the others, each in
/// proportion to weights. Where one side is empty or drained, the other serves all.
#[must_use]
pub fn choose(chosen: &[bool], weights: &[u32], percent: u32) -> Choice {
    let (weights, drained) = living(weights.to_vec());
    let serves = |side: bool| chosen.iter().zip(&weights).filter(|(is, weight)| **is == side && **weight > 0).count();
    let (canaries, others) = (serves(true), serves(false));
    let percent = percent.min(100);
    let reason = match (canaries, others) {
        (0, _) => "no endpoint is a canary, so all serve alike".to_owned(),
        (_, 0) => "every endpoint is a canary, so they serve all".to_owned(),
        _ => format!("{percent} % to {canaries} of {} endpoints", canaries + others),
    };
    let reason = if drained.is_empty() { reason } else { format!("{reason}; {drained}") };
    let group: Vec<usize> = chosen.iter().map(|is| usize::from(!is)).collect();
    // A side that alone could serve does, whatever its share.
    let shares = if canaries == 0 || others == 0 { [1, 1] } else { [percent, 100 - percent] };
    Choice { share: Share::Weights(grouped(&shares, &group, &weights)), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_get_what_the_percentage_says() {
        let choice = choose(&[true, false, false, false], &[1; 4], 10);
        assert_eq!((choice.share, &*choice.reason), (Share::Weights(vec![1, 3, 3, 3]), "10 % to 1 of 4 endpoints"));
        let nothing = choose(&[true, false], &[1, 1], 0);
        assert_eq!(nothing.share, Share::Weights(vec![0, 1]));
        let everything = choose(&[true, false], &[1, 1], 100);
        assert_eq!(everything.share, Share::Weights(vec![1, 0]));
        let weights = choose(&[true, true, false], &[3, 1, 7], 50);
        assert_eq!(weights.share, Share::Weights(vec![3, 1, 4]));
    }

    #[test]
    fn one_side_alone_serves_everybody() {
        for percent in [0, 10, 100] {
            assert_eq!(choose(&[false; 2], &[1, 1], percent).share, Share::Weights(vec![1, 1]));
            assert_eq!(choose(&[true; 2], &[1, 2], percent).share, Share::Weights(vec![1, 2]));
            let drained = choose(&[true, false], &[0, 1], percent);
            assert_eq!(drained.share, Share::Weights(vec![0, 1]));
            assert!(drained.reason.contains("1 of 2 endpoints drained"), "{}", drained.reason);
        }
    }
}
