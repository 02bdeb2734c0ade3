//! The transaction of a group: what it rests on is read under the lock of the log, and what it becomes is written and
//! committed in one go.
//!
//! Invariant: whoever has the lock of the log sees everything that was committed, and nobody commits before it lets
//! go. Each step is sent as a whole before the first answer is awaited, so a group costs two round trips.

use std::collections::HashMap;
use std::sync::Arc;

use sillage_kernel::{Event, Timestamp};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::group::{Base, Group, LeaseRow, Steps, Wanted};
use super::link::{Failed, Link};
use super::rows::{self, STATE, State, column, get, malformed};
use super::telling::{self, CHANNEL};
use crate::event_store::codec::is_dropped;
use crate::event_store::sequencer::{Head, StreamKey, StreamMap};
use crate::event_store::{CursorState, Lease, LedgerEntry, LedgerKey};

pub(super) const LOCK: &str = "SELECT 1 FROM sillage.log FOR UPDATE";

const HEADS: &str = "
    SELECT wanted.place, last.version, last.checksum
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (tenant, stream, place)
    CROSS JOIN LATERAL (
        SELECT version, checksum FROM sillage.events AS event
        WHERE event.tenant = wanted.tenant AND event.stream = wanted.stream
        ORDER BY version DESC LIMIT 1
    ) AS last";

const LEASES: &str = "SELECT name, owner, token, until FROM sillage.leases WHERE name = ANY($1)";

const CURSORS: &str = "SELECT reactor, position, mode FROM sillage.cursors WHERE reactor = ANY($1)";

const ADD_EVENTS: &str = "
    INSERT INTO sillage.events
        (position, version, recorded_at, id, tenant, stream, type, data, metadata, checksum)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[],
        $7::text[], $8::bytea[], $9::bytea[], $10::bytea[])";

const ADD_LEDGER: &str = "
    INSERT INTO sillage.ledger (position, at, command_id, tenant, principal, stream, content, outcome)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[],
        $7::bytea[], $8::text[])";

const SET_LEASES: &str = "
    INSERT INTO sillage.leases (name, owner, token, until)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
    ON CONFLICT (name)
        DO UPDATE SET owner = excluded.owner, token = excluded.token, until = excluded.until";

const SET_CURSORS: &str = "
    INSERT INTO sillage.cursors (reactor, position, mode)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
    ON CONFLICT (reactor) DO UPDATE SET position = excluded.position, mode = excluded.mode";

const FORGET_SKIPPED: &str = "
    DELETE FROM sillage.parked
    USING unnest($1::text[], $2::bigint[]) AS passed (reactor, position)
    WHERE parked.reactor = passed.reactor AND parked.position <= passed.position AND parked.skipped";

const UNPARK: &str = "
    DELETE FROM sillage.parked
    USING unnest($1::text[], $2::bigint[]) AS gone (reactor, position)
    WHERE parked.reactor = gone.reactor AND parked.position = gone.position";

const PARK: &str = "
    INSERT INTO sillage.parked (reactor, position, skipped, entry)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::text[])
    ON CONFLICT (reactor, position) DO UPDATE SET skipped = excluded.skipped, entry = excluded.entry";

const ADD_GROUP: &str = "INSERT INTO sillage.groups (id) VALUES ($1)";

const FIND_GROUP: &str = "SELECT EXISTS (SELECT FROM sillage.groups WHERE id = $1)";

const TELL: &str = "SELECT pg_notify($1, $2)";

/// A connection that writes.
pub(super) struct Session {
    link: Link,
    lock: Statement,
    state: Statement,
    heads: Statement,
    ledger: Statement,
    leases: Statement,
    cursors: Statement,
    add_events: Statement,
    add_ledger: Statement,
    set_leases: Statement,
    set_cursors: Statement,
    forget_skipped: Statement,
    unpark: Statement,
    park: Statement,
    add_group: Statement,
    find_group: Statement,
    tell: Statement,
}

