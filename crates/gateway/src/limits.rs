//! How much one may ask for, and how many may be connected. Guests are held to rates; tokens from the command line
//! are not. The number of connections is bounded for everybody, and for each user, so that nobody takes all of it.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota};
use sillage_kernel::{Tenant, UserId};

use crate::Gateway;
use crate::codes::{RETRY_AFTER_SECONDS, Refusal};
use crate::hub::{Follower, MAX_FEEDS};
use crate::tokens::{Allowance, Identity};

/// How many guests are looked after before those who were quiet for long are forgotten.
const REMEMBERED_GUESTS: usize = 10_000;

/// How many sockets and streams may be open at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of everybody.
    pub connections: usize,
    /// Of one user with an account: many, since it may be a program that serves others.
    pub of_one_user: usize,
    /// Of one guest.
    pub of_one_guest: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 20_000, of_one_user: 2_000, of_one_guest: 16 }
    }
}

/// The rates, each a second. As many again may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Commands of one guest.
    pub guest_commands: NonZeroU32,
    /// What one guest asks of a view, the ledger or, by `sync`, the log.
    pub guest_queries: NonZeroU32,
    /// Feeds that one guest begins to follow; as many as one connection follows may come at once.
    pub guest_subscriptions: NonZeroU32,
    /// New sockets and streams of one guest.
    pub guest_connections: NonZeroU32,
    /// New guests, all together.
    pub new_guests: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Self {
        let [guest_commands, guest_queries, guest_subscriptions, guest_connections, new_guests] =
            [10, 20, 20, 5, 20].map(|n| NonZeroU32::new(n).expect("none is zero"));
        Self { guest_commands, guest_queries, guest_subscriptions, guest_connections, new_guests }
    }
}

type Guests = DefaultKeyedRateLimiter<(Tenant, UserId)>;

/// Counts who has asked for how much (GCRA).
pub struct Limits {
    commands: Guests,
    queries: Guests,
    subscriptions: Guests,
    connections: Guests,
    new_guests: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Limits {
    /// Nobody has asked for anything.
    pub fn new(rates: Rates) -> Self {
        let Rates { guest_commands, guest_queries, guest_subscriptions, guest_connections, new_guests } =
            rates;
        let guests = |rate| Guests::keyed(Quota::per_second(rate));
        let whole_connection = u32::try_from(MAX_FEEDS).ok().and_then(NonZeroU32::new);
        let feeds = whole_connection.map_or(guest_subscriptions, |feeds| feeds.max(guest_subscriptions));
        Self {
            commands: guests(guest_commands),
            queries: guests(guest_queries),
            subscriptions: Guests::keyed(Quota::per_second(guest_subscriptions).allow_burst(feeds)),
            connections: guests(guest_connections),
            new_guests: DefaultDirectRateLimiter::direct(Quota::per_second(new_guests)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a command, or refuses it.
    pub fn command(&self, identity: &Identity) -> Result<(), Refusal> {
        self.count(&self.commands, identity)
    }

    /// Counts a question to a view, the ledger or the log, or refuses it.
    pub fn query(&self, identity: &Identity) -> Result<(), Refusal> {
        self.count(&self.queries, identity)
    }

    /// Counts a feed that is to be followed, or refuses it.
    pub fn subscription(&self, identity: &Identity) -> Result<(), Refusal> {
        self.count(&self.subscriptions, identity)
    }

    /// Counts a new guest, or refuses it.
    pub fn new_guest(&self) -> Result<(), Refusal> {
        self.new_guests.check().map_err(|early| self.too_many(&early))
    }

    fn count(&self, guests: &Guests, identity: &Identity) -> Result<(), Refusal> {
        if identity.allowance == Allowance::Full {
            return Ok(());
        }
        if guests.len() > REMEMBERED_GUESTS {
            guests.retain_recent();
        }
        let key = (identity.tenant.clone(), identity.actor.user_id.clone());
        guests.check_key(&key).map_err(|early| self.too_many(&early))
    }

    fn too_many(&self, early: &governor::NotUntil<<DefaultClock as Clock>::Instant>) -> Refusal {
        Refusal::too_many(early.wait_time_from(self.clock.now()).as_secs() + 1)
    }
}

impl Gateway {
    /// Opens a connection for whoever has signed in, if there is room for one more.
    pub(crate) fn connect(&self, identity: &Identity) -> Result<Follower, Refusal> {
        // As the closing frame of a socket says, too.
        let later = |refusal| Refusal { retry_after: Some(RETRY_AFTER_SECONDS), ..refusal };
        self.limits.count(&self.limits.connections, identity).map_err(later)?;
        Follower::open(&self.hub, identity)
    }
}
