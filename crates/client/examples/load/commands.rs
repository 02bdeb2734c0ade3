//! Commands over WebSockets: how many a second, how long each takes, and how soon they can be read.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use sillage_client::raw::Connection;
use sillage_kernel::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

use crate::Failure;
use crate::address::Address;
use crate::http::Http;
use crate::lane::{Course, Lane, Moments, Pace, Tally};
use crate::process::{Meter, Process, Taken};
use crate::report::{Cost, Report, grouped, millis, rate};
use crate::tokens::TokenArgs;

/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a view may need to come to the end of the log.
const VIEW_PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether a command is due. Of the latency at a given pace, half of this is the driver's.
const TICK: Duration = Duration::from_micros(200);

/// Likes and takes back, alternating for each user and target.
#[derive(Debug, Clone, Args)]
pub(crate) struct Commands {
    /// Where the server is.
    #[arg(long, default_value = "http://127.0.0.1:4000")]
    pub(crate) url: Address,
    #[command(flatten)]
    pub(crate) tokens: TokenArgs,
    /// How many connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: u16,
    /// How many users. With fewer than connections, each of a user's connections gets all of the user's receipts.
    #[arg(long, default_value_t = 64)]
    pub(crate) users: u16,
    /// How many commands each connection has under way.
    #[arg(long, default_value_t = 8)]
    pub(crate) in_flight: usize,
    /// How many things there are to like.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) targets: usize,
    /// For how long it counts.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// For how long it does not count before that.
    #[arg(long, default_value_t = 1)]
    pub(crate) warm_up: u64,
    /// So many a second over all connections, however many are under way; the latency is counted from the moment
    /// that a command was to be sent at.
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// The process of the server, whose share of the machine is told.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
}

impl Commands {
    pub(crate) async fn run(&self) -> Result<Report, Failure> {
        if self.connections == 0 || self.users == 0 || self.targets == 0 || self.rate == Some(0) {
            return Err("connections, users, targets and rate must be at least 1".into());
        }
        let tokens = self.tokens.get(usize::from(self.users)).await?;
        let connections = self.connect(&tokens).await?;
        let course = Rc::new(self.course());
        let (lanes, moments) = self.lanes(connections, &course);
        let race = LocalSet::new().run_until(self.race(lanes, moments, &course)).await;
        let (tally, taken) = race?;
        let lag = self.lag(&tokens, &course, &tally).await?;
        Ok(self.report(tally, taken, &lag))
    }

    async fn connect(&self, tokens: &[String]) -> Result<Vec<Connection>, Failure> {
        let mut connections = Vec::new();
        for token in tokens.iter().cycle().take(usize::from(self.connections)) {
            connections.push(Connection::open(&self.url.socket(), token).await?);
        }
        Ok(connections)
    }

