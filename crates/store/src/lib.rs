//! Where events are kept, and where views keep their rows.
//!
//! [`event_store`] is the contract; the folder beside it holds its engines. [`subscription`] follows any
//! engine, [`import`] brings events of another log into one, `transfer` moves a whole log to another engine. [`views`] and [`snapshots`] are SQLite files beside each
//! node, which can always be thrown away.

pub mod clock;
pub mod event_store;
pub mod import;
pub mod snapshots;
pub mod subscription;
#[cfg(feature = "postgres")]
pub mod transfer;
pub mod views;

pub use event_store::{
    Append, AppendError, Appended, CursorError, CursorState, CursorUpdate, Cut, Direction, Dropped, Entry,
    EventStore, Features, Fence, Lease, LedgerEntry, LedgerKey, LedgerWrite, LogPage, Mode, Nodes, Parked,
    ParkedBecause, StoreError, StreamPage, Verdict,
};
pub use snapshots::{Snapshot, SnapshotOf, Snapshots};
pub use subscription::Subscription;
