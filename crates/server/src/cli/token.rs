//! `sillage token`: a token for a user, signed with the keys of the nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use sillage_gateway::tokens::{self, Allowance, Grant};
use sillage_kernel::{Tenant, UserId};
use sillage_store::clock;

use super::Failure;
use super::data::{Data, Keys, Store};
#[cfg(feature = "postgres")]
use super::wait_for;
use crate::Config;
#[cfg(feature = "postgres")]
use crate::{Log, keys, node};

#[derive(Args)]
pub(crate) struct Token {
    /// The id of the user.
    #[arg(long)]
    user: UserId,
    /// What to call them; the id, unless given.
    #[arg(long)]
    username: Option<String>,
    /// The tenant.
    #[arg(long, default_value = "main")]
    tenant: Tenant,
    /// What they may do beyond an ordinary user, as `moderate` or `operate`; may be repeated.
    #[arg(long)]
    scope: Vec<String>,
    /// How many hours it holds.
    #[arg(long, default_value_t = 24)]
    hours: u32,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    store: Store,
}

pub(crate) fn run(token: Token) -> Result<(), Failure> {
    let Token { user: user_id, username, tenant, scope, hours, data: Data { data }, keys, store } = token;
    let (log, keys) = (store.log()?, keys.file());
    if keys.is_none() {
        std::fs::create_dir_all(&data)?;
    }
    let config = Config { log, keys, ..Config::new(([127, 0, 0, 1], 0).into(), data) };
    let keys = tokens::Keys::open(&config.keys_file())?;
    let grant = Grant {
        user_id,
        username,
        tenant,
        scopes: scope.into_iter().collect::<BTreeSet<_>>(),
        allowance: Allowance::Full,
        lifetime: Duration::from_secs(u64::from(hours) * 3_600),
    };
    grant.check()?;
    #[cfg(feature = "postgres")]
    check(&config, &keys)?;
    println!("{}", keys.issue(&grant, clock::now()));
    Ok(())
}

/// Refuses keys that the nodes of a log in a database do not have, since they would refuse the token.
#[cfg(feature = "postgres")]
fn check(config: &Config, keys: &tokens::Keys) -> Result<(), Failure> {
    if let Log::Postgres(database) = &config.log {
        wait_for(async {
            let store = node::open_database(database).await?;
            let held = keys::hold(store.as_ref(), keys, &config.keys_file()).await;
            store.close().await;
            held
        })??;
    }
    Ok(())
}
