//! The gateway's messages, as `protocol/` has them.

mod golden;
