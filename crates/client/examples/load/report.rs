//! What came out: a line for a person, and a row of a table.

use std::fmt;
use std::time::Duration;

use crate::histogram::Histogram;
use crate::process::Taken;

/// What came out of one measurement.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// What was measured.
    pub(crate) what: String,
    /// How much of it, with its unit.
    pub(crate) result: String,
    /// How long one took.
    pub(crate) latency: Option<Histogram>,
    /// What it cost.
    pub(crate) cost: Option<Cost>,
    /// What else is to be said.
    pub(crate) notes: Vec<String>,
}

/// What so many things cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) taken: Taken,
    pub(crate) things: u64,
}

impl Cost {
    fn own_cores(&self) -> f64 {
        self.taken.own.as_secs_f64() / self.taken.time.as_secs_f64()
    }

    fn server_cores(&self) -> Option<f64> {
        Some(self.taken.server?.as_secs_f64() / self.taken.time.as_secs_f64())
    }

    fn server_micros_each(&self) -> Option<f64> {
        let things = u32::try_from(self.things).ok().filter(|things| *things > 0)?;
        Some(self.taken.server?.as_secs_f64() * 1e6 / f64::from(things))
    }
}

/// A number a second, of whole things.
pub(crate) fn rate(things: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    things.saturating_mul(1_000_000) / micros
}

/// A number with commas.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

fn optional(number: Option<f64>) -> String {
    number.map_or_else(|| "–".to_owned(), |number| format!("{number:.2}"))
}

impl Report {
    pub(crate) const TABLE_HEAD: &'static str = "\
| what | result | p50 ms | p99 ms | p99.9 ms | server µs each | server cores | driver cores | notes |
|---|---|---|---|---|---|---|---|---|";

    pub(crate) fn row(&self) -> String {
        let Self { what, result, latency, cost, notes } = self;
        let at = |per_mille| {
            latency.as_ref().map_or_else(|| "–".to_owned(), |all| millis(all.per_mille(per_mille)))
        };
        let each = optional(cost.and_then(|cost| cost.server_micros_each()));
        let server = optional(cost.and_then(|cost| cost.server_cores()));
        let own = optional(cost.map(|cost| cost.own_cores()));
        let (p50, p99, p999) = (at(500), at(990), at(999));
        let notes = notes.join("; ");
        format!("| {what} | {result} | {p50} | {p99} | {p999} | {each} | {server} | {own} | {notes} |")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, result, latency, cost, notes } = self;
        writeln!(f, "{what}: {result}")?;
        if let Some(latency) = latency {
            let [p50, p99, p999] = [500, 990, 999].map(|per_mille| millis(latency.per_mille(per_mille)));
            writeln!(f, "  p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms of {}", grouped(latency.count()))?;
        }
        if let Some(cost) = cost {
            write!(f, "  driver {:.2} cores", cost.own_cores())?;
            if let (Some(cores), Some(each)) = (cost.server_cores(), cost.server_micros_each()) {
                write!(f, ", server {cores:.2} cores, {each:.2} µs each")?;
            }
            writeln!(f)?;
        }
        notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_rate_is_of_a_second() {
        assert_eq!(rate(500, Duration::from_millis(250)), 2_000);
        assert_eq!(rate(5, Duration::ZERO), 5_000_000);
    }
}
