//! The one task of this node that writes: takes all that waits as one group, commits it in one transaction, shows it to
//! readers, and only then answers.
//!
//! Invariant: nobody is answered before it is certain whether what they asked for was kept. What cannot even be asked
//! for is refused after the patience of the options, so that nobody waits without an end.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::group::{Group, Wanted};
use super::link::Failed;
use super::session::Session;
use crate::event_store::AppendError;
use crate::event_store::queue::{GROUP_BYTES, GROUP_JOBS, Job};

/// How long a group whose outcome is unknown is asked for; then its callers are told that it is.
const ASK_FOR: Duration = Duration::from_secs(300);
/// Between two attempts to make a connection ready that could be made.
const PAUSE: Duration = Duration::from_millis(500);

/// The state of the writing task.
pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: UnboundedReceiver<Job>,
    /// What was taken and not judged yet, since the connection was lost before it could be.
    taken: Vec<Job>,
}

/// What became of some jobs.
enum Written {
    /// Everybody was answered.
    Settled,
    /// Nothing of it was sent: it waits for another connection.
    NotYet,
    /// It was sent, and the connection failed before it was known whether it was kept.
    Unknown(Box<Group>, Failed),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, jobs: UnboundedReceiver<Job>) -> Self {
        Self { shared, jobs, taken: Vec::new() }
    }

    /// Works until every sender is gone. A panic is a failure for good: the task does not come back.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        if AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
            shared.fail("the writing task has panicked");
        }
    }

    async fn work(&mut self) {
        let mut next = self.session().await;
        while let Some(session) = next {
            next = self.serve(session).await;
        }
    }

    /// A connection that can write, however long that takes; `None` once nobody asks any more.
    async fn session(&mut self) -> Option<Session> {
        let shared = Arc::clone(&self.shared);
        let mut opening = pin!(open(&shared));
        tokio::select! {
            biased;
            session = &mut opening => return Some(session),
            () = sleep_until(shared.connector.deadline()) => {}
        }
        tracing::error!("the database cannot be reached, and what is to be written is refused");
        let away = AppendError::Unavailable("the database cannot be reached".into());
        for job in self.taken.drain(..) {
            job.refuse(&away);
        }
        loop {
            tokio::select! {
                biased;
                session = &mut opening => {
                    tracing::info!("the database can be reached again");
                    return Some(session);
                }
                job = self.jobs.recv() => {
                    let job = job?;
                    self.account(&job);
                    job.refuse(&away);
                }
            }
        }
    }

    /// Writes what waits for as long as the connection holds. Answers the one to go on with.
    async fn serve(&mut self, session: Session) -> Option<Session> {
        loop {
            if self.taken.is_empty() {
                let job = tokio::select! {
                    biased;
                    job = self.jobs.recv() => job,
                    () = session.lost() => return self.session().await,
                };
                let Some(job) = job else {
                    session.close().await;
                    return None;
                };
                self.gather(job);
            }
            match self.write(&session).await {
                // Those who were answered may ask again, for the next group: else half of them always wait for the one
                // after it.
                Written::Settled => yield_now().await,
                Written::NotYet => {
                    drop(session);
                    return self.session().await;
                }
                Written::Unknown(group, failed) => {
                    drop(session);
                    return self.settle(*group, &failed).await;
                }
            }
        }
    }

    /// Takes what waits, as far as a group has room for it.
    fn gather(&mut self, first: Job) {
        let mut bytes = self.account(&first);
        self.taken.push(first);
        while bytes < GROUP_BYTES && self.taken.len() < GROUP_JOBS {
            let Ok(job) = self.jobs.try_recv() else { break };
            bytes += self.account(&job);
            self.taken.push(job);
        }
    }

    /// A job has left the queue. Answers its bytes.
    fn account(&self, job: &Job) -> usize {
        let Job::Append(_, load, _) = job else { return 0 };
        self.shared.waiting.taken(load);
        load.bytes()
    }

    async fn write(&mut self, session: &Session) -> Written {
        let connector = &self.shared.connector;
        let seen = self.shared.head();
        let base = connector.within(session.begin(Wanted::of(&self.taken))).await;
        let base = base.and_then(|base| self.shared.recognise(&base.state, seen).map(|()| base));
        let base = match base {
            Ok(base) => base,
            Err(Failed::Lost(_)) => return Written::NotYet,
            Err(failed) => {
                let refused = self.refusal(&failed);
                self.taken.drain(..).for_each(|job| job.refuse(&refused));
                // Nothing was written, so it is no matter how that ends.
                return match connector.within(session.end()).await {
                    Ok(()) => Written::Settled,
                    Err(_) => Written::NotYet,
                };
            }
        };
        let group = Group::stage(std::mem::take(&mut self.taken), base);
        if group.is_empty() {
            let ended = connector.within(session.end()).await;
            self.publish(group);
            return if ended.is_ok() { Written::Settled } else { Written::NotYet };
        }
        match connector.within(session.commit(&group, self.shared.id)).await {
            Ok(()) => {
                self.publish(group);
                Written::Settled
            }
            Err(failed) => Written::Unknown(Box::new(group), failed),
        }
    }

    /// Shows the group to readers, wakes them, then answers: whoever is answered can read what it wrote.
    fn publish(&self, group: Group) {
        let (position, events, answer) = group.publish();
        self.shared.reach(position, events);
        answer();
    }

    /// Asks on another connection whether a group was kept, and tells everybody in it. Nothing else is written before.
    async fn settle(&mut self, group: Group, failed: &Failed) -> Option<Session> {
        let until = Instant::now() + ASK_FOR;
        loop {
            let Some(session) = self.session().await else {
                group.refuse(&unknown());
                return None;
            };
            let seen = self.shared.head();
            let asked = self.shared.connector.within(session.was_kept(group.id)).await;
            match asked.and_then(|(state, kept)| self.shared.recognise(&state, seen).map(|()| kept)) {
                Ok(true) => self.publish(group),
                Ok(false) => group.refuse(&self.refusal(failed)),
                Err(Failed::Lost(_) | Failed::Busy) if Instant::now() < until => continue,
                Err(error) => {
                    tracing::error!(%error, "it stays unknown whether a group was kept");
                    group.refuse(&unknown());
                }
            }
            return Some(session);
        }
    }

    /// What is told to those of whom nothing was kept.
    fn refusal(&self, failed: &Failed) -> AppendError {
        match failed {
            Failed::Busy => AppendError::Overloaded,
            Failed::Broken(_) => {
                self.shared.fail(&failed.to_string());
                AppendError::Unavailable(failed.to_string().into())
            }
            Failed::Lost(_) | Failed::Refused(_) => {
                tracing::error!(error = %failed, "a group could not be written");
                AppendError::Unavailable(failed.to_string().into())
            }
        }
    }
}

fn unknown() -> AppendError {
    AppendError::Unavailable(
        "the database was lost before it said whether this was kept; the ledger tells".into(),
    )
}

/// A connection that is ready to write.
async fn open(shared: &Shared) -> Session {
    loop {
        let link = shared.connector.connect_at_last().await;
        match shared.connector.within(Session::new(link)).await {
            Ok(session) => return session,
            Err(error) => {
                tracing::error!(%error, "a connection to the database cannot be used");
                if let Failed::Broken(_) = error {
                    shared.fail(&error.to_string());
                }
            }
        }
        sleep(PAUSE).await;
    }
}
