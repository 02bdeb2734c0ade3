//! Durable appends, side by side: the raw file, our journal, SQLite and tephra as libraries; UmaDB as a server.
//!
//! In every cell 1, 8, 64 or 512 appends wait at a time, each with one event of 400 bytes, over 10,000 streams, with the
//! expected version checked, and each is answered when it is on the disk. Every cell has a fresh folder beside the build,
//! and so on the disk that the build is on.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml` does it all. The first argument is the program of UmaDB's
//! server; without it that row is left out. See [`table::measure`] for what can be set.

mod journal;
mod ours;
mod peer;
mod queued;
mod raw;
mod sqlite;
mod table;
mod tephra;
mod umadb;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use self::raw::Space;
use self::table::Measure;

/// As our server has it; for all rows alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut rows = vec![
        (
            "raw file, growing",
            in_folder(|folder, waiting, time| raw::measure(Space::Growing, folder, waiting, time)),
        ),
        (
            "raw file, zeroed ahead",
            in_folder(|folder, waiting, time| raw::measure(Space::Zeroed, folder, waiting, time)),
        ),
        ("raw file behind a queue", in_folder(queued::measure)),
        ("Sillage's journal", in_folder(journal::measure)),
        ("SQLite, unique (stream, version)", in_folder(sqlite::measure)),
        ("tephra", in_folder(tephra::measure)),
    ];
    match std::env::args().nth(1) {
        Some(program) => rows.push((
            "UmaDB, a server",
            in_folder(move |folder, waiting, time| umadb::measure(&program, folder, waiting, time)),
        )),
        None => eprintln!("UmaDB is left out: name the program of its server"),
    }
    table::measure(rows);
}

/// A measurement that has an empty folder, beside the build, since a folder of temporary files may be in memory.
fn in_folder(measure: impl Fn(&Path, usize, Duration) -> f64 + 'static) -> Measure {
    Box::new(move |waiting, time| {
        let program = std::env::current_exe().expect("this program");
        let folder = TempDir::new_in(program.parent().expect("it is in a folder")).expect("a folder");
        measure(folder.path(), waiting, time)
    })
}