    fn course(&self) -> Course {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since_1970.as_micros()).unwrap_or_default();
        // Fresh targets in each run, so that nobody likes any of them yet.
        let feeds = (0..self.targets).map(|n| format!("like-{micros:x}.{n}")).collect();
        let counts_from = Instant::now() + Duration::from_secs(self.warm_up);
        let until = counts_from + Duration::from_secs(self.seconds);
        Course { feeds, at: Timestamp::from_micros(micros).to_string(), counts_from, until }
    }

    fn lanes(&self, connections: Vec<Connection>, course: &Rc<Course>) -> (Vec<Lane>, Vec<Rc<Moments>>) {
        let first = Instant::now();
        let users: Vec<_> =
            (0..self.users).map(|_| Rc::new(RefCell::new(vec![false; self.targets]))).collect();
        let mut all_moments = Vec::new();
        let mut lanes = Vec::new();
        for ((number, connection), likes) in (0..).zip(connections).zip(users.iter().cycle()) {
            let pace = self.rate.map_or(Pace::InFlight(self.in_flight), |rate| {
                let apart = Duration::from_secs(1) / rate;
                let first = first + apart * u32::from(number);
                let apart = apart * u32::from(self.connections);
                let (wake, next) = (Notify::new(), Cell::new(first));
                let moments = Rc::new(Moments { wake, next, apart });
                all_moments.push(Rc::clone(&moments));
                Pace::Moments(moments)
            });
            lanes.push(Lane::new(connection, Rc::clone(course), pace, Rc::clone(likes), number));
        }
        (lanes, all_moments)
    }

    async fn race(
        &self,
        lanes: Vec<Lane>,
        moments: Vec<Rc<Moments>>,
        course: &Course,
    ) -> Result<(Tally, Taken), Failure> {
        let limit = course.until + PATIENCE - Instant::now();
        let running: Vec<_> = lanes.into_iter().map(|lane| spawn_local(lane.finish_within(limit))).collect();
        let pacer = spawn_local(keep_pace(moments, course.until));
        tokio::time::sleep_until(course.counts_from.into()).await;
        let meter = Meter::start(self.pid.map(Process::new))?;
        tokio::time::sleep_until(course.until.into()).await;
        let taken = meter.stop()?;
        let mut all = Tally::new();
        for lane in running {
            all.add(lane.await??);
        }
        pacer.await?;
        Ok((all, taken))
    }

    /// How long after the last receipt a query reflects it.
    async fn lag(&self, tokens: &[String], course: &Course, tally: &Tally) -> Result<String, Failure> {
        let began = Instant::now();
        let (Some(token), Some(feed)) = (tokens.first(), course.feeds.first()) else {
            return Err("there is nothing to ask for".into());
        };
        let mut http = Http::connect(&self.url, token).await?;
        let path = format!("/api/social/likes/{}", feed.trim_start_matches("like-"));
        let highest = tally.highest.get();
        let first = http.position(&path).await?;
        let mut position = first;
        while position < highest {
            if began.elapsed() > VIEW_PATIENCE {
                return Err(format!("the view is at {position} and does not come to {highest}").into());
            }
            position = http.position(&path).await?;
        }
        let behind = highest.saturating_sub(first);
        Ok(format!("view {} ms behind ({} events)", millis(began.elapsed()), grouped(behind)))
    }

    fn report(&self, tally: Tally, taken: Taken, lag: &str) -> Report {
        let Tally { latency, acknowledged, unchanged, rejected, unanswered, errors, .. } = tally;
        let pace = match self.rate {
            Some(rate) => format!("{} a second", grouped(u64::from(rate))),
            None => format!("{} under way on each", self.in_flight),
        };
        let mut notes = vec![lag.to_owned()];
        for (what, count) in [("unchanged", unchanged), ("rejected", rejected), ("unanswered", unanswered)] {
            if count > 0 {
                notes.push(format!("{} {what}", grouped(count)));
            }
        }
        notes.extend(errors.iter().map(|(code, count)| format!("{} errors `{code}`", grouped(*count))));
        let (connections, targets) = (self.connections, grouped(self.targets as u64));
        Report {
            what: format!("commands: {connections} connections, {targets} targets, {pace}"),
            result: format!("{}/s", grouped(rate(acknowledged, Duration::from_secs(self.seconds)))),
            latency: Some(latency),
            cost: Some(Cost { taken, things: acknowledged }),
            notes,
        }
    }
}

/// Wakes lanes when their moments come. The runtime's timers are a millisecond wide, so a thread keeps the time.
async fn keep_pace(moments: Vec<Rc<Moments>>, until: Instant) {
    if moments.is_empty() {
        return;
    }
    let (ticks, mut ticked) = mpsc::channel::<()>(1);
    thread::spawn(move || {
        while Instant::now() < until {
            thread::sleep(TICK);
            // One that waits already does as well; nobody listening means that it is over.
            if let Err(mpsc::error::TrySendError::Closed(())) = ticks.try_send(()) {
                return;
            }
        }
    });
    while ticked.recv().await.is_some() {
        let now = Instant::now();
        moments
            .iter()
            .filter(|moments| moments.next.get() <= now)
            .for_each(|moments| moments.wake.notify_one());
    }
    // Nothing more will come to whoever has all answers already.
    moments.iter().for_each(|moments| moments.wake.notify_one());
}
