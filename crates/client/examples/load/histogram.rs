//! How long things took, in a fixed amount of memory: 64 steps for each doubling, so within 1.6 %.

use std::time::Duration;

const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();
/// Up to 2^36 µs, which is 19 hours.
const DOUBLINGS: usize = 31;
const CELLS: usize = DOUBLINGS * 64;

/// How often things took how long.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    cells: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { cells: vec![0; CELLS], count: 0 }
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(cell) = self.cells.get_mut(cell_of(micros).min(CELLS - 1)) {
            *cell += 1;
            self.count += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.cells.iter_mut().zip(&other.cells).for_each(|(cell, more)| *cell += more);
        self.count += other.count;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// So many in a thousand took no longer than this.
    pub(crate) fn per_mille(&self, per_mille: u64) -> Duration {
        let wanted = (self.count * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (cell, count) in self.cells.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper_bound(cell));
            }
        }
        Duration::ZERO
    }
}

/// The first 64 cells are a microsecond wide; each 32 cells after them are twice as wide as those before.
fn cell_of(micros: u64) -> usize {
    let doublings = (u64::BITS - micros.leading_zeros()).saturating_sub(STEP_BITS);
    let within = micros >> doublings;
    usize::try_from(u64::from(doublings) * STEPS / 2 + within).unwrap_or(usize::MAX)
}

fn upper_bound(cell: usize) -> u64 {
    let cell = cell as u64;
    if cell < STEPS {
        return cell;
    }
    let doublings = (cell - STEPS / 2) / (STEPS / 2);
    let within = cell - doublings * STEPS / 2;
    ((within + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_found_again_within_two_per_cent() {
        for micros in (0..2_000).chain((1..30).map(|n| (1 << n) + 3)).chain([59_999_999]) {
            let mut histogram = Histogram::new();
            histogram.record(Duration::from_micros(micros));
            let found = u64::try_from(histogram.per_mille(500).as_micros()).unwrap();
            assert!(found >= micros && found * 100 <= micros * 104, "{micros}: {found}");
        }
    }
}
