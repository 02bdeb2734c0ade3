//! A table of rows side by side: cells are interleaved over three rounds, and each has the median.

use std::time::Duration;

/// How many appends wait at a time: the columns.
pub const WAITING: [usize; 4] = [1, 8, 64, 512];
const ROUNDS: usize = 3;

/// What is measured in one cell: durable events a second, with so many appends waiting.
pub type Measure = Box<dyn Fn(usize, Duration) -> f64>;

/// Measures all rows and prints them. `CELL_SECONDS` (2) makes cells longer; `ROWS=journal` measures only the rows with
/// that in their names, and `WAITING=512` only that column: for a profile.
pub fn measure(mut rows: Vec<(&str, Measure)>) {
    let seconds =
        std::env::var("CELL_SECONDS").map_or(2.0, |text| text.parse().expect("a number of seconds"));
    let time = Duration::from_secs_f64(seconds);
    let (only_row, only_column) = (std::env::var("ROWS"), std::env::var("WAITING"));
    rows.retain(|(name, _)| only_row.as_ref().is_ok_and(|only| name.contains(only)) || only_row.is_err());
    let wanted = |waiting: usize| only_column.as_ref().map_or(true, |only| *only == waiting.to_string());
    let mut cells = vec![[const { Vec::new() }; WAITING.len()]; rows.len()];
    for round in 0..ROUNDS {
        for (column, waiting) in WAITING.into_iter().enumerate().filter(|(_, waiting)| wanted(*waiting)) {
            // Whoever comes first finds the disk as nobody else does, so that goes round.
            for turn in 0..rows.len() {
                let row = (turn + round) % rows.len();
                let (name, measure) = &rows[row];
                let rate = measure(waiting, time);
                eprintln!("round {}, {waiting} waiting, {name}: {rate:.0} events/s", round + 1);
                cells[row][column].push(rate);
            }
        }
    }
    print(&rows.iter().map(|(name, _)| *name).collect::<Vec<_>>(), &mut cells);
}

fn print(names: &[&str], cells: &mut [[Vec<f64>; WAITING.len()]]) {
    println!("| durable events/s, median of {ROUNDS} (lowest to highest) | 1 waiting | 8 | 64 | 512 |");
    println!("|---|---|---|---|---|");
    for (name, row) in names.iter().zip(cells) {
        let text = row.iter_mut().filter(|rounds| !rounds.is_empty()).map(|rounds| {
            rounds.sort_by(f64::total_cmp);
            let [lowest, median, highest] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| thousands(rounds[at]));
            format!("{median} ({lowest} to {highest})")
        });
        println!("| {name} | {} |", text.collect::<Vec<_>>().join(" | "));
    }
}

/// A number with a comma between its thousands.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
