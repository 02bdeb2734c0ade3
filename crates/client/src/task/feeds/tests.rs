//! Readers against a server and a wire that lose, repeat and forget. Whatever happens, a reader gets each event once
//! and in order; and once nothing is lost any longer, everybody comes to have everything.

use std::collections::VecDeque;

use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::json;
use sillage_kernel::wire::ServerMessage;
use tokio::sync::Notify;

use super::*;
use crate::subscription::{FeedMessage, Subscription};

const FEED: &str = "x-a";

fn name() -> StreamName {
    FEED.parse().unwrap()
}

fn epoch(number: u64) -> Epoch {
    Epoch::parse(&format!("e{number}")).unwrap()
}

/// What travels from the server to the client.
#[derive(Debug, Clone)]
enum Travelling {
    Said(ServerMessage),
    Event(EventMessage<Value>),
}

/// Whoever reads, and what they have.
struct Reader {
    subscription: Subscription,
    /// Nothing before it is told where it begins.
    has: Option<(Epoch, u64)>,
    since: Since,
    mailbox: Arc<Mailbox>,
}

struct World {
    feeds: Feeds,
    now: Instant,
    task: Arc<Notify>,
    readers: Vec<Reader>,
    /// The server: which log, how many events, and which it sends next on this connection.
    log: u64,
    head: u64,
    sends: Option<u64>,
    wire: VecDeque<Travelling>,
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Arrive(u8),
    Lose,
    Repeat,
    Read(usize, u8),
    Join(Start),
    Leave(usize),
    Reconnect,
    Restore(u8),
    Pass(u16),
}

#[derive(Debug, Clone)]
enum Start {
    Begin,
    Now,
    After(u8),
    Foreign,
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![
        Just(Start::Begin),
        Just(Start::Now),
        (0..20_u8).prop_map(Start::After),
        Just(Start::Foreign)
    ];
    prop_oneof![
        4 => (1..6_u8).prop_map(Step::Append),
        8 => (1..9_u8).prop_map(Step::Arrive),
        1 => Just(Step::Lose),
        1 => Just(Step::Repeat),
        4 => (0..4_usize, 1..9_u8).prop_map(|(who, count)| Step::Read(who, count)),
        1 => start.prop_map(Step::Join),
        1 => (0..4_usize).prop_map(Step::Leave),
        1 => Just(Step::Reconnect),
        1 => (0..9_u8).prop_map(Step::Restore),
        2 => (0..20_000_u16).prop_map(Step::Pass),
    ]
}

impl World {
    fn new() -> Self {
        let task = Arc::new(Notify::new());
        let (feeds, now) = (Feeds::new(Timing::default()), Instant::now());
        Self { feeds, now, task, readers: vec![], log: 1, head: 0, sends: None, wire: VecDeque::new() }
    }

    fn event(&self, number: u64) -> Travelling {
        Travelling::Event(EventMessage {
            feed: name(),
            epoch: epoch(self.log),
            sequence_number: Version::new(number),
            position: sillage_kernel::Position::new(number),
            event_type: "X".into(),
            data: json!(null),
            user_id: None,
            username: None,
            timestamp: sillage_kernel::Timestamp::default(),
            command_id: None,
        })
    }

    /// The server sends what it has to, and answers what it is asked.
    fn serve(&mut self) {
        while let Some(request) = self.feeds.next_request(self.now) {
            let request: Value = serde_json::from_str(&request).unwrap();
            if request["type"] == "unsubscribe" {
                self.sends = None;
                self.wire.push_back(Travelling::Said(ServerMessage::Unsubscribed { feed: name() }));
                continue;
            }
            let theirs = request["epoch"].as_str();
            let last = request["last_sequence"].as_u64();
            let next = match last {
                _ if request["from"] == "now" => self.head + 1,
                Some(last) if theirs == Some(epoch(self.log).as_str()) && last <= self.head => last + 1,
                Some(_) => {
                    let resync = ServerMessage::Resync { feed: name(), epoch: epoch(self.log) };
                    self.wire.push_back(Travelling::Said(resync));
                    1
                }
                None => 1,
            };
            let current_sequence = Version::new(self.head);
            let subscribed =
                ServerMessage::Subscribed { feed: name(), epoch: epoch(self.log), current_sequence };
            self.wire.push_back(Travelling::Said(subscribed));
            self.sends = Some(next);
        }
        while let Some(next) = self.sends.filter(|next| *next <= self.head) {
            self.wire.push_back(self.event(next));
            self.sends = Some(next + 1);
        }
    }

