//! How much may a comparison still compute? Work is counted and no clock is read, so that a verdict never depends on
//! the machine.

/// What is left. One unit is about a multiplication of two numbers of 256 bits.
pub struct Work {
    left: u64,
}

impl Work {
    /// Enough for any answer; a comparison that would need more ends as "not equal", within 100 ms.
    pub const DEFAULT: u64 = 60_000;

    pub fn new(units: u64) -> Work {
        Work { left: units }
    }

    /// Takes `units`, or nothing is left for anything.
    pub fn spend(&mut self, units: u64) -> Option<()> {
        self.left = self.left.saturating_sub(units);
        (self.left > 0).then_some(())
    }

    /// Takes what an operation with a greatest common divisor on numbers of `bits` bits costs.
    pub fn spend_bits(&mut self, bits: u64) -> Option<()> {
        let words = bits / 64;
        self.spend(1 + words * words / 4)
    }

    /// Whether all of it is used.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }
}