impl Session {
    pub(super) async fn new(link: Link) -> Result<Self, Failed> {
        let client = link.client();
        let (lock, state, heads, ledger, leases, cursors, find_group, tell) = tokio::try_join!(
            client.prepare(LOCK),
            client.prepare(STATE),
            client.prepare(HEADS),
            client.prepare(rows::LEDGER),
            client.prepare(LEASES),
            client.prepare(CURSORS),
            client.prepare(FIND_GROUP),
            client.prepare(TELL),
        )?;
        let (add_events, add_ledger, set_leases, set_cursors, forget_skipped, unpark, park, add_group) = tokio::try_join!(
            client.prepare(ADD_EVENTS),
            client.prepare(ADD_LEDGER),
            client.prepare(SET_LEASES),
            client.prepare(SET_CURSORS),
            client.prepare(FORGET_SKIPPED),
            client.prepare(UNPARK),
            client.prepare(PARK),
            client.prepare(ADD_GROUP),
        )?;
        Ok(Self {
            link,
            lock,
            state,
            heads,
            ledger,
            leases,
            cursors,
            add_events,
            add_ledger,
            set_leases,
            set_cursors,
            forget_skipped,
            unpark,
            park,
            add_group,
            find_group,
            tell,
        })
    }

    pub(super) fn client(&self) -> &Client {
        self.link.client()
    }

    pub(super) async fn lost(&self) {
        self.link.lost().await;
    }

    pub(super) async fn close(self) {
        self.link.close().await;
    }

    /// Begins a transaction, and reads what a group rests on once nobody else writes. What was read stays true until
    /// the transaction ends.
    pub(super) async fn begin(&self, wanted: Wanted) -> Result<Base, Failed> {
        let (_, _, state, heads, ledger, leases, cursors) = tokio::try_join!(
            biased;
            self.simple("BEGIN"),
            self.lock(),
            self.state(),
            self.heads(&wanted.streams),
            rows::ledger(self.client(), &self.ledger, &wanted.commands),
            self.leases(&wanted.leases),
            self.cursors(&wanted.reactors),
        )?;
        let known = ledger
            .into_iter()
            .filter_map(|(place, entry)| Some((wanted.commands.get(place)?.clone(), entry)));
        Ok(Base { state, heads, ledger: known.collect(), leases, cursors })
    }

    /// Writes a group and commits it. After an error it is not known whether it was kept.
    pub(super) async fn commit(&self, group: &Group, told_by: Uuid) -> Result<(), Failed> {
        let Group { id, now, position, events, ledger, leases, cursors, .. } = group;
        let ledger: Vec<_> = ledger.iter().map(|(key, entry)| (key, entry, *now)).collect();
        tokio::try_join!(
            biased;
            self.add_events(events),
            self.add_ledger(&ledger),
            self.set_leases(leases.values()),
            self.set_cursors(cursors),
            self.forget_skipped(cursors),
            self.unpark(cursors),
            self.park(cursors),
            self.add_group(*id),
            self.tell(events, telling::grown(*position, told_by)),
            self.simple("COMMIT"),
        )?;
        Ok(())
    }

    /// Ends a transaction that has written nothing.
    pub(super) async fn end(&self) -> Result<(), Failed> {
        self.simple("ROLLBACK").await
    }

    /// Whether a group that was sent on another connection was kept. Whoever has the lock of the log knows that the
    /// other transaction, which had it, is over.
    pub(super) async fn was_kept(&self, group: Uuid) -> Result<(State, bool), Failed> {
        let found = async { Ok(self.client().query_one(&self.find_group, &[&group]).await?) };
        let (_, _, state, found, _) = tokio::try_join!(
            biased;
            self.simple("BEGIN"),
            self.lock(),
            self.state(),
            found,
            self.simple("ROLLBACK"),
        )?;
        Ok((state, get(&found, 0)?))
    }

    pub(super) async fn simple(&self, statement: &str) -> Result<(), Failed> {
        Ok(self.client().batch_execute(statement).await?)
    }

    async fn lock(&self) -> Result<(), Failed> {
        match self.client().execute(&self.lock, &[]).await? {
            1 => Ok(()),
            _ => Err(Failed::Broken("the row of the log is not there".into())),
        }
    }

