//! The rules of a room: who has it when. One stream a room.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sillage_kernel::{
    CommandId, Context, Decider, Decision, DomainCommand, DomainEvent, Envelope, Event, Filter, InvalidField,
    Rejection, Rows, Tenant, Timestamp, UserId, View, ViewError,
};

// --- events ---------------------------------------------------------------------------------------------

/// Somebody has the room for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomBooked {
    /// The booking: the id of the command that made it.
    pub booking_id: CommandId,
    /// Whoever has the room.
    pub by: UserId,
    /// From when on.
    pub from: Timestamp,
    /// Until when; at that moment somebody else may have it.
    pub until: Timestamp,
}

/// A booking was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BookingCancelled {
    /// Which one.
    pub booking_id: CommandId,
}

sillage_kernel::domain_events! {
    /// What can happen to a room.
    pub enum RoomEvent { RoomBooked, BookingCancelled }
}

// --- state ----------------------------------------------------------------------------------------------

/// Who has a room when.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RoomState {
    bookings: BTreeMap<CommandId, RoomBooked>,
}

impl RoomState {
    /// A booking of which any moment lies between these.
    fn between(&self, from: Timestamp, until: Timestamp) -> Option<&RoomBooked> {
        self.bookings.values().find(|booking| booking.from < until && from < booking.until)
    }
}

// --- commands -------------------------------------------------------------------------------------------

/// What may be asked about a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum RoomCommand {
    /// I want it.
    Book {
        /// Which room.
        room: String,
        /// From when on.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// I no longer need it.
    Cancel {
        /// Which room.
        room: String,
        /// Which booking of it.
        booking_id: CommandId,
    },
}

/// The data of `RoomBook`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BookData {
    from: Timestamp,
    until: Timestamp,
}

/// The data of `BookingCancel`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CancelData {
    booking_id: CommandId,
}

impl DomainCommand for RoomCommand {
    const NAMES: &'static [&'static str] = &["RoomBook", "BookingCancel"];

    fn decode(name: &str, data: &str, envelope: &Envelope) -> Result<Self, InvalidField> {
        let room = envelope.target(Room::CATEGORY, "feed", None)?;
        if name == "RoomBook" {
            let BookData { from, until } = InvalidField::read(data)?;
            if until <= from {
                return Err(InvalidField::new("until", "must be later than `from`"));
            }
            Ok(Self::Book { room, from, until })
        } else {
            let CancelData { booking_id } = InvalidField::read(data)?;
            Ok(Self::Cancel { room, booking_id })
        }
    }

    fn target(&self) -> &str {
        let (Self::Book { room, .. } | Self::Cancel { room, .. }) = self;
        room
    }

    fn content(&self) -> String {
        serde_json::to_string(self).expect("a command has only string keys and no failing parts")
    }
}

// --- decisions ------------------------------------------------------------------------------------------

/// The rules of one room.
pub struct Room;

impl Decider for Room {
    const CATEGORY: &'static str = "room";
    const REVISION: u32 = 1;
    type State = RoomState;
    type Command = RoomCommand;
    type Event = RoomEvent;

    fn decide(
        state: &RoomState,
        command: &RoomCommand,
        context: &Context<'_>,
    ) -> Result<Decision<RoomEvent>, Rejection> {
        match command {
            RoomCommand::Book { from, until, .. } => book(state, context, *from, *until),
            RoomCommand::Cancel { booking_id, .. } => cancel(state, context, *booking_id),
        }
    }

    fn evolve(state: &mut RoomState, event: &RoomEvent) {
        match event {
            RoomEvent::RoomBooked(booking) => {
                state.bookings.insert(booking.booking_id, booking.clone());
            }
            RoomEvent::BookingCancelled(BookingCancelled { booking_id }) => {
                state.bookings.remove(booking_id);
            }
        }
    }
}

fn book(
    state: &RoomState,
    context: &Context<'_>,
    from: Timestamp,
    until: Timestamp,
) -> Result<Decision<RoomEvent>, Rejection> {
    if from < context.now {
        return Err(Rejection::new("too_late", "That has begun already."));
    }
    if let Some(RoomBooked { by, from, until, .. }) = state.between(from, until) {
        let details = json!({"by": by, "from": from, "until": until});
        return Err(Rejection { details, ..Rejection::new("taken", "Somebody has the room then.") });
    }
    let by = context.actor.user_id.clone();
    Ok(RoomEvent::from(RoomBooked { booking_id: context.command_id, by, from, until }).into())
}

