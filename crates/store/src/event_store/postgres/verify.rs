//! Whether the log in a database is what it was when it was written: its numbers, and the chain of every stream. Beside
//! running nodes it comes as far as the log was when it began. Memory holds one page, and about 200 bytes for each stream.

use sillage_kernel::{Event, Position};
use tokio_postgres::Client;

use super::link::Database;
use super::rows::{self, column, columns};
use super::{PostgresError, log_in};
use crate::event_store::MAX_PAGE_BYTES;
use crate::event_store::codec::is_dropped;
use crate::event_store::journal::Progress;
use crate::event_store::sequencer::{Head, StreamMap};

/// How many events one page has at most.
pub(super) const PAGE_EVENTS: i64 = 8_192;

/// A page of the log with what was dropped of it.
pub(super) const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM (
        SELECT *, coalesce(octet_length(data) + octet_length(metadata), 0) AS own,
            sum(coalesce(octet_length(data) + octet_length(metadata), 0))
                OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes
        FROM sillage.events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
    ) AS run
    WHERE bytes - own <= $4
    ORDER BY position"
);

const SIZE: &str = "
    SELECT (SELECT coalesce(max(position), 0) FROM sillage.events),
        pg_table_size('sillage.events'),
        (SELECT count(*) FROM sillage.ledger),
        (SELECT count(*) FROM sillage.ledger
            WHERE position > (SELECT coalesce(max(position), 0) FROM sillage.events))";

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The position of the last event.
    pub head: Position,
    /// How many events there are.
    pub events: u64,
    /// Of how many of them the contents were dropped.
    pub dropped: u64,
    /// How many streams there are.
    pub streams: usize,
    /// How many settled commands.
    pub commands: u64,
}

/// Looks at the log in a database, and tells every defect.
///
/// # Errors
/// [`PostgresError`].
pub async fn verify(
    database: &Database,
    on_defect: impl FnMut(String),
    on_progress: impl FnMut(Progress),
) -> Result<Verified, PostgresError> {
    let link = log_in(database).await?;
    let verified = run(link.client(), on_defect, on_progress).await;
    link.close().await;
    verified
}

pub(super) async fn run(
    client: &Client,
    mut on_defect: impl FnMut(String),
    mut on_progress: impl FnMut(Progress),
) -> Result<Verified, PostgresError> {
    let row = client.query_one(SIZE, &[]).await?;
    let number = |at| Ok::<u64, PostgresError>(row.try_get::<_, i64>(at)?.unsigned_abs());
    let (head, total_bytes) = (Position::new(number(0)?), number(1)?);
    let (commands, beyond) = (number(2)?, number(3)?);
    if beyond > 0 {
        on_defect(format!("{beyond} commands of the ledger name positions behind {head}, the last one"));
    }
    let page = client.prepare(PAGE).await?;
    let mut chains = Chains::default();
    while chains.reached < head {
        let (after, to) = (column(chains.reached.get()), column(head.get()));
        let rows = client.query(&page, &[&after, &to, &PAGE_EVENTS, &column(MAX_PAGE_BYTES as u64)]).await?;
        for row in &rows {
            let event = rows::event(None, row, 0)?;
            if let Some(defect) = chains.follow(&event) {
                on_defect(defect);
            }
        }
        // What was to come is not there any more: another log came in place of it.
        if rows.is_empty() {
            on_defect(format!("position {head} was there, and is not"));
            break;
        }
        let part = u128::from(total_bytes) * u128::from(chains.reached.get()) / u128::from(head.get());
        on_progress(Progress { done_bytes: u64::try_from(part).unwrap_or(total_bytes), total_bytes });
    }
    let Chains { reached: _, events, dropped, streams } = chains;
    Ok(Verified { head, events, dropped, streams: streams.len(), commands })
}

/// The chains of all streams, as far as they were followed.
#[derive(Default)]
struct Chains {
    reached: Position,
    events: u64,
    dropped: u64,
    streams: StreamMap<Head>,
}

impl Chains {
    /// Follows the next event of the log, and says what is wrong with it.
    fn follow(&mut self, event: &Event) -> Option<String> {
        let Event { position, tenant, stream, version, checksum, .. } = event;
        let head = self.streams.entry((tenant.clone(), stream.clone())).or_default();
        let (wanted, next) = (self.reached.next(), head.version.next());
        let wrong = if *position != wanted {
            Some(format!("position {wanted} was to come"))
        } else if *version != next {
            Some(format!("version {next} was to come"))
        } else if !is_dropped(event) && !event.follows(&head.checksum) {
            Some("its checksum does not follow from the event before it: one of both was changed".to_owned())
        } else {
            None
        };
        *head = Head { version: *version, checksum: *checksum };
        self.reached = *position;
        self.events += 1;
        self.dropped += u64::from(is_dropped(event));
        wrong.map(|what| {
            format!("stream {stream} of {tenant}, version {version}, position {position}: {what}")
        })
    }
}
