//! Where events are kept, and where views keep their rows.
//!
//! [`event_store`] is the contract; the folder beside it holds its engines. [`subscription`] follows any
//! engine, [`import`] brings events of another log into one. [`views`] is the SQLite file beside each node, which can
//! always be thrown away and rebuilt.

pub mod clock;
pub mod event_store;
pub mod import;
pub mod subscription;
pub mod views;

pub use event_store::{
    Append, AppendError, Appended, CursorError, CursorState, CursorUpdate, Direction, Entry, EventStore,
    Features, Fence, Lease, LedgerEntry, LedgerKey, LedgerWrite, LogPage, Mode, Parked, ParkedBecause,
    StoreError, StreamPage, Verdict,
};
pub use subscription::Subscription;
