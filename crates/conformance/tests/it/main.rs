//! The suites, asked of every engine.

#![cfg(test)]

mod crash;
mod journal;
mod memory;
mod postgres;

use std::path::Path;

sillage_conformance::event_store!(memory_engine, || async { memory::Memory::default() });
sillage_conformance::event_store!(memory_engine_upcast, || async { memory::Upcast::default() });
sillage_conformance::event_store!(journal_engine, || async { journal::InFolder::new() });
sillage_conformance::event_store!(journal_engine_with_small_runs, || async {
    journal::InFolder::with_small_runs()
});
sillage_conformance::event_store!(together: postgres_engine, || async { postgres::OnPostgres::new().await });
sillage_conformance::event_store!(together: postgres_engine_without_memory, || async {
    postgres::OnPostgres::without_memory().await
});

#[test]
#[should_panic(expected = "these do not hold: [\"broken\"]")]
fn a_property_that_does_not_hold_together_with_others_is_named() {
    sillage_conformance::event_store::hold_together(&[
        ("broken", || Box::pin(async { panic!("on purpose") })),
        ("kept", || Box::pin(async {})),
    ]);
}

/// A property that no test asks for would be broken without notice. One that is listed and not there does
/// not compile.
#[test]
fn every_property_is_in_the_list() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let list = std::fs::read_to_string(source.join("event_store.rs")).unwrap();
    let mut found = 0;
    for file in std::fs::read_dir(source.join("event_store")).unwrap() {
        let path = file.unwrap().path();
        let group = path.file_stem().unwrap().to_str().unwrap();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Some(rest) = line.strip_prefix("pub async fn ") else { continue };
            let property = format!("{group}: {};", rest.split('(').next().unwrap());
            assert!(list.contains(&property), "`{property}` is missing in event_store.rs");
            found += 1;
        }
    }
    assert!(found > 0, "the properties have moved");
}