fn cancel(
    state: &RoomState,
    context: &Context<'_>,
    booking_id: CommandId,
) -> Result<Decision<RoomEvent>, Rejection> {
    match state.bookings.get(&booking_id) {
        None => Ok(Decision::unchanged()),
        Some(booking) if booking.by != context.actor.user_id => {
            Err(Rejection::new("not_yours", "Only whoever has booked the room takes it back."))
        }
        Some(_) => Ok(RoomEvent::from(BookingCancelled { booking_id }).into()),
    }
}

// --- view -----------------------------------------------------------------------------------------------

/// The read model: all bookings of all rooms.
pub struct Bookings;

/// What tells bookings apart: whose room, which room, which booking.
pub type BookingKey = (Tenant, String, CommandId);

impl View for Bookings {
    const NAME: &'static str = "bookings";
    const REVISION: u32 = 1;
    type Key = BookingKey;
    type Row = RoomBooked;

    fn filter() -> Filter {
        Filter::Category(Room::CATEGORY.into())
    }

    fn fold(event: &Event, rows: &mut dyn Rows<BookingKey, RoomBooked>) -> Result<(), ViewError> {
        let key = |booking_id| (event.tenant.clone(), event.stream.id().to_owned(), booking_id);
        match RoomEvent::read(event)? {
            RoomEvent::RoomBooked(booking) => rows.put(key(booking.booking_id), booking),
            RoomEvent::BookingCancelled(BookingCancelled { booking_id }) => rows.remove(key(booking_id)),
        }
        Ok(())
    }
}

// --- tests ----------------------------------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;
    use sillage_kernel::Actor;
    use sillage_kernel::testing::given;

    /// An hour of the day on which time begins. Unless a test says otherwise it is midnight.
    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_micros(hour * 3_600_000_000)
    }

    fn book(from: i64, until: i64) -> RoomCommand {
        RoomCommand::Book { room: "blue".into(), from: hour(from), until: hour(until) }
    }

    fn cancel() -> RoomCommand {
        RoomCommand::Cancel { room: "blue".into(), booking_id: CommandId(Default::default()) }
    }

    fn booked(by: &str, from: i64, until: i64) -> RoomEvent {
        let (booking_id, by) = (CommandId(Default::default()), by.parse().unwrap());
        RoomBooked { booking_id, by, from: hour(from), until: hour(until) }.into()
    }

    fn cancelled() -> RoomEvent {
        BookingCancelled { booking_id: CommandId(Default::default()) }.into()
    }

    #[test]
    fn a_room_has_one_owner_at_a_time() {
        given::<Room>([]).by("alice", &[]).when(&book(9, 11)).then([booked("alice", 9, 11)]);
        let taken = [booked("alice", 9, 11)];
        for (from, until) in [(8, 10), (9, 11), (10, 12), (8, 12)] {
            given::<Room>(taken.clone()).by("bob", &[]).when(&book(from, until)).then_rejected("taken");
        }
        for (from, until) in [(8, 9), (11, 12)] {
            let free = given::<Room>(taken.clone()).by("bob", &[]).when(&book(from, until));
            free.then([booked("bob", from, until)]);
        }
    }

    #[test]
    fn what_has_begun_cannot_be_booked() {
        given::<Room>([]).at(hour(10)).when(&book(9, 11)).then_rejected("too_late");
        given::<Room>([]).by("alice", &[]).at(hour(9)).when(&book(9, 11)).then([booked("alice", 9, 11)]);
    }

    #[test]
    fn only_its_owner_takes_a_booking_back_and_then_the_room_is_free() {
        let taken = [booked("alice", 9, 11)];
        given::<Room>(taken.clone()).by("bob", &[]).when(&cancel()).then_rejected("not_yours");
        given::<Room>(taken.clone()).by("alice", &[]).when(&cancel()).then([cancelled()]);
        let free = || given::<Room>(taken.iter().cloned().chain([cancelled()]));
        free().by("alice", &[]).when(&cancel()).then_unchanged();
        free().by("bob", &[]).when(&book(9, 11)).then([booked("bob", 9, 11)]);
    }

    #[test]
    fn a_wrong_field_is_named() {
        let actor = Actor::user("alice".parse().unwrap());
        let (tenant, feed) = ("main".parse().unwrap(), Some("room-blue".parse().unwrap()));
        let command_id = CommandId(Default::default());
        let envelope = Envelope { tenant, actor, command_id, feed, traceparent: None };
        let times = |from: i64, until: i64| json!({"from": hour(from), "until": hour(until)}).to_string();
        let read = |data: &str| RoomCommand::decode("RoomBook", data, &envelope);
        assert_eq!(read(&times(9, 11)), Ok(book(9, 11)));
        for (data, field) in [(times(9, 9), "until"), ("{}".to_owned(), "from")] {
            assert_eq!(read(&data).unwrap_err().field, field, "{data}");
        }
    }
}
