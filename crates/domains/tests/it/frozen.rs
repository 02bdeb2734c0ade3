//! What stands in logs and snapshots has a shape that never changes in silence.
//!
//! `golden/<category>/<type>.<schema>.json` is an event as a program of that schema has written it. When an event
//! changes, its file no longer matches: add an upcaster, which makes a new schema, and let `UPDATE_GOLDEN=1` write
//! its file. A file that is there is never written again. `state.<revision>.json` is the state after all of them, as it
//! stands in baselines, and older ones must become the newest by `Decider::upcast_state`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sillage_domains::likes::{LikeSetEvent, Likes, LikesClosedEvent};
use sillage_kernel::{
    BASELINE_SCHEMA, BASELINE_TAKEN, Baseline, Checksum, CommandId, Decider, DomainEvent, Version,
};

#[test]
fn likes() {
    let command_id: CommandId = serde_json::from_str(r#""019bd64a-0800-4000-8000-000000000001""#).unwrap();
    let (target_id, at) = ("article-1".to_owned(), "2026-01-19T12:00:00.000001Z".parse().unwrap());
    check::<Likes>(&[
        LikeSetEvent {
            command_id,
            like_id: "l-1".into(),
            target_id: target_id.clone(),
            user_id: "alice".parse().unwrap(),
            active: true,
            count: 1,
            version: Version::new(1),
            at,
        }
        .into(),
        LikesClosedEvent { command_id, target_id, closed: true, version: Version::new(2), at }.into(),
    ]);
}

#[test]
fn baselines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/baseline");
    std::fs::create_dir_all(&folder).unwrap();
    let baseline = Baseline {
        stream: "like-article-1".parse().unwrap(),
        version: Version::new(2),
        event: serde_json::from_str(r#""019bd64a-0800-7000-8000-000000000002""#).unwrap(),
        checksum: Checksum(std::array::from_fn(|at| u8::try_from(at).unwrap())),
        recorded_at: "2026-01-19T12:00:00.000001Z".parse().unwrap(),
        revision: 1,
        state: serde_json::json!({"closed": true}),
    };
    let file = folder.join(format!("{BASELINE_TAKEN}.{BASELINE_SCHEMA}.json"));
    compare(&file, &baseline.encode());
    let there = std::fs::read_to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<Baseline>(&there).unwrap(), baseline);
    let files = u16::try_from(std::fs::read_dir(&folder).unwrap().count()).unwrap();
    assert_eq!(files, BASELINE_SCHEMA, "what stands in a log must be readable for ever");
}

/// `samples` has one event of each type, with every field in it.
fn check<D: Decider>(samples: &[D::Event]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(D::CATEGORY);
    std::fs::create_dir_all(&folder).unwrap();
    let types: Vec<_> = samples.iter().map(DomainEvent::event_type).collect();
    assert_eq!(types, D::Event::TYPES, "there is one sample of each type, in their order");
    let mut expected = BTreeSet::new();
    let mut state = D::State::default();
    for sample in samples {
        let event_type = sample.event_type();
        let newest = D::Event::schema(event_type);
        for schema in 1..=newest {
            let file = folder.join(format!("{event_type}.{schema}.json"));
            if schema == newest {
                compare(&file, &sample.encode());
            }
            let written =
                std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is missing", file.display()));
            let event =
                D::Event::decode(event_type, &upcast::<D::Event>(event_type, schema, written.trim_end()));
            D::evolve(&mut state, &event.unwrap_or_else(|error| panic!("{}: {error}", file.display())));
            expected.insert(file);
        }
    }
    expected.extend(check_states::<D>(&folder, &state));
    let there: BTreeSet<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    let lost: Vec<_> = there.difference(&expected).collect();
    assert!(lost.is_empty(), "what stands in a log must be readable for ever: {lost:?}");
}

/// A state of each revision becomes the newest one: it may stand in a baseline.
fn check_states<D: Decider>(folder: &Path, newest: &D::State) -> Vec<PathBuf> {
    let states = (1..=D::REVISION).map(|revision| (revision, folder.join(format!("state.{revision}.json"))));
    let check = |(revision, file): (u32, PathBuf)| {
        if revision == D::REVISION {
            compare(&file, &serde_json::to_string(newest).unwrap());
        }
        let written =
            std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is missing", file.display()));
        let state = D::upcast_state(revision, serde_json::from_str(&written).unwrap());
        let state =
            state.unwrap_or_else(|| panic!("a baseline of revision {revision} could no longer be read"));
        serde_json::from_value::<D::State>(state)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file
    };
    states.map(check).collect()
}

fn upcast<E: DomainEvent>(event_type: &str, schema: u16, data: &str) -> String {
    let steps = E::upcasters()
        .iter()
        .find(|upcaster| upcaster.event_type == event_type)
        .map_or(&[][..], |own| own.steps);
    let data: Value = serde_json::from_str(data).unwrap();
    steps.iter().skip(usize::from(schema) - 1).fold(data, |data, step| step(data)).to_string()
}

fn compare(file: &Path, now: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !file.exists() {
        std::fs::write(file, format!("{now}\n")).unwrap();
    }
    let then = std::fs::read_to_string(file)
        .unwrap_or_else(|_| panic!("{} is missing: UPDATE_GOLDEN=1 writes it", file.display()));
    assert_eq!(
        now,
        then.trim_end(),
        "{} has changed. An event needs an upcaster, a state a new REVISION; then UPDATE_GOLDEN=1 writes the new file",
        file.display()
    );
}
