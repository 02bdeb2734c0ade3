//! What the store keeps beside the log, and the shapes in which it keeps it. The contract of the engines is
//! asked in `sillage-conformance`.

#![cfg(test)]

mod backup;
mod codec;
mod compaction;
mod epoch;
mod events;
mod failing_writes;
mod import;
mod journal;
mod past;
mod subscription;
mod verify;
mod views;
mod walk;
