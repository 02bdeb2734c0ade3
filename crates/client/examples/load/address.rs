//! Where a server is.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A host and a port.
#[derive(Debug, Clone)]
pub(crate) struct Address(String);

impl Address {
    /// The address of the socket.
    pub(crate) fn socket(&self) -> String {
        format!("ws://{}/ws", self.0)
    }

    /// What to connect to.
    pub(crate) fn authority(&self) -> &str {
        &self.0
    }
}

/// Takes `http://host:port`, `ws://host:port/ws` or the bare host and port.
impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let without_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = without_scheme.split('/').next().unwrap_or_default();
        Ok(Self(authority.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
