//! The database itself: how its tables are made, who may use it, what it says to people, and what is told when it is
//! away, is another one, or has lost something.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sillage_conformance::postgres::{Server, Stop};
use sillage_kernel::{EventId, Expected, Metadata, NewEvent, Position};
use sillage_store::event_store::postgres::{Database, PostgresError, PostgresOptions, PostgresStore};
use sillage_store::{AppendError, Direction, Entry, EventStore, StoreError};
use uuid::Uuid;

use super::answers::{add, append_one, entry, new_command, settling, stream, tenant};
use super::{OPTIONS, OnPostgres, eventually, foreigner, open};

async fn refused(address: &str) -> PostgresError {
    let opened = PostgresStore::open(&address.parse().unwrap(), 1, OPTIONS()).await;
    opened.err().expect("it is opened")
}

/// However many nodes find an empty database, they agree on one log.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_make_one_log() {
    let server = Server::shared();
    let address = server.create_database();
    let nodes = futures_util::future::join_all((1..=4).map(|id| open(&address, id, OPTIONS()))).await;
    for node in &nodes {
        assert_eq!(node.epoch(), nodes[0].epoch());
        add(&**node, "a").await.unwrap();
    }
}

/// A program works on no tables but its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_program_is_refused() {
    let fixture = OnPostgres::new().await;
    let foreign = foreigner(&fixture.address).await;
    foreign.batch_execute("UPDATE sillage.migrations SET checksum = 'x' WHERE number = 1").await.unwrap();
    assert!(matches!(refused(&fixture.address).await, PostgresError::Changed { number: 1 }));

    let fixture = OnPostgres::new().await;
    let foreign = foreigner(&fixture.address).await;
    let newer = "INSERT INTO sillage.migrations (number, name, checksum) VALUES (1000, 'newer', 'x')";
    foreign.batch_execute(newer).await.unwrap();
    let error = refused(&fixture.address).await;
    assert!(matches!(error, PostgresError::Newer { applied: 3, known: 2 }), "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let server = Server::shared();
    server.run_sql("postgres", "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0");
    let address = server.create_database();
    let (start, _) = address.rsplit_once('/').unwrap();
    let error = refused(&format!("{start}/ascii")).await;
    assert!(matches!(error, PostgresError::Encoding(_)), "{error}");
}

/// Once the tables are there, a role that may only read, add and change rows will do.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_to_make_tables_will_do() {
    let fixture = OnPostgres::new().await;
    let foreign = foreigner(&fixture.address).await;
    let rights = "CREATE ROLE worker LOGIN; GRANT USAGE ON SCHEMA sillage TO worker;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sillage TO worker";
    foreign.batch_execute(rights).await.unwrap();
    let worker = open(&fixture.address.replace("//sillage@", "//worker@"), 1, OPTIONS()).await;
    assert_eq!(worker.epoch(), fixture.store.epoch());
    add(&*worker, "a").await.unwrap();

    let empty = Server::shared().create_database().replace("//sillage@", "//worker@");
    let error = refused(&empty).await;
    assert!(error.to_string().contains("permission denied"), "{error}");
}

/// What is shown of an address, right or wrong, says nothing of its password.
#[test]
fn a_password_is_never_shown() {
    let database: Database = "postgres://anna:secret@db.example.org:5433/shop".parse().unwrap();
    assert_eq!(database.to_string(), "shop at db.example.org");
    assert!(!format!("{database:?}").contains("secret"));
    for wrong in ["postgres://anna:secret@h/db?sslmode=maybe", "postgres://anna:secret@h:secret/db", "secret"]
    {
        let error = wrong.parse::<Database>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

/// Another log behind the same address, or one that has lost what was seen, is a failure that only a new start mends.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_fails_every_node() {
    for restored in [
        "UPDATE sillage.log SET log_id = gen_random_uuid()",
        "DELETE FROM sillage.events WHERE position > 1",
        "DROP TABLE sillage.events CASCADE",
    ] {
        let fixture = OnPostgres::new().await;
        let other = open(&fixture.address, 9, OPTIONS()).await;
        for _ in 0..3 {
            add(&*fixture.store, "a").await.unwrap();
        }
        other.watermark().wait_for(|head| *head == Position::new(3)).await.unwrap();
        assert!(fixture.store.failed().now_or_never().is_none());
        foreigner(&fixture.address).await.batch_execute(restored).await.unwrap();
        let answer = add(&*fixture.store, "a").await;
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{restored}: {answer:?}");
        for node in [&fixture.store, &other] {
            tokio::time::timeout(Duration::from_secs(20), node.failed()).await.expect(restored);
        }
    }
}

/// While there is no server, appends and readers wait as long as they were told, and are then refused; the store has
/// not failed, and goes on when the server does.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_refuses_after_a_while_and_is_found_again() {
    let server = Server::new();
    let address = server.create_database();
    let impatient = PostgresOptions { patience: Duration::from_millis(300), ..OPTIONS() };
    let store = open(&address, 1, impatient).await;
    let before = add(&*store, "a").await.unwrap().position;
    server.stop(Stop::Fast);
    for _ in 0..2 {
        let (answer, page, lease) = tokio::join!(
            add(&*store, "a"),
            store.read_stream(&tenant(), &stream("a"), sillage_kernel::Version::ZERO, Direction::Forward, 9),
            store.acquire_lease("r", "anna", Duration::from_secs(9)),
        );
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
        assert!(matches!(page, Err(StoreError::Unavailable(_))), "{page:?}");
        assert!(matches!(lease, Err(StoreError::Unavailable(_))), "{lease:?}");
    }
    let asked = Instant::now();
    assert!(add(&*store, "a").await.is_err());
    assert!(asked.elapsed() < impatient.patience, "it is not refused at once");
    assert_eq!(store.head(), before);
    assert!(store.failed().now_or_never().is_none(), "it may still recover");
    server.start();
    let found = eventually("the server is found again", async || add(&*store, "a").await.ok()).await;
    assert_eq!(found.position, before.next());
    store.close().await;
    assert!(matches!(add(&*store, "a").await, Err(AppendError::Unavailable(_))));
}

