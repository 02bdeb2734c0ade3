//! Names and numbers. None of them is a bare string or integer, so that none can be taken for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest name in bytes of a tenant, a user or a stream's category.
pub const MAX_NAME_BYTES: usize = 200;
/// The longest stream name in bytes: a category, a hyphen and an id of 200 characters of up to four bytes.
pub const MAX_STREAM_BYTES: usize = 1_024;

/// The category of the streams of baselines.
pub const BASELINES: &str = "$baseline";

/// A name that cannot be used; the text says why, and may be shown to whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct InvalidName {
    /// What was named: `tenant`, `user` or `stream`.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

fn check_name(what: &'static str, text: &str, max_bytes: usize) -> Result<(), InvalidName> {
    let problem = if text.is_empty() {
        "must not be empty"
    } else if text.len() > max_bytes {
        "is too long"
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "must consist of printable characters without spaces"
    } else {
        return Ok(());
    };
    Err(InvalidName { what, problem })
}

/// Gives a newtype over `Arc<str>` its reading, writing and checks.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check_name($what, text, $max)?;
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|problem| InvalidName { what: $what, problem })?;
                Ok(Self(text.into()))
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &self.0)
            }
        }
    };
}

name! {
    /// The outermost wall; nothing crosses it.
    Tenant, "tenant", MAX_NAME_BYTES, |_| Ok(())
}
name! {
    /// Whoever acts: a person or a program with an account.
    UserId, "user", MAX_NAME_BYTES, |_| Ok(())
}
name! {
    /// The events of one thing, `category-id`, and the unit of consistency. The category ends at the first
    /// hyphen. Categories that begin with `$` belong to the system.
    StreamName, "stream", MAX_STREAM_BYTES, |text| match text.split_once('-') {
        Some((category, id)) if !category.is_empty() && !id.is_empty() => Ok(()),
        _ => Err("must be a category, a hyphen and an id"),
    }
}

impl StreamName {
    /// The stream of the thing `id` in `category`.
    pub fn new(category: &str, id: &str) -> Result<Self, InvalidName> {
        if category.contains('-') {
            return Err(InvalidName { what: "stream", problem: "must have a category without a hyphen" });
        }
        format!("{category}-{id}").parse()
    }

    /// The stream that holds the outcomes of commands without events of `principal`.
    pub fn outcomes_of(principal: &UserId) -> Self {
        Self(format!("$outcomes-{principal}").into())
    }

    /// The stream that holds the baselines of `stream`. There is none for a name that leaves no room for a longer one.
    pub fn baseline_of(stream: &Self) -> Result<Self, InvalidName> {
        Self::new(BASELINES, stream.as_str())
    }

    /// The stream whose baselines this one holds, if it holds any.
    pub fn baseline_for(&self) -> Option<Self> {
        self.0.split_once('-').filter(|(category, _)| *category == BASELINES)?.1.parse().ok()
    }

    /// What comes before the first hyphen.
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or("", |(category, _)| category)
    }

    /// What comes after the first hyphen.
    pub fn id(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, id)| id)
    }
}

/// The largest number that is read: beyond it, a program whose numbers are floating-point would hear another one.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Gives a newtype over `u64` that counts from 1, with 0 for "before the first".
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(try_from = "u64")]
        pub struct $name(u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// The number `n`.
            pub const fn new(n: u64) -> Self {
                Self(n)
            }
            /// The number as an integer.
            pub const fn get(self) -> u64 {
                self.0
            }
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
            /// The one before this; the first has [`Self::ZERO`] before it, and so has that.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }
        impl TryFrom<u64> for $name {
            type Error = &'static str;
            /// A number that somebody else wrote.
            fn try_from(n: u64) -> Result<Self, &'static str> {
                if n <= MAX_NUMBER { Ok(Self(n)) } else { Err("must be below 2^53") }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of an event in its stream, from 1, without gaps; `sequence_number` on the wire.
    Version
}
number! {
    /// The number of an event in the whole log; grows, never repeats.
    Position
}

/// The identity of a log; changes when a log is restored or reset, so that a client notices.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// An epoch from the random number that a log got at its birth.
    pub fn from_log_id(id: u128) -> Self {
        Self(format!("{id:032x}").into())
    }

    /// An epoch as somebody wrote it; a colon is refused, since `epoch:position` ends it there.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains(':')).then(|| Self(text.into()))
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A position as it is known outside the store, `epoch:position`. Without an epoch it means the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    /// The log that the position belongs to, if it was said.
    pub epoch: Option<Epoch>,
    /// The position in it.
    pub position: Position,
}

impl FromStr for LogPosition {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const WRONG: InvalidName =
            InvalidName { what: "position", problem: "must be epoch:position or a number, below 2^53" };
        let (epoch, number) = match text.rsplit_once(':') {
            Some((epoch, number)) => (Some(Epoch::parse(epoch).ok_or(WRONG)?), number),
            None => (None, text),
        };
        let position = number.parse().ok().and_then(|n: u64| Position::try_from(n).ok()).ok_or(WRONG)?;
        Ok(Self { epoch, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_is_split_at_its_first_hyphen() {
        let stream: StreamName = "like-article-1".parse().unwrap();
        assert_eq!((stream.category(), stream.id()), ("like", "article-1"));
        assert_eq!(stream, StreamName::new("like", "article-1").unwrap());
    }

    #[test]
    fn a_stream_and_that_of_its_baselines_lead_to_each_other() {
        let stream: StreamName = "like-article-1".parse().unwrap();
        let baselines = StreamName::baseline_of(&stream).unwrap();
        assert_eq!((baselines.as_str(), baselines.category()), ("$baseline-like-article-1", BASELINES));
        assert_eq!((baselines.baseline_for(), stream.baseline_for()), (Some(stream), None));
        let long: StreamName = format!("like-{}", "x".repeat(MAX_STREAM_BYTES - 5)).parse().unwrap();
        assert!(StreamName::baseline_of(&long).is_err());
    }

    #[test]
    fn names_that_would_confuse_are_refused() {
        for bad in ["", "like", "-x", "like-", "like-a b", "like-a\n", &format!("like-{}", "x".repeat(1_024))]
        {
            assert!(bad.parse::<StreamName>().is_err(), "{bad:?}");
        }
        assert!(StreamName::new("a-b", "c").is_err());
        assert!("a\tb".parse::<UserId>().is_err());
        assert!(serde_json::from_str::<Tenant>("\"\"").is_err());
    }

    #[test]
    fn a_log_position_has_an_epoch_or_means_the_current_one() {
        let with: LogPosition = "abc:12".parse().unwrap();
        assert_eq!((with.epoch.unwrap().as_str(), with.position.get()), ("abc", 12));
        let without: LogPosition = "12".parse().unwrap();
        assert_eq!((without.epoch, without.position.get()), (None, 12));
        for bad in ["", ":1", "abc:", "abc:x", "-1", "a:b:1", "9007199254740992", "a:9007199254740992"] {
            assert!(bad.parse::<LogPosition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_that_others_would_read_as_another_is_refused() {
        for good in [0, 1, MAX_NUMBER] {
            let text = good.to_string();
            assert_eq!(serde_json::from_str::<Version>(&text).unwrap(), Version::new(good));
            assert_eq!(serde_json::to_string(&Position::new(good)).unwrap(), text);
        }
        for bad in
            ["9007199254740992", "9007199254740993", "18446744073709551615", "-1", "1.5", "1e3", "\"1\""]
        {
            assert!(serde_json::from_str::<Version>(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<Position>(bad).is_err(), "{bad}");
        }
    }
}
