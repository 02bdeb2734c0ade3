//! Tokens: who somebody is, signed by this node, so that no request needs a look-up. What always holds:
//!
//! 1. **Nothing of a token is believed before its signature.** Only EdDSA is taken, with one of the keys of
//!    the key file; the header chooses among those keys, and nothing else.
//! 2. **No secret and no token is ever printed**: not by `Debug`, and not in the text of an error.
//!
//! A token is a JWT: `iss`, `sub` (the user), `name`, `tenant`, `scope` (words with spaces between), `iat`,
//! `exp`, `jti`, and `limited` for guests. The keys live in a file, see `key_file`.

mod key_file;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sillage_kernel::{Actor, Tenant, Timestamp, UserId};
use sillage_store::clock;
use uuid::{NoContext, Uuid};
use zeroize::Zeroizing;

/// Who signs: the claim `iss`.
pub const ISSUER: &str = "sillage";
/// How long after its end a token is still taken, since the clocks of two nodes differ a little.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// The longest token that is read, in bytes. Every [`Grant`] that passes its check stays below it.
pub const MAX_TOKEN_BYTES: usize = 8 * 1_024;
/// The longest username, in characters.
pub const MAX_USERNAME_CHARS: usize = 100;
/// The most scopes of a token.
pub const MAX_SCOPES: usize = 32;
/// The longest scope, in bytes.
pub const MAX_SCOPE_BYTES: usize = 64;

/// Every failure of tokens and their keys. The texts may be shown to whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key file could not be read or made. Mend what the system complains of, and start again.
    #[error("cannot {doing} the key file {}: {source}", path.display())]
    KeyFile {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// The key file cannot be understood. Restore it from a backup. Only if there is none, move it away: new
    /// keys are made then, everybody must sign in again, and a command sent again is taken for another one.
    #[error("the key file {} is damaged: {problem}; it was left as it is", path.display())]
    DamagedKeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without anything of its content.
        problem: String,
    },
    /// A newer version of this program wrote the key file. Use that version; nothing was changed.
    #[error("the key file {} has format version {version}, which is newer than this program", path.display())]
    UnsupportedKeyFile {
        /// Which file.
        path: PathBuf,
        /// The version found there.
        version: u32,
    },
    /// It is not a token as this program signs them: another shape or another algorithm. Answer 401.
    #[error("that is not a token of this system")]
    Malformed,
    /// It names a key that is not, or no longer, among ours. Answer 401.
    #[error("the token was signed with a key that is not in use here; sign in again")]
    UnknownKey,
    /// It was changed, or somebody else signed it. Answer 401; many of them are worth an operator's look.
    #[error("the signature of the token is wrong; sign in again")]
    BadSignature,
    /// It held until recently. Answer 401, so that the client gets another.
    #[error("the token has expired; sign in again")]
    Expired,
    /// It is signed by us, and yet not complete: it was made for another purpose or by another version.
    /// Answer 401.
    #[error("the claim `{claim}` of the token is missing or wrong; sign in again")]
    InvalidClaim {
        /// Which claim.
        claim: &'static str,
    },
    /// A name that cannot be used. Ask for another.
    #[error("the username {problem}")]
    InvalidUsername {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Scopes that a token cannot carry. Ask for others.
    #[error("the scopes {problem}")]
    InvalidScopes {
        /// What is wrong with them.
        problem: &'static str,
    },
}

/// How much somebody may do in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// As much as the system bears: a user with an account.
    Full,
    /// Held to a rate: a guest.
    Limited,
}

/// What a new token shall say.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who it speaks for.
    pub user_id: UserId,
    /// What they are called; their id, unless given.
    pub username: Option<String>,
    /// Where they belong.
    pub tenant: Tenant,
    /// What they may do beyond an ordinary user.
    pub scopes: BTreeSet<String>,
    /// How much they may do.
    pub allowance: Allowance,
    /// How long the token holds.
    pub lifetime: Duration,
}

impl Grant {
    /// Refuses what a token cannot say. For whoever lets somebody else fill in the grant.
    pub fn check(&self) -> Result<(), TokenError> {
        self.username.as_deref().map_or(Ok(()), check_username)?;
        let invalid = |problem| Err(TokenError::InvalidScopes { problem });
        if self.scopes.len() > MAX_SCOPES {
            return invalid("are too many");
        }
        if !self.scopes.iter().all(|scope| is_scope(scope)) {
            return invalid("must be short words of visible ASCII");
        }
        Ok(())
    }
}

/// Whoever a valid token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user, and what they may do.
    pub actor: Actor,
    /// What they are called; their id, unless they have a name.
    pub username: String,
    /// Where they belong.
    pub tenant: Tenant,
    /// How much they may do.
    pub allowance: Allowance,
    /// When the token ends; [`LEEWAY`] is not counted.
    pub expires_at: Timestamp,
    /// Which token it was: no two have the same.
    pub token_id: Uuid,
}

/// Refuses a username that is empty, too long, or would look like something else: 1 to 100 printable
/// characters, with spaces only between others.
pub fn check_username(name: &str) -> Result<(), TokenError> {
    let problem = if name.is_empty() {
        "must not be empty"
    } else if name.chars().count() > MAX_USERNAME_CHARS {
        "is too long"
    } else if name.starts_with(' ') || name.ends_with(' ') {
        "must not begin or end with a space"
    } else if name.chars().any(is_unprintable) {
        "must consist of printable characters"
    } else {
        return Ok(());
    };
    Err(TokenError::InvalidUsername { problem })
}

/// Whether a character is not to be seen, or changes how its neighbours are: what turns the direction of
/// writing makes one name look like another. The joiners of emoji and of Persian are let through.
fn is_unprintable(c: char) -> bool {
    let is_hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    c.is_control() || (c.is_whitespace() && c != ' ') || is_hidden
}

