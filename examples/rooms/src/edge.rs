//! Rooms at the edge: who may reach them, where the rows of the view are, and how they are asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use sillage_gateway::Gateway;
use sillage_gateway::codes::Refusal;
use sillage_gateway::description::QueryProblems;
use sillage_gateway::extract::Checked;
use sillage_gateway::session::Session;
use sillage_gateway::tokens::Identity;
use sillage_kernel::{LogPosition, Position, StreamName, Tenant, View};
use sillage_server::System;
use sillage_store::views::{Answer, Freshness, Table};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::rules::{BookingKey, Bookings, Room, RoomBooked};

/// The most bookings that one answer lists.
const MAX_BOOKINGS: u32 = 1_000;

/// The rooms, whole.
pub fn system() -> System {
    let routes = OpenApiRouter::default().routes(routes!(bookings));
    System::default().with_rules::<Room>(may_reach).with_view(BookingsTable).with_routes(routes)
}

/// Whoever has signed in may see and book all rooms of their tenant.
fn may_reach(_: &Identity, _: &StreamName) -> bool {
    true
}

/// The table of [`Bookings`].
struct BookingsTable;

impl Table<Bookings> for BookingsTable {
    fn schema(&self) -> &'static str {
        "DROP TABLE IF EXISTS bookings;
         CREATE TABLE bookings(
            tenant TEXT NOT NULL, room TEXT NOT NULL, booking TEXT NOT NULL, begins INTEGER NOT NULL,
            data TEXT NOT NULL, PRIMARY KEY (tenant, room, booking)) WITHOUT ROWID;
         CREATE INDEX bookings_in_order ON bookings(tenant, room, begins);"
    }

    fn load(&self, db: &Connection, key: &BookingKey) -> rusqlite::Result<Option<RoomBooked>> {
        let (tenant, room, booking) = key;
        let mut found =
            db.prepare_cached("SELECT data FROM bookings WHERE tenant = ?1 AND room = ?2 AND booking = ?3")?;
        found.query_row(params![tenant.as_str(), room, booking.to_string()], read).optional()
    }

    fn save(&self, db: &Connection, key: &BookingKey, row: Option<&RoomBooked>) -> rusqlite::Result<()> {
        let (tenant, room, booking) = (key.0.as_str(), &key.1, key.2.to_string());
        if let Some(row) = row {
            let data = serde_json::to_string(row).expect("a booking has only string keys");
            db.prepare_cached("INSERT OR REPLACE INTO bookings VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![tenant, room, booking, row.from.as_micros(), data])?;
        } else {
            db.prepare_cached("DELETE FROM bookings WHERE tenant = ?1 AND room = ?2 AND booking = ?3")?
                .execute(params![tenant, room, booking])?;
        }
        Ok(())
    }
}

/// The bookings of a room, in their order.
fn bookings_of(db: &Connection, tenant: &Tenant, room: &str) -> rusqlite::Result<Vec<RoomBooked>> {
    let mut rows = db.prepare_cached(
        "SELECT data FROM bookings WHERE tenant = ?1 AND room = ?2 ORDER BY begins LIMIT ?3",
    )?;
    rows.query_map(params![tenant.as_str(), room, MAX_BOOKINGS], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<RoomBooked> {
    let data: String = row.get(0)?;
    let unreadable =
        |error: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error));
    serde_json::from_str(&data).map_err(unreadable)
}

/// What may be asked of the view.
#[derive(Deserialize)]
struct Wanted {
    at_least: Option<String>,
}

/// The bookings of a room, as the view has them.
#[derive(Serialize)]
struct BookingsOfRoom {
    room: String,
    /// They reflect the log up to here.
    position: Position,
    /// Whether the view has stopped there.
    stale: bool,
    bookings: Vec<RoomBooked>,
}

/// Lists the bookings of a room.
#[utoipa::path(get, path = "/api/rooms/{room}", tag = "rooms", operation_id = "bookings_of_room",
    params(
        ("room" = String, Path, description = "Which room.", example = "blue"),
        ("at_least" = Option<String>, Query, description = "The position that the answer shall reflect.",
            example = "1"),
    ),
    responses(
        (status = 200, description = "Its `bookings` in their order, at which `position`, and whether that is `stale`."),
        QueryProblems,
    ))]
async fn bookings(
    State(gateway): State<Arc<Gateway>>,
    Session(identity): Session,
    Checked(Path(room)): Checked<Path<String>>,
    Checked(Query(wanted)): Checked<Query<Wanted>>,
) -> Result<Json<BookingsOfRoom>, Refusal> {
    let at_least = wanted.at_least.map(|position| position.parse::<LogPosition>()).transpose();
    let at_least = at_least.map_err(|error| Refusal::field("at_least", error.problem))?;
    let (tenant, asked) = (identity.tenant.clone(), room.clone());
    let ask = move |db: &Connection| bookings_of(db, &tenant, &asked);
    let Answer { value: bookings, position, freshness } =
        gateway.query(&identity, Bookings::NAME, at_least, ask).await?;
    Ok(Json(BookingsOfRoom { room, position, stale: freshness == Freshness::Stale, bookings }))
}
