//! Lists of endpoints beside each other: all are sorted alike.

use std::iter::Peekable;
use std::net::IpAddr;

/// An endpoint's address and port: lists of endpoints are sorted by it.
pub(crate) type Place = (IpAddr, u16);

/// Looks places up in a list, for somebody who asks in ascending order as well: one walk for all.
pub(crate) struct Walk<I: Iterator>(Peekable<I>);

impl<T, I: Iterator<Item = (Place, T)>> Walk<I> {
    /// Walks over `list`, which is sorted by place.
    pub(crate) fn over(list: impl IntoIterator<IntoIter = I>) -> Self {
        Self(list.into_iter().peekable())
    }

    /// What the list has at a place that comes after all that were asked for so far.
    pub(crate) fn find(&mut self, place: Place) -> Option<T> {
        let here = |(other, _): &(Place, T)| *other == place;
        // Mostly the lists agree, and whether two places are one is told faster than which comes first.
        let found = self.0.next_if(here).or_else(|| {
            while self.0.next_if(|(other, _)| *other < place).is_some() {}
            self.0.next_if(here)
        });
        found.map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_found_once_and_what_is_missing_costs_nothing() {
        let place = |number: u8| (IpAddr::from([10, 0, 0, number]), 80);
        let mut walk = Walk::over([(place(1), 'a'), (place(3), 'c'), (place(4), 'd'), (place(9), 'i')]);
        let found = [1, 2, 4, 7, 9, 10].map(|number| walk.find(place(number)));
        assert_eq!(found, [Some('a'), None, Some('d'), None, Some('i'), None]);
    }
}
