//! What each category keeps.
//!
//! Invariant: a category that does not keep all of its events has rules that make a state of them, and every view that
//! wants them can be rebuilt from such a state.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sillage_kernel::Timestamp;
use sillage_store::clock;
use sillage_store::views::ViewSet;

use crate::deciders::{Deciders, Rules};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What of its events a category keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    #[default]
    All,
    /// What is younger than so many days, and what its states rest on.
    Days(u16),
    /// What comes after the last baseline.
    FromBaseline,
}

impl FromStr for Keep {
    type Err = String;

    /// `all`, `baseline`, or a number of days as in `30d`.
    fn from_str(text: &str) -> Result<Self, String> {
        let days = || text.strip_suffix('d')?.parse().ok().filter(|days| *days > 0);
        match text {
            "all" => Ok(Self::All),
            "baseline" => Ok(Self::FromBaseline),
            _ => days().map(Self::Days).ok_or_else(|| {
                format!("{text:?} is neither `all`, nor `baseline`, nor a number of days as in `30d`")
            }),
        }
    }
}

impl Keep {
    /// A baseline that was taken then may be used by now.
    pub(super) fn lets_go(self, taken: Timestamp) -> bool {
        match self {
            Self::All => false,
            Self::Days(days) => clock::later(taken, DAY * days.into()) <= clock::now(),
            Self::FromBaseline => true,
        }
    }
}

/// The categories that do not keep all of their events.
#[derive(Clone, Default)]
pub struct Policies(pub(super) Arc<[Policy]>);

pub(super) struct Policy {
    pub(super) keep: Keep,
    pub(super) rules: Arc<dyn Rules>,
}

/// Why a category cannot have a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No system owns streams of that category: look at the names.
    #[error("there is no category {category:?} that could drop events; there are {known}")]
    Unknown {
        /// The name.
        category: String,
        /// Those that there are.
        known: String,
    },
    /// It is named twice: decide.
    #[error("it is said twice what {0} keeps")]
    Twice(String),
    /// A view cannot be rebuilt without the events: keep them, or teach the view to fold baselines.
    #[error("{category} must keep all of its events, since the view {view} cannot be rebuilt from baselines")]
    Needed {
        /// The category.
        category: String,
        /// The first of the views.
        view: &'static str,
    },
}

impl Policies {
    /// What some categories keep; all others keep everything.
    pub fn new(deciders: &Deciders, views: &ViewSet, keep: &[(String, Keep)]) -> Result<Self, PolicyError> {
        let mut policies: Vec<Policy> = Vec::new();
        let mut named = BTreeSet::new();
        for (category, keep) in keep {
            let unknown = || {
                let known = deciders.categories().join(", ");
                PolicyError::Unknown { category: category.clone(), known }
            };
            let rules = deciders.rules_of(category).ok_or_else(unknown)?;
            if !named.insert(category) {
                return Err(PolicyError::Twice(category.clone()));
            }
            if *keep == Keep::All {
                continue;
            }
            if let Some(view) = views.need_every_event_of(category).first() {
                return Err(PolicyError::Needed { category: category.clone(), view });
            }
            policies.push(Policy { keep: *keep, rules: Arc::clone(rules) });
        }
        Ok(Self(policies.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_from_a_word() {
        let rows = [
            ("all", Some(Keep::All)),
            ("baseline", Some(Keep::FromBaseline)),
            ("30d", Some(Keep::Days(30))),
            ("65535d", Some(Keep::Days(u16::MAX))),
            ("0d", None),
            ("30", None),
            ("-1d", None),
            ("65536d", None),
            ("d", None),
            ("", None),
        ];
        for (text, keep) in rows {
            assert_eq!(text.parse().ok(), keep, "{text:?}");
        }
    }

    #[test]
    fn a_baseline_is_used_when_what_it_stands_for_is_old_enough() {
        let ago = |days: u64| {
            let micros = i64::try_from(days * DAY.as_secs() * 1_000_000).unwrap();
            Timestamp::from_micros(clock::now().as_micros() - micros)
        };
        assert!(!Keep::All.lets_go(ago(1_000)));
        assert!(Keep::FromBaseline.lets_go(ago(0)));
        assert!(!Keep::Days(30).lets_go(ago(29)) && Keep::Days(30).lets_go(ago(30)));
    }
}
