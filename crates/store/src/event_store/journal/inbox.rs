//! What the staging thread is told: what callers want, and what has come of the group that is on its way to the disk.
//!
//! The word of the disk goes first, since another group can be on its way before anybody hears of the last one. The inbox
//! does not bound what callers put in: they ask [`Waiting`](super::super::queue::Waiting) for room before they come here.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use sillage_journal::Group as Sealed;

use super::writer::Landed;
use crate::event_store::queue::Job;

/// How many jobs are waited for by whoever wants none.
pub(super) const ONLY_THE_DISK: usize = usize::MAX;

/// See the module.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    landed: VecDeque<(Sealed, Landed)>,
    is_closed: bool,
    /// How many jobs the staging thread sleeps for, if it sleeps. Each time that it is woken costs more than to stage a
    /// job.
    sleeps_for: Option<usize>,
}

impl State {
    /// Whether it is worth waking somebody who waits for so many jobs.
    fn is_worth(&self, jobs: usize) -> bool {
        !self.landed.is_empty() || self.jobs.len() >= jobs || self.is_closed && jobs != ONLY_THE_DISK
    }

    fn take(&mut self) -> Option<Told> {
        let landed = self.landed.pop_front().map(|(sealed, landed)| Told::Landed(sealed, landed));
        landed.or_else(|| self.jobs.pop_front().map(Told::Job))
    }
}

/// One thing that the staging thread is told.
pub(super) enum Told {
    /// To do this.
    Job(Job),
    /// What has come of the group on its way; with its buffer.
    Landed(Sealed, Landed),
}

impl Inbox {
    /// Adds a job. It is dropped, and with it the way to answer it, if nobody works here any more.
    pub(super) fn put(&self, job: Job) {
        self.change(|state| {
            if !state.is_closed {
                state.jobs.push_back(job);
            }
        });
    }

    /// The oldest group on its way has come to this.
    pub(super) fn landed(&self, sealed: Sealed, landed: Landed) {
        self.change(|state| state.landed.push_back((sealed, landed)));
    }

    /// Nothing more is put in; what is in is still to be done.
    pub(super) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    /// Nothing that is in will be done.
    pub(super) fn abandon(&self) {
        self.change(|state| *state = State { is_closed: true, ..State::default() });
    }

    /// What is there, without waiting.
    pub(super) fn poll(&self) -> Option<Told> {
        self.lock().take()
    }

    /// Waits for the word of the disk, or for so many jobs, of which it gives the first; `None` once it is closed and
    /// empty. For [`ONLY_THE_DISK`] there must be a group on its way.
    pub(super) fn next(&self, jobs: usize) -> Option<Told> {
        let mut state = self.lock();
        while !state.is_worth(jobs) {
            state.sleeps_for = Some(jobs);
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeps_for = None;
        state.take()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakes = state.sleeps_for.is_some_and(|jobs| state.is_worth(jobs));
        if wakes {
            // Once is enough.
            state.sleeps_for = None;
            drop(state);
            self.told.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