    async fn state(&self) -> Result<State, Failed> {
        rows::state(&self.client().query_one(&self.state, &[]).await?)
    }

    async fn heads(&self, keys: &[StreamKey]) -> Result<StreamMap<Head>, Failed> {
        if keys.is_empty() {
            return Ok(StreamMap::default());
        }
        let tenants: Vec<&str> = keys.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let streams: Vec<&str> = keys.iter().map(|(_, stream)| stream.as_str()).collect();
        let found = self.client().query(&self.heads, &[&tenants, &streams]).await?;
        let head = |row| {
            let key = keys.get(rows::place(row)?).ok_or_else(|| malformed("it was not asked for"))?;
            let (version, checksum) = rows::head(row, 1)?;
            Ok((key.clone(), Head { version, checksum }))
        };
        found.iter().map(head).collect()
    }

    async fn leases(&self, names: &[Box<str>]) -> Result<Vec<LeaseRow>, Failed> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let found = self.client().query(&self.leases, &[&names]).await?;
        let lease = |row| {
            let token = u64::try_from(get::<i64>(row, 2)?).map_err(malformed)?;
            let until = Timestamp::from_micros(get(row, 3)?);
            let (name, owner) = (get::<&str>(row, 0)?.into(), get::<&str>(row, 1)?.into());
            Ok(LeaseRow { name, owner, lease: Lease { token }, until })
        };
        found.iter().map(lease).collect()
    }

    async fn cursors(&self, reactors: &[Box<str>]) -> Result<HashMap<Box<str>, CursorState>, Failed> {
        if reactors.is_empty() {
            return Ok(HashMap::new());
        }
        let reactors: Vec<&str> = reactors.iter().map(|name| &**name).collect();
        let found = self.client().query(&self.cursors, &[&reactors]).await?;
        found.iter().map(|row| Ok((get::<&str>(row, 0)?.into(), rows::cursor(row, 1)?))).collect()
    }

    /// What was dropped of them stays so.
    pub(super) async fn add_events(&self, events: &[Arc<Event>]) -> Result<(), Failed> {
        if events.is_empty() {
            return Ok(());
        }
        let positions = each(events, |event| column(event.position.get()));
        let versions = each(events, |event| column(event.version.get()));
        let recorded = each(events, |event| event.recorded_at.as_micros());
        let ids = each(events, |event| event.id.0);
        let tenants = each(events, |event| event.tenant.as_str());
        let streams = each(events, |event| event.stream.as_str());
        let types = each(events, |event| &*event.event_type);
        let data = each(events, |event| (!is_dropped(event)).then_some(event.data.as_bytes()));
        let metadata = each(events, |event| (!is_dropped(event)).then_some(event.metadata_json.as_bytes()));
        let checksums = each(events, |event| &event.checksum.0[..]);
        self.client()
            .execute(
                &self.add_events,
                &[
                    &positions, &versions, &recorded, &ids, &tenants, &streams, &types, &data, &metadata,
                    &checksums,
                ],
            )
            .await?;
        Ok(())
    }

    /// Each with when it was settled.
    pub(super) async fn add_ledger(
        &self,
        ledger: &[(&LedgerKey, &LedgerEntry, Timestamp)],
    ) -> Result<(), Failed> {
        if ledger.is_empty() {
            return Ok(());
        }
        let positions = each(ledger, |(_, entry, _)| column(entry.receipt.position.get()));
        // The clock that minted an id may be ahead: whatever is forgotten was minted before the moment that says so.
        let young = |key: &LedgerKey, at: Timestamp| key.command_id.minted_at().map_or(at, |it| it.max(at));
        let at = each(ledger, |(key, _, at)| young(key, *at).as_micros());
        let ids = each(ledger, |(key, ..)| key.command_id.0);
        let tenants = each(ledger, |(key, ..)| key.tenant.as_str());
        let principals = each(ledger, |(key, ..)| key.principal.as_str());
        let streams = each(ledger, |(_, entry, _)| entry.receipt.stream.as_str());
        let contents = each(ledger, |(_, entry, _)| &entry.content.0[..]);
        let outcome = |(_, entry, _): &(_, &LedgerEntry, _)| {
            serde_json::to_string(&entry.receipt.outcome).expect("an outcome has only string keys")
        };
        let outcomes: Vec<String> = ledger.iter().map(outcome).collect();
        self.client()
            .execute(
                &self.add_ledger,
                &[&positions, &at, &ids, &tenants, &principals, &streams, &contents, &outcomes],
            )
            .await?;
        Ok(())
    }

    pub(super) async fn set_leases(&self, leases: impl Iterator<Item = &LeaseRow>) -> Result<(), Failed> {
        let leases: Vec<&LeaseRow> = leases.collect();
        if leases.is_empty() {
            return Ok(());
        }
        let names = each(&leases, |row| &*row.name);
        let owners = each(&leases, |row| &*row.owner);
        let tokens = each(&leases, |row| column(row.lease.token));
        let until = each(&leases, |row| row.until.as_micros());
        self.client().execute(&self.set_leases, &[&names, &owners, &tokens, &until]).await?;
        Ok(())
    }

    pub(super) async fn set_cursors(&self, cursors: &Cursors) -> Result<(), Failed> {
        if cursors.is_empty() {
            return Ok(());
        }
        let reactors: Vec<&str> = cursors.keys().map(|name| &**name).collect();
        let positions: Vec<i64> = cursors.values().map(|steps| column(steps.cursor.position.get())).collect();
        let modes: Vec<&str> = cursors.values().map(|steps| rows::mode_word(steps.cursor.mode)).collect();
        self.client().execute(&self.set_cursors, &[&reactors, &positions, &modes]).await?;
        Ok(())
    }

    async fn forget_skipped(&self, cursors: &Cursors) -> Result<(), Failed> {
        if cursors.is_empty() {
            return Ok(());
        }
        let reactors: Vec<&str> = cursors.keys().map(|name| &**name).collect();
        let passed: Vec<i64> = cursors.values().map(|steps| column(steps.passed.get())).collect();
        self.client().execute(&self.forget_skipped, &[&reactors, &passed]).await?;
        Ok(())
    }

    async fn unpark(&self, cursors: &Cursors) -> Result<(), Failed> {
        let gone = cursors.iter().flat_map(|(reactor, steps)| {
            let gone = steps.changes.iter().filter(|(_, change)| change.is_none());
            gone.map(move |(position, _)| (&**reactor, column(position.get())))
        });
        let (reactors, positions): (Vec<&str>, Vec<i64>) = gone.unzip();
        if !reactors.is_empty() {
            self.client().execute(&self.unpark, &[&reactors, &positions]).await?;
        }
        Ok(())
    }

    pub(super) async fn park(&self, cursors: &Cursors) -> Result<(), Failed> {
        let parked = cursors.iter().flat_map(|(reactor, steps)| {
            steps.changes.values().flatten().map(move |parked| (&**reactor, parked))
        });
        let (reactors, parked): (Vec<&str>, Vec<_>) = parked.unzip();
        if !reactors.is_empty() {
            let positions = each(&parked, |parked| column(parked.position.get()));
            let skipped = each(&parked, |parked| !parked.waits());
            let entries: Vec<String> = parked.iter().map(|parked| rows::parked_text(parked)).collect();
            self.client().execute(&self.park, &[&reactors, &positions, &skipped, &entries]).await?;
        }
        Ok(())
    }

    async fn add_group(&self, id: Uuid) -> Result<(), Failed> {
        self.client().execute(&self.add_group, &[&id]).await?;
        Ok(())
    }

    async fn tell(&self, events: &[Arc<Event>], told: String) -> Result<(), Failed> {
        if !events.is_empty() {
            self.client().execute(&self.tell, &[&CHANNEL, &told]).await?;
        }
        Ok(())
    }
}

type Cursors = std::collections::BTreeMap<Box<str>, Steps>;

/// A column: what each row has there.
fn each<'a, R, C>(rows: &'a [R], column: impl Fn(&'a R) -> C) -> Vec<C> {
    rows.iter().map(column).collect()
}
