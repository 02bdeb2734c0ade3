//! What was backed up comes back as it was, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use sillage_kernel::{Epoch, Event, Filter, Position, Timestamp};
use sillage_store::event_store::journal::JournalStore;
use sillage_store::event_store::journal::backup::{
    BackupError, MANIFEST, Manifest, SavedFile, backup, restore,
};
use sillage_store::{EventStore, Mode};
use tempfile::TempDir;

use crate::verify::{APPENDS, append, files, flip, log, look, open, with_event};

const ID: u128 = 99;

async fn events(store: &JournalStore) -> Vec<Arc<Event>> {
    let (mut events, mut after) = (Vec::new(), Position::ZERO);
    while after < store.head() {
        let page = store.read_all(after, Filter::Everything, 1_000).await.unwrap();
        after = page.through;
        events.extend(page.events);
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_writer_is_the_log_at_some_moment() {
    let (dir, target) = (log().await, TempDir::new().unwrap());
    let store = Arc::new(open(dir.path()));
    let writing = Arc::clone(&store);
    let writer = tokio::spawn(async move {
        for n in APPENDS..12 * APPENDS {
            writing.append(vec![append(n)]).await.remove(0).unwrap();
        }
    });
    let mut heads = Vec::new();
    while !writer.is_finished() || heads.is_empty() {
        let (dir, to) = (dir.path().to_owned(), target.path().join(format!("backup-{}", heads.len())));
        let made = tokio::task::spawn_blocking(move || (backup(&dir, &to, |_| ()).unwrap(), to));
        let (manifest, to) = made.await.unwrap();
        let restored = to.with_extension("restored");
        let (again, epoch) = restore(&to, &restored, ID, |_| ()).unwrap();
        assert_eq!((&again, &manifest.epoch), (&manifest, &store.epoch()));
        assert_eq!(look(&restored).1, []);
        let restored = open(&restored);
        assert_eq!((restored.head(), restored.epoch()), (manifest.head, epoch));
        assert_ne!(restored.epoch(), store.epoch());
        let (all, back) = (events(&store).await, events(&restored).await);
        assert_eq!(back, all[..back.len()]);
        heads.push(manifest.head);
    }
    writer.await.unwrap();
    assert!(heads.is_sorted() && heads.last() > heads.first(), "{heads:?}");
    // It goes on where it was, and whoever reached outside waits.
    let restored = open(&target.path().join("backup-0.restored"));
    let mode = restored.read_cursor("r").await.unwrap().mode;
    assert_eq!((mode, restored.read_cursor("another").await.unwrap().mode), (Mode::Held, Mode::Held));
    let next = append(heads[0].get() / 2);
    assert_eq!(restored.append(vec![next]).await.remove(0).unwrap().position.get(), heads[0].get() + 2);
}

fn read_manifest(backup: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(backup.join(MANIFEST)).unwrap()).unwrap()
}

fn change_manifest(backup: &Path, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = read_manifest(backup);
    change(&mut manifest);
    fs::write(backup.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[tokio::test]
async fn a_backup_that_is_not_what_was_saved_is_not_restored() {
    type Harm = fn(&Path);
    let first = |backup: &Path| files(backup, "seg").remove(0);
    let rows: [(&str, Harm); 12] = [
        ("flipped", |backup| flip(&files(backup, "seg")[1], 700)),
        ("shorter", |backup| {
            let file = &files(backup, "seg")[1];
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("longer", |backup| {
            let file = &files(backup, "seg")[1];
            let bytes = fs::read(file).unwrap();
            fs::write(file, [bytes, vec![0]].concat()).unwrap();
        }),
        ("missing", |backup| fs::remove_file(&files(backup, "seg")[1]).unwrap()),
        ("no manifest", |backup| fs::remove_file(backup.join(MANIFEST)).unwrap()),
        ("no JSON", |backup| fs::write(backup.join(MANIFEST), "{").unwrap()),
        ("a newer format", |backup| change_manifest(backup, |manifest| manifest.format = 2)),
        ("a file left out", |backup| change_manifest(backup, |manifest| drop(manifest.files.remove(1)))),
        ("the last left out", |backup| change_manifest(backup, |manifest| drop(manifest.files.pop()))),
        ("another head", |backup| change_manifest(backup, |manifest| manifest.head = manifest.head.next())),
        ("another end", |backup| change_manifest(backup, |manifest| manifest.batches -= 1)),
        ("a name that leaves the folder", |backup| {
            let name = "../0000000000000000.seg".to_owned();
            fs::copy(files(backup, "seg").remove(0), backup.join(&name)).unwrap();
            change_manifest(backup, |manifest| manifest.files[0].name = name);
        }),
    ];
    let dir = log().await;
    for (name, harm) in rows {
        let folder = TempDir::new().unwrap();
        let (saved, to) = (folder.path().join("saved/backup"), folder.path().join("data"));
        backup(dir.path(), &saved, |_| ()).unwrap();
        assert!(first(&saved).exists());
        harm(&saved);
        let error = restore(&saved, &to, ID, |_| ()).unwrap_err();
        println!("{name}: {error}");
        let made = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let ours = |name: &str| ["saved", "data.unfinished"].contains(&name);
        let made: Vec<_> = made.map(|name| name.into_string().unwrap()).collect();
        assert!(made.iter().all(|name| ours(name)), "{name}: {made:?}");
        let told = error.to_string();
        assert!(
            told.contains(&*saved.to_string_lossy()) || told.contains("data.unfinished"),
            "{name}: {told}"
        );
    }
}

/// Whoever changes an event, its CRC and the hash in the manifest still meets the chain.
#[tokio::test]
async fn a_forged_backup_is_not_restored() {
    let dir = log().await;
    let forged = with_event(dir.path(), |event| Some(Event { data: "{\"a\":2}".into(), ..event }));
    let folder = TempDir::new().unwrap();
    let (saved, to) = (folder.path().join("backup"), folder.path().join("data"));
    let refused = backup(forged.path(), &saved, |_| ()).unwrap_err();
    assert!(matches!(refused, BackupError::Defects { defects: 1, .. }), "{refused}");
    assert!(!saved.exists(), "a log that is not sound is not backed up");

    let sound = with_event(dir.path(), Some);
    backup(sound.path(), &saved, |_| ()).unwrap();
    let file = files(&saved, "seg").remove(0);
    let len = fs::metadata(&file).unwrap().len();
    fs::copy(files(forged.path(), "seg").remove(0), &file).unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len).unwrap();
    let error = restore(&saved, &to, ID, |_| ()).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    fs::remove_dir_all(to.with_extension("unfinished")).unwrap();
    let hash: String =
        Sha256::digest(fs::read(&file).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    change_manifest(&saved, |manifest| manifest.files[0].sha256 = hash);
    let error = restore(&saved, &to, ID, |_| ()).unwrap_err();
    assert!(matches!(error, BackupError::Defects { defects: 1, .. }), "{error}");
    assert!(!to.exists());
}

#[tokio::test]
async fn nothing_that_is_there_is_overwritten() {
    let (dir, folder) = (log().await, TempDir::new().unwrap());
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    backup(dir.path(), &at("one"), |_| ()).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("begun.unfinished")).unwrap();
    for there in ["one", "empty", "begun"] {
        let made = backup(dir.path(), &at(there), |_| ()).unwrap_err();
        assert!(matches!(made, BackupError::Exists(_)), "{there}: {made}");
        let back = restore(&at("one"), &at(there), ID, |_| ()).unwrap_err();
        assert!(matches!(back, BackupError::Exists(_)), "{there}: {back}");
    }
    assert!(!at("begun").exists());
}

#[tokio::test]
async fn a_log_without_events_can_be_saved_and_a_folder_without_a_log_cannot() {
    let (dir, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (saved, to) = (folder.path().join("backup"), folder.path().join("data"));
    let none = backup(dir.path(), &saved, |_| ()).unwrap_err();
    assert!(matches!(none, BackupError::NoLog(_)) && !saved.exists(), "{none}");
    drop(open(dir.path()));
    backup(dir.path(), &saved, |_| ()).unwrap();
    restore(&saved, &to, ID, |_| ()).unwrap();
    let store = open(&to);
    assert_eq!((store.head(), store.epoch()), (Position::ZERO, Epoch::from_log_id(ID)));
}

/// Backups that were made before must be readable for ever.
#[test]
fn the_shape_of_the_manifest_is_locked() {
    let manifest = Manifest {
        format: 1,
        made_at: Timestamp::from_micros(1_768_824_000_000_000),
        epoch: Epoch::from_log_id(1),
        head: Position::new(5),
        end: 400,
        batches: 3,
        checksum: 77,
        files: vec![SavedFile { name: "0000000000000000.seg".into(), bytes: 400, sha256: "ab".into() }],
    };
    let json = r#"{"format":1,"made_at":"2026-01-19T12:00:00Z","epoch":"00000000000000000000000000000001","head":5,"end":400,"batches":3,"checksum":77,"files":[{"name":"0000000000000000.seg","bytes":400,"sha256":"ab"}]}"#;
    assert_eq!(serde_json::to_string(&manifest).unwrap(), json);
    assert_eq!(serde_json::from_str::<Manifest>(json).unwrap(), manifest);
}
