//! Durable appends, side by side: the raw file, our journal, SQLite and tephra as libraries; UmaDB as a server.
//!
//! In every cell 1, 8, 64 or 512 appends wait at a time, each with one event of 400 bytes, over 10,000 streams, with the
//! expected version checked, and each is answered when it is on the disk. Every cell has a fresh folder beside the build,
//! and so on the disk that the build is on. Cells are interleaved over three rounds; the table has the medians.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml` does it all. `CELL_SECONDS` (2) makes it longer. The first
//! argument is the program of UmaDB's server; without it that row is left out. `ROWS=journal` measures only the rows with
//! that in their names, and `WAITING=512` only that column: for a profile.

mod journal;
mod peer;
mod queued;
mod raw;
mod sqlite;
mod tephra;
mod umadb;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use self::raw::Space;

/// As our server has it; for all rows alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is measured in one cell: durable events a second, with so many appends waiting, in an empty folder.
type Measure = Box<dyn Fn(&Path, usize, Duration) -> f64>;

const WAITING: [usize; 4] = [1, 8, 64, 512];
const ROUNDS: usize = 3;

fn main() {
    let seconds =
        std::env::var("CELL_SECONDS").map_or(2.0, |text| text.parse().expect("a number of seconds"));
    let time = Duration::from_secs_f64(seconds);
    let mut rows: Vec<(&str, Measure)> = vec![
        (
            "raw file, growing",
            Box::new(|folder, waiting, time| raw::measure(Space::Growing, folder, waiting, time)),
        ),
        (
            "raw file, zeroed ahead",
            Box::new(|folder, waiting, time| raw::measure(Space::Zeroed, folder, waiting, time)),
        ),
        ("raw file behind a queue", Box::new(queued::measure)),
        ("Sillage's journal", Box::new(journal::measure)),
        ("SQLite, unique (stream, version)", Box::new(sqlite::measure)),
        ("tephra", Box::new(tephra::measure)),
    ];
    match std::env::args().nth(1) {
        Some(program) => rows.push((
            "UmaDB, a server",
            Box::new(move |folder, waiting, time| umadb::measure(&program, folder, waiting, time)),
        )),
        None => eprintln!("UmaDB is left out: name the program of its server"),
    }
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
                let folder = scratch();
                let rate = measure(folder.path(), waiting, time);
                eprintln!("round {}, {waiting} waiting, {name}: {rate:.0} events/s", round + 1);
                cells[row][column].push(rate);
            }
        }
    }
    print(&rows.iter().map(|(name, _)| *name).collect::<Vec<_>>(), &mut cells);
}

/// An empty folder beside the build, since a folder of temporary files may be in memory.
fn scratch() -> TempDir {
    let program = std::env::current_exe().expect("this program");
    TempDir::new_in(program.parent().expect("it is in a folder")).expect("a folder")
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
