//! The gateway's messages, as `protocol/` has them.

#![cfg(test)]

mod golden;
