//! How much one may send. Guests are held to a rate; tokens from the command line are not.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota};
use sillage_kernel::{Tenant, UserId};

use crate::codes::Refusal;
use crate::tokens::{Allowance, Identity};

/// How many guests are looked after before those who were quiet for long are forgotten.
const REMEMBERED_GUESTS: usize = 10_000;

/// The rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Commands a second of one guest; as many again may come at once.
    pub guest_commands: NonZeroU32,
    /// New guests a second, all together; as many again may come at once.
    pub new_guests: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Self {
        let [guest_commands, new_guests] = [10, 20].map(|n| NonZeroU32::new(n).expect("neither is zero"));
        Self { guest_commands, new_guests }
    }
}

/// Counts who has sent how much (GCRA).
pub struct Limits {
    guests: DefaultKeyedRateLimiter<(Tenant, UserId)>,
    new_guests: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Limits {
    /// Nobody has sent anything.
    pub fn new(rates: Rates) -> Self {
        Self {
            guests: DefaultKeyedRateLimiter::keyed(Quota::per_second(rates.guest_commands)),
            new_guests: DefaultDirectRateLimiter::direct(Quota::per_second(rates.new_guests)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a command, or refuses it.
    pub fn command(&self, identity: &Identity) -> Result<(), Refusal> {
        if identity.allowance == Allowance::Full {
            return Ok(());
        }
        if self.guests.len() > REMEMBERED_GUESTS {
            self.guests.retain_recent();
        }
        let key = (identity.tenant.clone(), identity.actor.user_id.clone());
        self.guests.check_key(&key).map_err(|early| self.too_many(&early))
    }

    /// Counts a new guest, or refuses it.
    pub fn new_guest(&self) -> Result<(), Refusal> {
        self.new_guests.check().map_err(|early| self.too_many(&early))
    }

    fn too_many(&self, early: &governor::NotUntil<<DefaultClock as Clock>::Instant>) -> Refusal {
        Refusal::too_many(early.wait_time_from(self.clock.now()).as_secs() + 1)
    }
}
