//! Commands without a connection, by a clock that the test moves.

use serde_json::json;
use sillage_kernel::wire::ActionMessage;
use uuid::Uuid;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Clock(Now);

impl Clock {
    fn start() -> Self {
        Self(Now { instant: Instant::now(), wall: Timestamp::from_micros(1_800_000_000_000_000) })
    }

    fn pass(&mut self, time: Duration) {
        self.0.instant += time;
        self.sleep(time);
    }

    /// Only the wall's clock goes on, as it does while a machine sleeps.
    fn sleep(&mut self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).unwrap();
        self.0.wall = Timestamp::from_micros(self.0.wall.as_micros() + micros);
    }

    fn mint(&self) -> CommandId {
        let random: [u8; 10] = *Uuid::now_v7().as_bytes().last_chunk().unwrap();
        CommandId(uuid::Builder::from_unix_timestamp_millis(self.0.wall.as_millis(), &random).into_uuid())
    }
}

fn commands(change: impl FnOnce(&mut Limits, &mut Timing)) -> Commands {
    let (mut limits, mut timing) = (Limits::default(), Timing::default());
    change(&mut limits, &mut timing);
    Commands::new(limits, timing)
}

fn add(commands: &mut Commands, clock: &Clock, feed: &str) -> CommandId {
    let (command_id, feed) = (clock.mint(), feed.parse::<StreamName>().unwrap());
    let action = ActionMessage { feed: feed.clone(), event_type: "X".into(), command_id, data: json!({}) };
    let message = serde_json::to_string(&action).unwrap().into();
    commands.add(Entry { feed, command_id, message }, None, clock.0);
    command_id
}

fn sent(commands: &mut Commands, clock: &Clock) -> Vec<CommandId> {
    let next = || commands.next_to_send(clock.0);
    let read = |message: Arc<str>| serde_json::from_str::<ActionMessage>(&message).unwrap().command_id;
    std::iter::from_fn(next).map(read).collect()
}

#[test]
fn feeds_take_turns_and_each_keeps_its_order() {
    let clock = Clock::start();
    let mut commands = commands(|limits, _| limits.in_flight = 2);
    let [a1, a2, b1, c1] = ["x-a", "x-a", "x-b", "x-c"].map(|feed| add(&mut commands, &clock, feed));
    assert_eq!(sent(&mut commands, &clock), [a1, b1]);
    commands.settle(a1).unwrap();
    assert_eq!(sent(&mut commands, &clock), [c1], "who waited first is served first");
    commands.settle(c1).unwrap();
    assert_eq!(sent(&mut commands, &clock), [a2]);
    assert!(commands.settle(a1).is_none(), "a command is settled once");
}

#[test]
fn an_answer_is_waited_for_twice_as_long_each_time() {
    let mut clock = Clock::start();
    let mut commands = commands(|_, timing| timing.answer = Duration::from_secs(10));
    let id = add(&mut commands, &clock, "x-a");
    for seconds in [10, 20, 40, 80, 80, 80] {
        assert_eq!(sent(&mut commands, &clock), [id]);
        let (almost, rest) = (Duration::from_secs(seconds - 1), Duration::from_secs(1));
        clock.pass(almost);
        assert_eq!(commands.tick(clock.0), []);
        assert_eq!(sent(&mut commands, &clock), []);
        clock.pass(rest);
        assert_eq!(commands.tick(clock.0), []);
    }
}

#[test]
fn a_command_that_rests_holds_its_feed_up_and_no_other() {
    let mut clock = Clock::start();
    let mut commands = commands(|limits, timing| {
        limits.in_flight_per_feed = 2;
        (timing.backoff, timing.max_backoff) = (Duration::from_secs(1), Duration::from_secs(1));
    });
    let [a1, a2, a3, b1] = ["x-a", "x-a", "x-a", "x-b"].map(|feed| add(&mut commands, &clock, feed));
    assert_eq!(sent(&mut commands, &clock), [a1, b1, a2]);
    commands.retry(a1, Duration::from_secs(30), clock.0);
    commands.settle(a2).unwrap();
    commands.settle(b1).unwrap();
    clock.pass(Duration::from_secs(29));
    commands.tick(clock.0);
    assert_eq!(sent(&mut commands, &clock), []);
    let b2 = add(&mut commands, &clock, "x-b");
    assert_eq!(sent(&mut commands, &clock), [b2]);
    clock.pass(Duration::from_secs(1));
    commands.tick(clock.0);
    assert_eq!(sent(&mut commands, &clock), [a1, a3]);
}

#[test]
fn a_lost_connection_leaves_nothing_under_way() {
    let clock = Clock::start();
    let mut commands = commands(|limits, _| limits.in_flight_per_feed = 3);
    let ids = ["x-a", "x-a", "x-a"].map(|feed| add(&mut commands, &clock, feed));
    assert_eq!(sent(&mut commands, &clock), ids);
    commands.disconnected();
    assert_eq!(commands.largest_in_flight(), None);
    assert_eq!(sent(&mut commands, &clock), ids);
    assert_eq!(commands.len(), 3);
}

#[test]
fn age_is_counted_by_the_time_in_the_id_even_while_the_machine_sleeps() {
    let mut clock = Clock::start();
    let mut commands = commands(|_, timing| timing.max_age = 7 * DAY);
    let first = add(&mut commands, &clock, "x-a");
    clock.pass(6 * DAY);
    let second = add(&mut commands, &clock, "x-b");
    assert_eq!(commands.tick(clock.0), []);
    clock.pass(DAY);
    assert_eq!(commands.tick(clock.0), [first]);
    commands.settle(first).unwrap();
    clock.sleep(6 * DAY);
    assert_eq!(sent(&mut commands, &clock), [], "too old to be sent, though no timer said so");
    assert_eq!(commands.tick(clock.0), [second]);
    commands.settle(second).unwrap();
    assert_eq!(commands.len(), 0);
}

#[test]
fn room_is_promised_before_a_command_is_stored() {
    let clock = Clock::start();
    let mut commands = commands(|limits, _| (limits.commands, limits.command_bytes) = (2, 1_000));
    commands.reserve(600).unwrap();
    assert_eq!(commands.reserve(600), Err(Error::OutboxFull { waiting: 1 }));
    commands.reserve(100).unwrap();
    assert_eq!(commands.reserve(1), Err(Error::OutboxFull { waiting: 2 }));
    commands.release(600);
    let id = add(&mut commands, &clock, "x-a");
    commands.release(100);
    commands.reserve(100).unwrap();
    assert_eq!(commands.reserve(100), Err(Error::OutboxFull { waiting: 2 }));
    commands.settle(id).unwrap();
    commands.reserve(100).unwrap();
}
