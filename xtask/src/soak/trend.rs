//! A line through a figure's samples, and how sure its slope is.

use serde::Serialize;

/// How a figure changes with time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Trend {
    /// Where the line begins.
    pub(crate) start: f64,
    /// Its slope, for each hour.
    pub(crate) per_hour: f64,
    /// The slope's uncertainty: twice its standard error, which 95 of 100 true slopes are within.
    pub(crate) uncertainty: f64,
}

const HOUR: f64 = 3600.0;

impl Trend {
    /// The line of least squares through `(seconds, figure)`. Fewer than three samples have none.
    pub(crate) fn of(samples: &[(f64, f64)]) -> Option<Trend> {
        let count = samples.len() as f64;
        if samples.len() < 3 {
            return None;
        }
        let mean = |value: fn(&(f64, f64)) -> f64| samples.iter().map(value).sum::<f64>() / count;
        let (time, figure) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let spread: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
        if spread == 0.0 {
            return None;
        }
        let slope = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - figure)).sum::<f64>() / spread;
        let line = |at: f64| figure + slope * (at - time);
        let rest: Vec<f64> = samples.iter().map(|sample| sample.1 - line(sample.0)).collect();
        let squares: f64 = rest.iter().map(|rest| rest * rest).sum();
        // What is left beside the line hangs together from one sample to the next, as memory does: such samples count for fewer.
        let products: f64 = rest.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let kinship = if squares > 0.0 { (products / squares).clamp(0.0, 0.95) } else { 0.0 };
        let independent = (count * (1.0 - kinship) / (1.0 + kinship)).max(3.0);
        let error = (squares / (independent - 2.0) / (spread * independent / count)).sqrt();
        Some(Trend { start: line(samples[0].0), per_hour: slope * HOUR, uncertainty: 2.0 * error * HOUR })
    }

    /// Whether it surely grows by more than this in an hour.
    pub(crate) fn is_beyond(&self, floor: f64) -> bool {
        self.per_hour > self.uncertainty + floor
    }
}

#[cfg(test)]
mod tests {
    use super::Trend;

    #[test]
    fn a_straight_line_is_found_without_uncertainty() {
        let samples: Vec<(f64, f64)> = (0..20).map(|n| (f64::from(n) * 3.0, 100.0 + 2.0 * f64::from(n))).collect();
        let trend = Trend::of(&samples).expect("enough samples");
        assert!((trend.per_hour - 2400.0).abs() < 1e-6 && trend.uncertainty < 1e-6, "{trend:?}");
        assert!((trend.start - 100.0).abs() < 1e-9, "{trend:?}");
    }

    #[test]
    fn what_goes_up_and_down_has_a_slope_within_its_uncertainty() {
        let samples: Vec<(f64, f64)> = (0..40).map(|n| (f64::from(n), f64::from(n * 7919 % 13))).collect();
        let trend = Trend::of(&samples).expect("enough samples");
        assert!(trend.per_hour.abs() < trend.uncertainty, "{trend:?}");
    }

    #[test]
    fn a_single_step_is_less_sure_than_a_steady_growth_of_the_same_slope() {
        let step: Vec<(f64, f64)> = (0..40).map(|n| (f64::from(n), if n < 20 { 0.0 } else { 20.0 })).collect();
        let steady: Vec<(f64, f64)> = (0..40).map(|n| (f64::from(n), 0.75 * f64::from(n) + f64::from(n % 2))).collect();
        let (step, steady) = (Trend::of(&step).expect("enough"), Trend::of(&steady).expect("enough"));
        assert!(step.uncertainty > 5.0 * steady.uncertainty, "{step:?} {steady:?}");
    }

    #[test]
    fn two_samples_and_one_moment_have_no_trend() {
        assert_eq!(Trend::of(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Trend::of(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }
}
