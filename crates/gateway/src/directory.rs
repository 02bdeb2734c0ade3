//! What people are called. The log knows only ids; names are filled in on the way out.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sillage_kernel::{Tenant, UserId};

/// How many names are remembered; beyond that the rest go by their id until somebody is forgotten.
const MAX_NAMES: usize = 100_000;

/// The names that tokens have told. A user whose token was never seen is called by the id.
#[derive(Default)]
pub struct Directory {
    names: RwLock<HashMap<(Tenant, UserId), String>>,
}

impl Directory {
    /// Remembers what a token says.
    pub fn remember(&self, tenant: &Tenant, user: &UserId, username: &str) {
        if self.username(tenant, user) == username {
            return;
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert((tenant.clone(), user.clone()), username.to_owned());
    }

    /// What to call a user.
    pub fn username(&self, tenant: &Tenant, user: &UserId) -> String {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&(tenant.clone(), user.clone())).cloned().unwrap_or_else(|| user.to_string())
    }
}
