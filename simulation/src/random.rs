//! Small deterministic random numbers (splitmix64).

/// A generator; two of the same state give the same numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The generator for what these numbers name. It depends on nothing that happened before, so that leaving one thing out
    /// of a script changes little else.
    pub(super) fn of(seed: u64, what: u64, which: u64) -> Random {
        let mut random =
            Random(seed ^ what.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ which.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Random(random.next())
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Whether something happens that does in so many cases of a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number of both bounds or between them.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }
}
