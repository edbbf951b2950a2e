//! Who gets how much: draining, and whole numbers in the place of fractions.

/// What the slots of a list hold, in the contract's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// Every endpoint once.
    Equal,
    /// One weight an endpoint; 0 drains.
    Weights(Vec<u32>),
    /// The slots themselves, as positions of endpoints.
    Slots(Vec<u32>),
}

/// A share, and why it is not the usual one; empty when it goes without saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What the slots hold.
    pub share: Share,
    /// For whoever asks why.
    pub reason: String,
}

impl Choice {
    /// A share that needs no word.
    #[must_use]
    pub fn plain(share: Share) -> Self {
        Self { share, reason: String::new() }
    }
}

/// Weights of which none is so small that nobody would serve: where all are 0, all count 1, since a Service that
/// rejects everybody helps less than one whose endpoints are about to go. The second value says what is unusual.
#[must_use]
pub fn living(mut weights: Vec<u32>) -> (Vec<u32>, String) {
    match weights.iter().filter(|weight| **weight == 0).count() {
        0 => (weights, String::new()),
        drained if drained == weights.len() => {
            weights.fill(1);
            (weights, format!("all {drained} endpoints are drained, so all serve"))
        }
        drained => {
            let reason = format!("{drained} of {} endpoints drained", weights.len());
            (weights, reason)
        }
    }
}

/// Every endpoint alike, but for those that are drained: what a scheduler does that knows no weights.
#[must_use]
pub fn equal(weights: &[u32]) -> Choice {
    if !weights.contains(&0) {
        return Choice::plain(Share::Equal);
    }
    let (alive, reason) = living(weights.iter().map(|weight| u32::from(*weight > 0)).collect());
    Choice { share: Share::Weights(alive), reason }
}

/// In proportion to weights.
#[must_use]
pub fn weighted(weights: Vec<u32>) -> Choice {
    if weights.first().is_some_and(|first| *first > 0 && weights.iter().all(|weight| weight == first)) {
        return Choice::plain(Share::Equal);
    }
    let (weights, reason) = living(weights);
    Choice { share: Share::Weights(weights), reason }
}

/// `parts` shared out in proportion to `shares`, in whole numbers: each gets its quota rounded down, and what is left
/// goes to the largest remainders (Hamilton's method). Whoever has a share at all gets at least one part, even where
/// that makes more than `parts`. Shares are not negative; all zeros get nothing.
#[must_use]
pub fn apportion(shares: &[f64], parts: u32) -> Vec<u32> {
    let total: f64 = shares.iter().sum();
    if total <= 0.0 {
        return vec![0; shares.len()];
    }
    let quotas: Vec<f64> = shares.iter().map(|share| share / total * f64::from(parts)).collect();
    let floor = |quota: &f64| if *quota > 0.0 { (quota.floor() as u32).max(1) } else { 0 };
    let mut whole: Vec<u32> = quotas.iter().map(floor).collect();
    let left = (parts as usize).saturating_sub(whole.iter().map(|part| *part as usize).sum());
    if left == 0 {
        return whole;
    }
    let mut order: Vec<(f64, usize)> =
        quotas.iter().zip(&whole).map(|(quota, whole)| quota - f64::from(*whole)).zip(0..).collect();
    order.retain(|(_, at)| quotas[*at] > 0.0);
    let largest_first = |(a, at): &(f64, usize), (b, other): &(f64, usize)| b.total_cmp(a).then(at.cmp(other));
    // Of those with a share there are more than parts left: each got all but less than one of its quota.
    if left < order.len() {
        order.select_nth_unstable_by(left, largest_first);
    }
    for (_, at) in order.into_iter().take(left) {
        whole[at] += 1;
    }
    whole
}

/// Most slots that [`grouped`] spends on exact proportions.
const EXACT: u64 = 1024;

/// Weights with which each group gets its share of all connections, and its members theirs in proportion to their own
/// weights.
///
/// `shares` has a number a group, `group` the group of each endpoint, `weights` the weight of each within its group.
/// The answer is exact where few slots allow that; else a group gets its share of one slot in about a thousand (more
/// where there are many endpoints), and its members are within one slot of theirs. Groups that have a share but no
/// members with a weight are left out, and the others share what was theirs.
#[must_use]
pub fn grouped(shares: &[u32], group: &[usize], weights: &[u32]) -> Vec<u32> {
    let mut totals = vec![0_u64; shares.len()];
    for (group, weight) in group.iter().zip(weights) {
        totals[*group] += u64::from(*weight);
    }
    exact(shares, &totals, group, weights).unwrap_or_else(|| nearly(shares, &totals, group, weights))
}

/// Weights with which only those serve that `members` holds for, whose weights are `total` together. `None` where that
/// takes too many slots to be exact.
pub(crate) fn alone(members: impl Iterator<Item = bool>, weights: &[u32], total: u64) -> Option<Vec<u32>> {
    let weight = |(is_member, weight): (bool, &u32)| if is_member { *weight } else { 0 };
    (total <= EXACT).then(|| members.zip(weights).map(weight).collect())
}

