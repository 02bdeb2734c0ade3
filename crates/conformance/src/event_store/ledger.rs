//! The ledger: what became of each command, once and for ever.

use std::collections::BTreeSet;

use sillage_kernel::{ContentHash, Expected, Outcome, Position, Receipt, Rejection, StreamName, Version};
use sillage_store::{AppendError, EventStore, LedgerEntry, LedgerKey, Verdict};
use tokio::task::JoinSet;

use super::Fixture;
use super::things::{
    CONTENT, add, append_one, assert_kept, conflict, entry, exactly, kept, look_up, new_command, settling,
    tenant, thing, user, version_of, whole_log,
};

/// An append that settles a command returns its receipt, and from then on the ledger tells the same.
pub async fn a_receipt_tells_what_became_of_a_command(fixture: impl Fixture) {
    let store = &*fixture.store();
    let target = thing("target");
    for settled in settle_each_way(store, &target).await {
        let Settled { key, entry, head } = settled;
        assert_eq!(entry.receipt.position, head, "the log reflects the outcome from here on");
        assert_eq!(look_up(store, &key).await, Some(entry));
    }
    assert_eq!(version_of(store, &target).await, 3, "what has no events takes no version of its target");
}

/// A command with what the ledger must say of it, and the head after it was settled.
pub(super) struct Settled {
    pub(super) key: LedgerKey,
    pub(super) entry: LedgerEntry,
    head: Position,
}

/// Settles a command of each kind, and asserts that each append returned the right receipt.
pub(super) async fn settle_each_way(store: &dyn EventStore, target: &StreamName) -> Vec<Settled> {
    let outcomes = StreamName::outcomes_of(&user("anna"));
    let rejected = rejection();
    let told = |expected| [entry(target, expected, 0), entry(&outcomes, Expected::Any, 1)];
    let applied = Outcome::Applied { versions: [1, 2, 3].map(Version::new).into() };
    let mut settled = Vec::new();
    for (verdict, outcome, entries) in [
        (
            Verdict::Rejected(rejected.clone()),
            Outcome::Rejected(rejected.clone()),
            told(Expected::NoStream).to_vec(),
        ),
        (Verdict::Applied, applied, vec![entry(target, Expected::NoStream, 3)]),
        (Verdict::Unchanged, Outcome::Unchanged, told(exactly(3)).to_vec()),
        (Verdict::Rejected(rejected.clone()), Outcome::Rejected(rejected), told(Expected::Any).to_vec()),
        (Verdict::Unchanged, Outcome::Unchanged, vec![entry(target, exactly(3), 0)]),
    ] {
        let key = new_command();
        assert_eq!(look_up(store, &key).await, None, "it was not sent yet");
        let appended = append_one(store, settling(&key, verdict, entries)).await.unwrap();
        let receipt = Receipt {
            stream: target.clone(),
            command_id: key.command_id,
            outcome,
            position: appended.position,
        };
        assert_eq!(appended.receipt.as_ref(), Some(&receipt));
        settled.push(Settled { key, entry: LedgerEntry { content: CONTENT, receipt }, head: store.head() });
    }
    settled
}

/// A refusal with all that it can have.
fn rejection() -> Rejection {
    let details = r#"{"limit":3,"of":["a","b"],"é":1.5}"#.parse().unwrap();
    Rejection { details, ..Rejection::new("too_many", "There are „too many“ things.") }
}

/// The receipt of an append over several streams names the versions in the stream of the command only.
pub async fn a_receipt_names_the_versions_of_its_own_stream_only(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (target, other) = (thing("target"), thing("other"));
    add(store, &target, 4).await;
    let key = new_command();
    let entries = [entry(&target, exactly(4), 2), entry(&other, Expected::NoStream, 3)];
    let appended = append_one(store, settling(&key, Verdict::Applied, entries)).await.unwrap();
    let receipt = appended.receipt.unwrap();
    assert_eq!(receipt.outcome, Outcome::Applied { versions: [5, 6].map(Version::new).into() });
    assert_eq!(receipt.position, appended.position);
    assert_eq!(store.head(), appended.position);
}

/// A command that comes again, as it was or with another content, stream and verdict, appends nothing and
/// is answered with its first outcome. It need not fit the streams any more to be recognised.
pub async fn a_repeated_command_gets_its_first_outcome(fixture: impl Fixture) {
    let store = &*fixture.store();
    let target = thing("target");
    let settled = settle_each_way(store, &target).await;
    let before = kept(store).await;
    for Settled { key, entry: first, head: _ } in &settled {
        let again = settling(key, Verdict::Applied, [entry(&target, Expected::NoStream, 3)]);
        let fits = settling(key, Verdict::Applied, [entry(&target, exactly(3), 1)]);
        let mut another = settling(key, Verdict::Unchanged, [entry(&thing("elsewhere"), Expected::Any, 1)]);
        another.ledger.as_mut().unwrap().content = ContentHash([8; 16]);
        for repeated in [again, fits, another] {
            let result = append_one(store, repeated).await;
            assert_eq!(result, Err(AppendError::Known(Box::new(first.clone()))));
        }
        assert_eq!(look_up(store, key).await.as_ref(), Some(first));
    }
    assert_kept(store, &before, "repeated").await;
    let keys: Vec<LedgerKey> = settled.iter().rev().map(|settled| settled.key.clone()).collect();
    let mut entries: Vec<_> = settled.into_iter().rev().map(|settled| Some(settled.entry)).collect();
    entries.insert(2, None);
    let unknown = [&keys[..2], &[new_command()], &keys[2..]].concat();
    assert_eq!(store.look_up(unknown).await.unwrap(), entries, "answers come in the order of the keys");
    assert_eq!(store.look_up(Vec::new()).await.unwrap(), []);
}

