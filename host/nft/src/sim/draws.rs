//! Every combination of the numbers drawn for a packet, one after the other.

/// A part of all connections, as a reduced fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Numerator.
    pub count: u64,
    /// Denominator.
    pub of: u64,
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self { count: 1, of: 1 };
    /// None of them.
    pub(super) const NONE: Self = Self { count: 0, of: 1 };

    /// As a number from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share is shown with a few digits")]
    pub fn as_f64(self) -> f64 {
        self.count as f64 / self.of as f64
    }

    pub(super) fn add(&mut self, other: Self) {
        let common = self.of / gcd(self.of, other.of) * other.of;
        let count = self.count * (common / self.of) + other.count * (common / other.of);
        let divisor = gcd(count, common);
        *self = Self { count: count / divisor, of: common / divisor };
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The numbers of one walk: those drawn so far are replayed, further ones start at 0.
#[derive(Debug, Default)]
pub(super) struct Draws {
    /// (value, number of values) in the order drawn.
    drawn: Vec<(u32, u32)>,
    at: usize,
}

impl Draws {
    /// The next number, 0 to `modulus` − 1.
    pub(super) fn draw(&mut self, modulus: u32) -> u32 {
        if self.at == self.drawn.len() {
            self.drawn.push((0, modulus.max(1)));
        }
        self.at += 1;
        self.drawn[self.at - 1].0
    }

    /// How likely this combination is.
    pub(super) fn share(&self) -> Share {
        Share { count: 1, of: self.drawn.iter().map(|(_, modulus)| u64::from(*modulus)).product() }
    }

    /// Goes on to the next combination; false when there is none.
    pub(super) fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((value, modulus)) = self.drawn.pop() {
            if value + 1 < modulus {
                self.drawn.push((value + 1, modulus));
                return true;
            }
        }
        false
    }
}
