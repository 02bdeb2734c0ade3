//! Where the rows of the likes are kept, and how they are asked for.

use rusqlite::{Connection, OptionalExtension, params};
use sillage_domains::likes::{LikesKey, LikesRow, LikesView};
use sillage_kernel::{Tenant, UserId, Version};
use sillage_store::views::Table;

/// The tables of [`LikesView`].
pub struct LikesTables;

impl Table<LikesView> for LikesTables {
    fn schema(&self) -> &'static str {
        "DROP TABLE IF EXISTS likes_targets;
         CREATE TABLE likes_targets(
            tenant TEXT NOT NULL, target TEXT NOT NULL, count INTEGER NOT NULL, closed INTEGER NOT NULL,
            version INTEGER NOT NULL, PRIMARY KEY (tenant, target)) WITHOUT ROWID;
         DROP TABLE IF EXISTS likes_given;
         CREATE TABLE likes_given(
            tenant TEXT NOT NULL, target TEXT NOT NULL, user TEXT NOT NULL,
            PRIMARY KEY (tenant, target, user)) WITHOUT ROWID;"
    }

    fn load(&self, db: &Connection, key: &LikesKey) -> rusqlite::Result<Option<LikesRow>> {
        match key {
            LikesKey::Target(tenant, target) => target_row(db, tenant, target),
            LikesKey::Like(tenant, target, user) => {
                Ok(likes(db, tenant, target, user)?.then_some(LikesRow::Like))
            }
        }
    }

    fn save(&self, db: &Connection, key: &LikesKey, row: Option<&LikesRow>) -> rusqlite::Result<()> {
        match (key, row) {
            (LikesKey::Target(tenant, target), Some(LikesRow::Target { count, closed, version })) => db
                .prepare_cached("INSERT OR REPLACE INTO likes_targets VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![tenant.as_str(), target, count, closed, version.get()])?,
            (LikesKey::Target(tenant, target), _) => db
                .prepare_cached("DELETE FROM likes_targets WHERE tenant = ?1 AND target = ?2")?
                .execute(params![tenant.as_str(), target])?,
            (LikesKey::Like(tenant, target, user), Some(_)) => db
                .prepare_cached("INSERT OR IGNORE INTO likes_given VALUES (?1, ?2, ?3)")?
                .execute(params![tenant.as_str(), target, user.as_str()])?,
            (LikesKey::Like(tenant, target, user), None) => db
                .prepare_cached("DELETE FROM likes_given WHERE tenant = ?1 AND target = ?2 AND user = ?3")?
                .execute(params![tenant.as_str(), target, user.as_str()])?,
        };
        Ok(())
    }
}

/// The likes of a target, as one user sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LikesOfTarget {
    /// How many like it.
    pub count: u64,
    /// Whether this user does.
    pub me: bool,
    /// The version of its stream.
    pub version: Version,
}

/// The likes of a target; one that nobody ever liked has none.
pub fn likes_of(
    db: &Connection,
    tenant: &Tenant,
    target: &str,
    user: &UserId,
) -> rusqlite::Result<LikesOfTarget> {
    match target_row(db, tenant, target)? {
        Some(LikesRow::Target { count, version, .. }) => {
            Ok(LikesOfTarget { count, version, me: likes(db, tenant, target, user)? })
        }
        _ => Ok(LikesOfTarget::default()),
    }
}

fn target_row(db: &Connection, tenant: &Tenant, target: &str) -> rusqlite::Result<Option<LikesRow>> {
    let mut row = db.prepare_cached(
        "SELECT count, closed, version FROM likes_targets WHERE tenant = ?1 AND target = ?2",
    )?;
    row.query_row(params![tenant.as_str(), target], |row| {
        let (count, closed, version) = (row.get(0)?, row.get(1)?, Version::new(row.get(2)?));
        Ok(LikesRow::Target { count, closed, version })
    })
    .optional()
}

fn likes(db: &Connection, tenant: &Tenant, target: &str, user: &UserId) -> rusqlite::Result<bool> {
    let mut given = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM likes_given WHERE tenant = ?1 AND target = ?2 AND user = ?3)",
    )?;
    given.query_row(params![tenant.as_str(), target, user.as_str()], |row| row.get(0))
}