/// Within one call too a command is settled once: what comes later gets what came first.
pub async fn a_command_is_known_to_the_rest_of_its_call(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (stream, key) = (thing("a"), new_command());
    let attempt = |events| settling(&key, Verdict::Applied, [entry(&stream, Expected::Any, events)]);
    let results = store.append(vec![attempt(2), attempt(1), attempt(3)]).await;
    let first = results[0].clone().unwrap().receipt.unwrap();
    let known = LedgerEntry { content: CONTENT, receipt: first };
    for later in &results[1..] {
        assert_eq!(*later, Err(AppendError::Known(Box::new(known.clone()))));
    }
    assert_eq!(look_up(store, &key).await, Some(known));
    assert_eq!(version_of(store, &stream).await, 2);
}

/// One id sent to two streams at once, in one call or in two, is taken in one of them.
pub async fn one_id_sent_to_two_streams_wins_once(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (a, b) = (thing("a"), thing("b"));
    let to = |key: &LedgerKey, stream| settling(key, Verdict::Applied, [entry(stream, Expected::Any, 1)]);
    for round in 1..=5 {
        let key = new_command();
        let results = store.append(vec![to(&key, &a), to(&key, &b)]).await;
        assert!(matches!(&results[..], [Ok(_), Err(AppendError::Known(_))]), "{results:?}");
        let key = new_command();
        let (first, second) = (store.append(vec![to(&key, &b)]), store.append(vec![to(&key, &a)]));
        assert!(matches!(second.await[0], Err(AppendError::Known(_))));
        assert!(first.await[0].is_ok());
        assert_eq!((version_of(store, &a).await, version_of(store, &b).await), (round, round));
    }
}

/// However many send one id at the same time, it is taken once, and all others are told the same.
pub async fn one_id_sent_by_many_at_once_wins_once(fixture: impl Fixture) {
    let store = fixture.store();
    let key = new_command();
    let mut senders = JoinSet::new();
    for n in 0..16 {
        let attempt = settling(&key, Verdict::Applied, [entry(&thing(n), Expected::NoStream, 1)]);
        let store = store.clone();
        senders.spawn(async move { append_one(&*store, attempt).await });
    }
    let mut receipts = Vec::new();
    let mut taken = 0;
    for result in senders.join_all().await {
        match result {
            Ok(appended) => {
                taken += 1;
                receipts.push(appended.receipt.unwrap());
            }
            Err(AppendError::Known(entry)) => receipts.push(entry.receipt),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(taken, 1);
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
    assert_eq!(version_of(&*store, &receipts[0].stream).await, 1);
    assert_eq!(kept_streams(&*store).await.len(), 1);
}

async fn kept_streams(store: &dyn EventStore) -> BTreeSet<StreamName> {
    whole_log(store).await.iter().map(|event| event.stream.clone()).collect()
}

/// An append that was refused has settled nothing: its command is unknown, and may be tried again.
pub async fn a_refused_append_leaves_its_command_unknown(fixture: impl Fixture) {
    let store = &*fixture.store();
    let (stream, key) = (thing("a"), new_command());
    add(store, &stream, 1).await;
    let attempt = |version| settling(&key, Verdict::Applied, [entry(&stream, exactly(version), 1)]);
    assert_eq!(append_one(store, attempt(0)).await, Err(conflict(&stream, exactly(0), 1)));
    assert_eq!(look_up(store, &key).await, None);
    let results = store.append(vec![attempt(7), attempt(1), attempt(2)]).await;
    assert_eq!(results[0], Err(conflict(&stream, exactly(7), 1)));
    assert!(results[1].is_ok());
    assert!(matches!(results[2], Err(AppendError::Known(_))));
    assert_eq!(version_of(store, &stream).await, 2);
}

/// The same id from another tenant or another principal is another command.
pub async fn another_tenant_or_principal_is_another_command(fixture: impl Fixture) {
    let store = &*fixture.store();
    let key = new_command();
    let keys = [
        key.clone(),
        LedgerKey { tenant: tenant("north"), ..key.clone() },
        LedgerKey { principal: user("bert"), ..key.clone() },
        LedgerKey { tenant: tenant("north"), principal: user("bert"), ..key.clone() },
    ];
    let mut receipts = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let others = store.look_up(keys[n..].to_vec()).await.unwrap();
        assert!(others.iter().all(Option::is_none), "{n} is known through another");
        let settling = settling(key, Verdict::Applied, [entry(&thing(n), Expected::NoStream, 1)]);
        receipts.push(append_one(store, settling).await.unwrap().receipt.unwrap());
    }
    for (found, receipt) in store.look_up(keys.to_vec()).await.unwrap().into_iter().zip(receipts) {
        assert_eq!(found.unwrap().receipt, receipt);
    }
    let command_id = new_command().command_id;
    let at_once = keys.map(|key| {
        let key = LedgerKey { command_id, ..key };
        settling(&key, Verdict::Applied, [entry(&thing("a"), Expected::Any, 1)])
    });
    let results = store.append(at_once.into()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// A command that was minted just now is never taken for one that may have been forgotten, and the moment
/// that memory begins with only moves forward.
pub async fn what_it_remembers_only_moves_forward(fixture: impl Fixture) {
    let store = &*fixture.store();
    let mut since = store.remembers_since();
    for _ in 0..20 {
        let key = new_command();
        let append = settling(&key, Verdict::Applied, [entry(&thing("a"), Expected::Any, 1)]);
        append_one(store, append).await.unwrap();
        let now = store.remembers_since();
        assert!(since <= now, "it went back from {since} to {now}");
        assert!(now <= key.command_id.minted_at().unwrap(), "a new command would be refused as expired");
        assert!(look_up(store, &key).await.is_some());
        since = now;
    }
}
