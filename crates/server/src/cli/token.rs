//! `sillage token`: a token for a user, signed with the keys of a data folder.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use sillage_gateway::tokens::{Allowance, Grant, Keys};
use sillage_kernel::{Tenant, UserId};
use sillage_server::Config;
use sillage_store::clock;

use super::Failure;
use super::data::Data;

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
}

pub(crate) fn run(token: Token) -> Result<(), Failure> {
    let Token { user: user_id, username, tenant, scope, hours, data: Data { data } } = token;
    std::fs::create_dir_all(&data)?;
    let config = Config::new(([127, 0, 0, 1], 0).into(), data);
    let keys = Keys::open(&config.keys_file())?;
    let grant = Grant {
        user_id,
        username,
        tenant,
        scopes: scope.into_iter().collect::<BTreeSet<_>>(),
        allowance: Allowance::Full,
        lifetime: Duration::from_secs(u64::from(hours) * 3_600),
    };
    grant.check()?;
    println!("{}", keys.issue(&grant, clock::now()));
    Ok(())
}
