//! Moments at which something is due.

use std::time::Instant;

/// The earliest of these moments; `None` where there is none. Asked with every message, and cheaper than a chain of iterators.
#[inline]
pub(crate) fn earliest<const N: usize>(moments: [Option<Instant>; N]) -> Option<Instant> {
    let mut earliest = None;
    for &moment in &moments {
        earliest = match (earliest, moment) {
            (Some(earlier), Some(later)) if later >= earlier => Some(earlier),
            (earlier, None) => earlier,
            (_, moment) => moment,
        };
    }
    earliest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_the_earliest_of_those_that_there_are() {
        let now = Instant::now();
        let [soon, late] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
        assert_eq!(earliest([None, None]), None);
        assert_eq!(earliest([Some(late), None, Some(soon)]), Some(soon));
        assert_eq!(earliest([None, Some(soon), Some(late)]), Some(soon));
    }
}