    fn arrive(&mut self) {
        match self.wire.pop_front() {
            Some(Travelling::Said(ServerMessage::Subscribed { feed, epoch, current_sequence })) => {
                self.feeds.subscribed(&feed, &epoch, current_sequence);
            }
            Some(Travelling::Said(ServerMessage::Resync { feed, epoch })) => self.feeds.resync(&feed, &epoch),
            Some(Travelling::Event(event)) => self.feeds.event(event, 10, self.now),
            Some(Travelling::Said(_)) | None => {}
        }
    }

    fn read(&mut self, who: usize) -> bool {
        let Some(reader) = self.readers.get_mut(who) else { return false };
        match reader.subscription.next().now_or_never() {
            Some(Some(FeedMessage::Event(event))) => {
                let (epoch, number) = (event.epoch, event.sequence_number.get());
                if let Some((theirs, has)) = &reader.has {
                    assert_eq!((theirs, has + 1), (&epoch, number));
                }
                reader.has = Some((epoch, number));
            }
            Some(Some(FeedMessage::Resync { epoch })) => reader.has = Some((epoch, 0)),
            Some(Some(FeedMessage::Subscribed { epoch, current_sequence })) => {
                let head = if reader.since == Since::Start { 0 } else { current_sequence.get() };
                let has = reader.has.get_or_insert((epoch.clone(), head));
                assert_eq!(has.0, epoch, "another log is told first");
            }
            Some(other) => panic!("{other:?}"),
            None => return false,
        }
        true
    }

    fn join(&mut self, start: &Start) {
        let mailbox = Mailbox::new(4, 1_000, Arc::clone(&self.task));
        let after = |epoch, number| Since::After { epoch, last_sequence: Version::new(number) };
        let (since, has) = match start {
            Start::Begin => (Since::Start, None),
            Start::Now => (Since::Now, None),
            Start::After(number) => {
                let has = (epoch(self.log), u64::from(*number));
                (after(has.0.clone(), has.1), Some(has))
            }
            Start::Foreign => (after(epoch(0), 3), Some((epoch(0), 3))),
        };
        let subscription = Subscription::new(name(), Arc::clone(&mailbox));
        self.feeds.add(name(), since.clone(), Arc::clone(&mailbox));
        self.readers.push(Reader { subscription, has, since, mailbox });
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(count) => self.head += u64::from(*count),
            Step::Arrive(count) => (0..*count).for_each(|_| self.arrive()),
            Step::Lose => drop(self.wire.pop_front()),
            Step::Repeat => {
                if let Some(first) = self.wire.front().cloned() {
                    self.wire.push_front(first);
                }
            }
            Step::Read(who, count) => {
                for _ in 0..*count {
                    self.read(*who);
                }
            }
            Step::Join(start) if self.readers.len() < 4 => self.join(start),
            Step::Leave(who) if *who < self.readers.len() => drop(self.readers.swap_remove(*who)),
            Step::Join(_) | Step::Leave(_) => {}
            Step::Reconnect => self.reconnect(),
            Step::Restore(head) => {
                (self.log, self.head) = (self.log + 1, u64::from(*head));
                self.reconnect();
            }
            Step::Pass(millis) => self.pass(Duration::from_millis(u64::from(*millis))),
        }
        self.feeds.readers_changed();
        self.serve();
    }

    fn reconnect(&mut self) {
        self.sends = None;
        self.wire.clear();
        self.feeds.disconnected();
        self.feeds.connected();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.feeds.tick(self.now);
    }

    /// Nothing is lost any longer; time passes until nothing more happens.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.pass(Duration::from_secs(120));
            loop {
                self.feeds.readers_changed();
                self.serve();
                let arrived = !self.wire.is_empty();
                self.arrive();
                let read: Vec<bool> = (0..self.readers.len()).map(|who| self.read(who)).collect();
                if !arrived && !read.contains(&true) {
                    break;
                }
            }
        }
    }
}

/// The rarest of the mistakes that this has found needed some hundreds of runs.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: 8 * usual.cases, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_reader_gets_each_event_once_and_in_order(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        world.join(&Start::Begin);
        world.feeds.connected();
        for step in &steps {
            world.take(step);
        }
        // A loss that nothing follows is only noticed by what follows it.
        world.head += 1;
        world.settle();
        for reader in &world.readers {
            prop_assert_eq!(reader.has.clone(), Some((epoch(world.log), world.head)));
            prop_assert!(!reader.mailbox.is_left());
        }
        prop_assert_eq!(world.feeds.deadline(), None);
    }
}