fn is_scope(scope: &str) -> bool {
    (1..=MAX_SCOPE_BYTES).contains(&scope.len())
        && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// The keys of this node, read once. They sign tokens, check them, and key the hashes of the ledger.
pub struct Keys {
    content_key: Zeroizing<[u8; 32]>,
    /// The header of every token that is signed here; it names the first of `verifying`.
    header: Header,
    signing: EncodingKey,
    verifying: Vec<VerifyingKey>,
    validation: Validation,
}

struct VerifyingKey {
    kid: String,
    key: DecodingKey,
}

impl Keys {
    /// Reads the keys from their file. If there is none, makes it; whoever else does so at the same time gets
    /// the same keys. Warns if others than the owner may read it.
    pub fn open(file: &Path) -> Result<Self, TokenError> {
        let key_file::Secrets { content_key, first, others } = key_file::open(file)?;
        let header = Header { kid: Some(first.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let signing = EncodingKey::from_ed_der(&first.pkcs8);
        let verifying = std::iter::once(first)
            .chain(others)
            .map(|pair| VerifyingKey { kid: pair.kid, key: DecodingKey::from_ed_der(&pair.public) })
            .collect();
        Ok(Self { content_key, header, signing, verifying, validation: signature_only() })
    }

    /// The key of the ledger's hashes. With another key, a command sent again is taken for another one.
    pub fn content_key(&self) -> [u8; 32] {
        *self.content_key
    }

    /// What tells these keys from those of another file, and tells nothing of them: a hash, fit for logs. Files that
    /// differ in their signing keys alone, as while these are changed one by one, have the same.
    pub fn fingerprint(&self) -> String {
        key_file::fingerprint(&self.content_key)
    }

    /// Signs a token. A username or a scope that [`Grant::check`] refuses is left out, so that a token never
    /// says more than it was meant to.
    pub fn issue(&self, grant: &Grant, now: Timestamp) -> String {
        let Grant { user_id, username, tenant, scopes, allowance, lifetime } = grant;
        let scopes: Vec<&str> =
            scopes.iter().map(String::as_str).filter(|scope| is_scope(scope)).take(MAX_SCOPES).collect();
        let claims = Claims {
            iss: Some(ISSUER.to_owned()),
            sub: Some(user_id.to_string()),
            name: username.clone().filter(|name| check_username(name).is_ok()),
            tenant: Some(tenant.to_string()),
            scope: Some(scopes.join(" ")),
            iat: Some(to_seconds(now)),
            exp: Some(to_seconds(clock::later(now, *lifetime))),
            jti: Some(new_token_id(now)),
            limited: (*allowance == Allowance::Limited).then_some(true),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signing)
            .expect("the key was checked when it was read, and the claims are text and numbers")
    }

    /// Whoever the token speaks for, if it is ours and still holds.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        let kid = header.kid.ok_or(TokenError::Malformed)?;
        let VerifyingKey { key, .. } =
            self.verifying.iter().find(|key| key.kid == kid).ok_or(TokenError::UnknownKey)?;
        let signed = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
        signed.map_err(|error| refusal_of(error.kind()))?.claims.identity(now)
    }
}

/// Only the key identifiers, which every token shows anyway.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.verifying.iter().map(|key| &key.kid).collect();
        f.debug_struct("Keys").field("kids", &kids).finish_non_exhaustive()
    }
}

/// Leaves to the library the algorithm, the signature, and that nobody else is the audience. It would take
/// the time from the machine's clock, so the claims are judged by [`Claims::identity`].
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation
}

fn refusal_of(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::InvalidAudience => TokenError::InvalidClaim { claim: "aud" },
        _ => TokenError::Malformed,
    }
}

/// What stands in a token. All of it is optional here, so that what is missing can be named.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    tenant: Option<String>,
    scope: Option<String>,
    iat: Option<i64>,
    exp: Option<i64>,
    jti: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<bool>,
}

impl Claims {
    fn identity(self, now: Timestamp) -> Result<Identity, TokenError> {
        let Self { iss, sub, name, tenant, scope, iat, exp, jti, limited } = self;
        let wrong = |claim| TokenError::InvalidClaim { claim };
        if iss.as_deref() != Some(ISSUER) {
            return Err(wrong("iss"));
        }
        let expires_at = Timestamp::from_micros(exp.ok_or(wrong("exp"))?.saturating_mul(1_000_000));
        if clock::later(expires_at, LEEWAY) <= now {
            return Err(TokenError::Expired);
        }
        let user_id: UserId = sub.and_then(|sub| sub.parse().ok()).ok_or(wrong("sub"))?;
        let tenant = tenant.and_then(|tenant| tenant.parse().ok()).ok_or(wrong("tenant"))?;
        let scopes = scope.ok_or(wrong("scope"))?.split_ascii_whitespace().map(str::to_owned).collect();
        iat.ok_or(wrong("iat"))?;
        let token_id = jti.ok_or(wrong("jti"))?;
        let username = name.unwrap_or_else(|| user_id.to_string());
        let allowance = if limited == Some(true) { Allowance::Limited } else { Allowance::Full };
        Ok(Identity { actor: Actor { user_id, scopes }, username, tenant, allowance, expires_at, token_id })
    }
}

/// JWT counts whole seconds; the rest is cut off.
fn to_seconds(moment: Timestamp) -> i64 {
    moment.as_micros().div_euclid(1_000_000)
}

fn new_token_id(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.as_micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, micros / 1_000_000, nanos))
}

#[cfg(test)]
mod tests;