fn exact(shares: &[u32], totals: &[u64], group: &[usize], weights: &[u32]) -> Option<Vec<u32>> {
    let mut that_count = (0..shares.len()).filter(|which| shares[*which] > 0 && totals[*which] > 0);
    if let (Some(only), None) = (that_count.next(), that_count.next())
        && let Some(exact) = alone(group.iter().map(|group| *group == only), weights, totals[only])
    {
        return Some(exact);
    }
    // One connection in `totals[g]` parts of a group is worth `share / total`; on a common denominator that is whole.
    // What does not fit here would not fit the slots either.
    let common = totals
        .iter()
        .filter(|total| **total > 0)
        .try_fold(1_u64, |common, total| (common / gcd(common, *total)).checked_mul(*total))?;
    let weight = |(group, weight): (&usize, &u32)| {
        let of_group = u64::from(shares[*group]).checked_mul(common / totals[*group].max(1))?;
        of_group.checked_mul(u64::from(*weight))
    };
    let exact: Vec<u64> = group.iter().zip(weights).map(weight).collect::<Option<_>>()?;
    let divisor = exact.iter().copied().fold(0, gcd);
    if divisor == 0 || exact.iter().try_fold(0_u64, |sum, weight| sum.checked_add(weight / divisor))? > EXACT {
        return None;
    }
    exact.iter().map(|weight| u32::try_from(weight / divisor).ok()).collect()
}

fn nearly(shares: &[u32], totals: &[u64], group: &[usize], weights: &[u32]) -> Vec<u32> {
    let parts = u32::try_from(weights.len()).unwrap_or(u32::MAX).saturating_mul(4).clamp(1000, 16_000);
    let wanted: Vec<f64> =
        shares.iter().zip(totals).map(|(share, total)| if *total > 0 { f64::from(*share) } else { 0.0 }).collect();
    let mut all = vec![0; weights.len()];
    for (which, parts) in apportion(&wanted, parts).into_iter().enumerate().filter(|(_, parts)| *parts > 0) {
        let members: Vec<usize> = (0..weights.len()).filter(|at| group[*at] == which).collect();
        let within: Vec<f64> = members.iter().map(|at| f64::from(weights[*at])).collect();
        for (at, part) in members.iter().zip(apportion(&within, parts)) {
            all[*at] = part;
        }
    }
    all
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drained_get_nothing_unless_all_are() {
        assert_eq!(equal(&[1, 7]), Choice::plain(Share::Equal));
        let one = equal(&[1, 0, 5]);
        assert_eq!((one.share, &*one.reason), (Share::Weights(vec![1, 0, 1]), "1 of 3 endpoints drained"));
        let all = weighted(vec![0, 0]);
        assert_eq!(all.share, Share::Weights(vec![1, 1]));
        assert_eq!(all.reason, "all 2 endpoints are drained, so all serve");
        assert_eq!(weighted(vec![3, 3]), Choice::plain(Share::Equal));
        assert_eq!(weighted(vec![3, 1]), Choice::plain(Share::Weights(vec![3, 1])));
    }

    #[test]
    fn parts_add_up_and_are_within_one_of_the_quota() {
        assert_eq!(apportion(&[1.0, 1.0, 1.0], 10), [4, 3, 3]);
        assert_eq!(apportion(&[0.0, 5.0, 0.0], 8), [0, 8, 0]);
        assert_eq!(apportion(&[1000.0, 1.0], 10), [9, 1], "nobody with a share starves");
        assert_eq!(apportion(&[0.0, 0.0], 10), [0, 0]);
        let shares: Vec<f64> = (1..50).map(|n| f64::from(n * n % 37 + 1)).collect();
        let total: f64 = shares.iter().sum();
        let parts = apportion(&shares, 4000);
        assert_eq!(parts.iter().sum::<u32>(), 4000);
        for (part, share) in parts.iter().zip(&shares) {
            assert!((f64::from(*part) - share / total * 4000.0).abs() <= 1.0);
        }
    }

    #[test]
    fn groups_get_their_shares_exactly_while_that_is_cheap() {
        // A tenth to the first two of six.
        let group = [0, 0, 1, 1, 1, 1];
        assert_eq!(grouped(&[10, 90], &group, &[1; 6]), [2, 2, 9, 9, 9, 9]);
        assert_eq!(grouped(&[10, 90], &group, &[1, 0, 1, 1, 1, 1]), [4, 0, 9, 9, 9, 9]);
        assert_eq!(grouped(&[10, 90], &[0, 0], &[1, 3]), [1, 3], "a group that is not there gets nothing");
        assert_eq!(grouped(&[0, 100], &group, &[1; 6]), [0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn large_groups_get_their_shares_to_a_thousandth() {
        let group: Vec<usize> = (0..250).map(|at| usize::from(at >= 37)).collect();
        let weights = grouped(&[10, 90], &group, &vec![1; 250]);
        let first: u32 = weights[..37].iter().sum();
        let all: u32 = weights.iter().sum();
        assert!((f64::from(first) / f64::from(all) - 0.1).abs() < 0.001, "{first} of {all}");
        assert!(all <= 1100 && weights.iter().all(|weight| *weight > 0));
    }
}
