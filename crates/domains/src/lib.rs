//! The rules of each system, pure: what may happen, and nothing else.
//!
//! One aggregate is one file, always in one order: events, state, commands, decisions, view, tests.
//! A domain may read another's events, and nothing more of it. What it needs beside its rules (tables, routes, who may
//! reach it) is in `crates/server/src/systems/`; `docs/guides/write-a-domain.md` writes both, step by step.

pub mod likes;