/// The ledger forgets what is old, and every node says so before it does.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_forgets_what_is_old_and_no_node_takes_it_for_new() {
    let fixture = OnPostgres::new().await;
    let forgetful = PostgresOptions {
        ledger_memory: Duration::from_millis(100),
        forget_every: Duration::from_secs(2),
        ..OPTIONS()
    };
    let key = new_command();
    let minted = key.command_id.minted_at().unwrap();
    append_one(&*fixture.store, settling(&key, vec![entry(&stream("a"), Expected::Any, 1)])).await.unwrap();
    assert!(fixture.store.remembers_since() < minted);
    let other = open(&fixture.address, 9, forgetful).await;
    // Read after the moment that is compared, so that whoever has forgotten must have said so before.
    eventually("the command is forgotten", async || {
        let known = other.look_up(vec![key.clone()]).await.unwrap().remove(0);
        known.is_none().then_some(())
    })
    .await;
    for node in [&fixture.store, &other] {
        assert!(node.remembers_since() > minted, "a command that was forgotten is taken for new");
    }
    let reopened = open(&fixture.address, 9, OPTIONS()).await;
    assert!(reopened.remembers_since() > minted);
}

/// People with psql see what happened, also where the database has no value for it.
#[tokio::test(flavor = "multi_thread")]
async fn people_can_read_every_event() {
    let fixture = OnPostgres::new().await;
    let data = [r#"{"a": 1}"#, r#""\u0000""#, "1e999999", "{ \"a\":2,\"a\":3 }"];
    let event =
        |data: &str| NewEvent::new(EventId(Uuid::now_v7()), "T", data.to_owned(), Metadata::default());
    let events = data.map(event).into();
    let odd = Entry { stream: stream("odd"), expected: Expected::NoStream, events };
    append_one(&*fixture.store, settling(&new_command(), vec![odd])).await.unwrap();
    let read = "SELECT data, data_jsonb::text, recorded_at > now() - interval '1 hour'
        FROM sillage.readable_events ORDER BY position";
    let rows = foreigner(&fixture.address).await.query(read, &[]).await.unwrap();
    let shown: Vec<(String, Option<String>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(shown.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), data);
    let values: Vec<Option<&str>> = shown.iter().map(|(_, value)| value.as_deref()).collect();
    assert_eq!(values, [Some(r#"{"a": 1}"#), None, None, Some(r#"{"a": 3}"#)]);
    assert!(rows.iter().all(|row| row.get::<_, bool>(2)));
}

/// A character that no text of the database may have is refused by itself, and harms nobody beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_no_text_can_be_is_refused_alone() {
    let fixture = OnPostgres::new().await;
    let event = NewEvent::new(EventId(Uuid::now_v7()), "T\0", "1".to_owned(), Metadata::default());
    let bad = Entry { stream: stream("a"), expected: Expected::Any, events: vec![event] };
    let good = || settling(&new_command(), vec![entry(&stream("a"), Expected::Any, 1)]);
    let answers = fixture.store.append(vec![good(), settling(&new_command(), vec![bad]), good()]).await;
    assert!(matches!(&answers[..], [Ok(_), Err(AppendError::Invalid(_)), Ok(_)]), "{answers:?}");
}

/// A store that was closed leaves no connection behind, and answers nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_the_store() {
    let fixture = OnPostgres::new().await;
    add(&*fixture.store, "a").await.unwrap();
    fixture.store.read_cursor("r").await.unwrap();
    fixture.store.close().await;
    let client = foreigner(&fixture.address).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'sillage'";
    eventually("all sessions have ended", async || {
        (client.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    let page = fixture.store.read_cursor("r").await;
    assert!(matches!(page, Err(StoreError::Unavailable(_))), "{page:?}");
}
