//! The rules of each system, pure: what may happen, and nothing else.
//!
//! One aggregate is one file, always in one order: events, state, commands, decisions, view, tests.
//! A domain may read another's events, and nothing more of it.

pub mod likes;
