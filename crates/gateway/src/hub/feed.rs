//! The newest events of one feed, as finished frames, and everybody who follows it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::ws::Utf8Bytes;
use sillage_kernel::Version;
use sillage_runtime::station;
use tracing::Span;

use super::connection::Connection;
use super::lock;

/// The most bytes of frames that one feed holds.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// The most bytes of frames that one feed holds when all together hold too many.
pub(super) const CROWDED_BYTES: usize = 16 << 10;
/// How many deliveries of one frame are traced at most.
pub(super) const MAX_TRACED_DELIVERIES: u32 = 8;

/// An event as it goes out, encoded once for everybody.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its number in the feed.
    pub version: Version,
    /// The message.
    pub text: Utf8Bytes,
    /// The trace that it belongs to, if that is sampled.
    pub trace: Option<Arc<FrameTrace>>,
}

/// The trace that an event belongs to. It is told of the first deliveries only, or one event that thousands follow
/// would be thousands of spans.
#[derive(Debug)]
pub struct FrameTrace {
    traceparent: Box<str>,
    delivered: AtomicU32,
}

impl FrameTrace {
    pub(super) fn new(traceparent: &str) -> Arc<Self> {
        Arc::new(Self { traceparent: traceparent.into(), delivered: AtomicU32::new(0) })
    }
}

impl Frame {
    /// The station of its delivery to one follower.
    pub fn deliver(&self) -> Span {
        let trace = self
            .trace
            .as_deref()
            .filter(|trace| trace.delivered.fetch_add(1, Ordering::Relaxed) < MAX_TRACED_DELIVERIES);
        station!("deliver", trace.map(|trace| &*trace.traceparent))
    }
}

/// A feed that somebody follows.
pub(super) struct Feed {
    frames: Mutex<Frames>,
    /// The bytes of all feeds together, these among them.
    all_bytes: Arc<AtomicUsize>,
    followers: Mutex<Vec<Arc<Connection>>>,
    /// The number of the last event that came by.
    head: AtomicU64,
}

#[derive(Default)]
struct Frames {
    newest: VecDeque<Frame>,
    bytes: usize,
}

/// What a feed has for somebody who wants a certain event.
pub(super) enum Taken {
    /// Some frames, from that event on.
    Frames,
    /// Nothing newer came by.
    Nothing,
    /// It no longer holds that event: the log does.
    Gone,
}

impl Feed {
    /// A feed without events, whose bytes are counted in `all_bytes` as long as it lives.
    pub(super) fn new(all_bytes: Arc<AtomicUsize>) -> Self {
        Self { frames: Mutex::default(), all_bytes, followers: Mutex::default(), head: AtomicU64::new(0) }
    }

    /// Adds the next event, and forgets the oldest beyond so many bytes.
    pub(super) fn push(&self, frame: Frame, limit: usize) {
        let mut frames = lock(&self.frames);
        let before = frames.bytes;
        // After a rewind the same events come by again; whoever follows has them.
        if frames.newest.back().is_some_and(|last| last.version >= frame.version) {
            return;
        }
        self.head.store(frame.version.get(), Ordering::Release);
        // An operator may have had an event skipped: what stood before a gap is read from the log.
        if frames.newest.back().is_some_and(|last| last.version.next() != frame.version) {
            frames.newest.clear();
            frames.bytes = 0;
        }
        frames.bytes += frame.text.len();
        frames.newest.push_back(frame);
        while frames.bytes > limit && frames.newest.len() > 1 {
            let Some(oldest) = frames.newest.pop_front() else { break };
            frames.bytes -= oldest.text.len();
        }
        self.all_bytes.fetch_add(frames.bytes, Ordering::Relaxed);
        self.all_bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Gives the frames from `next` on, in order, until `take` has enough.
    pub(super) fn take(&self, next: Version, mut take: impl FnMut(&Frame) -> Enough) -> Taken {
        if self.head.load(Ordering::Acquire) < next.get() {
            return Taken::Nothing;
        }
        let frames = lock(&self.frames);
        let Some(oldest) = frames.newest.front().map(|frame| frame.version) else { return Taken::Gone };
        if oldest > next {
            return Taken::Gone;
        }
        // The versions of a feed have no gaps, so the place follows from the number.
        let skip = usize::try_from(next.get() - oldest.get()).unwrap_or(usize::MAX);
        for frame in frames.newest.iter().skip(skip) {
            if take(frame) == Enough::Yes {
                break;
            }
        }
        Taken::Frames
    }

    pub(super) fn add(&self, connection: &Arc<Connection>) {
        lock(&self.followers).push(Arc::clone(connection));
    }

    /// Answers how many are left.
    pub(super) fn remove(&self, connection: &Connection) -> usize {
        let mut followers = lock(&self.followers);
        if let Some(at) = followers.iter().position(|follower| follower.id() == connection.id()) {
            followers.swap_remove(at);
        }
        followers.len()
    }

    pub(super) fn wake_all(&self) {
        lock(&self.followers).iter().for_each(|follower| follower.wake());
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(lock(&self.frames).bytes, Ordering::Relaxed);
    }
}

/// Whether a reader wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enough {
    /// No more.
    Yes,
    /// More.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(version: u64, bytes: usize) -> Frame {
        Frame { version: Version::new(version), text: "x".repeat(bytes).into(), trace: None }
    }

    fn taken(feed: &Feed, next: u64) -> Option<Vec<u64>> {
        let mut versions = Vec::new();
        let taken = feed.take(Version::new(next), |frame| {
            versions.push(frame.version.get());
            Enough::No
        });
        (!matches!(taken, Taken::Gone)).then_some(versions)
    }

    #[test]
    fn the_newest_are_held_and_counted_as_long_as_the_feed_lives() {
        let all = Arc::new(AtomicUsize::new(7));
        let feed = Feed::new(Arc::clone(&all));
        for version in 1..=5 {
            feed.push(frame(version, 100), 300);
        }
        assert_eq!((taken(&feed, 3), taken(&feed, 5)), (Some(vec![3, 4, 5]), Some(vec![5])));
        assert_eq!((taken(&feed, 6), taken(&feed, 2)), (Some(vec![]), None));
        assert_eq!(all.load(Ordering::Relaxed), 307);
        feed.push(frame(6, 1_000), 300);
        assert_eq!((taken(&feed, 6), all.load(Ordering::Relaxed)), (Some(vec![6]), 1_007));
        drop(feed);
        assert_eq!(all.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn what_comes_by_again_is_passed_over_and_a_gap_is_not_hidden() {
        let feed = Feed::new(Arc::default());
        for version in [4, 5, 4, 5, 6] {
            feed.push(frame(version, 1), 300);
        }
        assert_eq!(taken(&feed, 4), Some(vec![4, 5, 6]));
        feed.push(frame(8, 1), 300);
        assert_eq!((taken(&feed, 7), taken(&feed, 8)), (None, Some(vec![8])));
    }
}
