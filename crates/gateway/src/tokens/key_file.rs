//! The file of keys. It appears whole or not at all, and what is there is never overwritten: a lost key signs
//! everybody out, and a lost content key makes a command that is sent again look like another one.
//!
//! ```json
//! {"version":1,"content_key":"…","signing":[{"kid":"…","seed":"…"}]}
//! ```
//!
//! Secrets are 32 bytes in base64url. `kid` is a hash of the public key, so a damaged seed is noticed. The
//! first key signs; all verify.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::TokenError;

/// The version of the format that is written, and the newest that is read.
const VERSION: u32 = 1;
/// The most that is read of the file, in bytes.
const MAX_FILE_BYTES: usize = 16 * 1_024;
/// The most signing keys of the file.
const MAX_SIGNING_KEYS: usize = 16;
/// How many bytes of the hash of the public key its name has, and of the hash of the content key its fingerprint.
const KID_BYTES: usize = 8;
/// What is hashed before the content key, so that no other hash of it is the same.
const FINGERPRINT_OF: &[u8] = b"sillage keys";

/// What the file holds.
pub(super) struct Secrets {
    pub(super) content_key: Zeroizing<[u8; 32]>,
    pub(super) first: KeyPair,
    pub(super) others: Vec<KeyPair>,
}

/// A signing key as the libraries want it.
pub(super) struct KeyPair {
    pub(super) kid: String,
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
    pub(super) public: Vec<u8>,
}

/// Reads the file; makes it first if there is none.
pub(super) fn open(path: &Path) -> Result<Secrets, TokenError> {
    let content = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path)?;
            read(path)
        }
        content => content,
    };
    parse(&content.map_err(failure("read", path))?, path)
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let mode = format!("{:o}", mode & 0o777);
        tracing::warn!(path = %path.display(), mode, "others may read the key file; make its mode 600");
    }
    // All the room at once, since a buffer that grows leaves copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Makes the file with new keys, unless somebody else was faster. Durable when it returns.
fn make(path: &Path) -> Result<(), TokenError> {
    let content = generate().map_err(failure("find randomness for", path))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    write_new(path, folder, &content).map_err(failure("make", path))
}

fn write_new(path: &Path, folder: &Path, content: &[u8]) -> io::Result<()> {
    // Its mode is 0600 from the beginning, and it removes itself if it is not kept.
    let mut file = tempfile::Builder::new().prefix(".keys-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(lost) if lost.error.kind() != io::ErrorKind::AlreadyExists => return Err(lost.error),
        _ => {}
    }
    // Also for whoever was slower: what it is about to use must not be lost either.
    File::open(folder)?.sync_all()
}

fn generate() -> io::Result<Zeroizing<Vec<u8>>> {
    let seed = Secret::random()?;
    let kid = key_pair(&seed).map(|pair| pair.kid).map_err(io::Error::other)?;
    let content =
        Content { version: VERSION, content_key: Secret::random()?, signing: vec![Signing { kid, seed }] };
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES));
    serde_json::to_writer(&mut *text, &content)?;
    text.push(b'\n');
    Ok(text)
}

fn parse(content: &[u8], path: &Path) -> Result<Secrets, TokenError> {
    let damaged = |problem| TokenError::DamagedKeyFile { path: path.to_owned(), problem };
    if content.len() > MAX_FILE_BYTES {
        return Err(damaged(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    let Head { version } = serde_json::from_slice(content).map_err(|error| damaged(place_of(&error)))?;
    if version > VERSION {
        return Err(TokenError::UnsupportedKeyFile { path: path.to_owned(), version });
    }
    let Content { version: _, content_key, signing } =
        serde_json::from_slice(content).map_err(|error| damaged(place_of(&error)))?;
    if signing.len() > MAX_SIGNING_KEYS {
        return Err(damaged(format!("it has more than {MAX_SIGNING_KEYS} signing keys")));
    }
    let mut pairs = Vec::with_capacity(signing.len());
    for (number, Signing { kid, seed }) in (1..).zip(signing) {
        let pair = key_pair(&seed).map_err(|problem| damaged(format!("signing key {number} {problem}")))?;
        if pair.kid != kid {
            return Err(damaged(format!("the seed of signing key {number} does not belong to its kid")));
        }
        pairs.push(pair);
    }
    let mut pairs = pairs.into_iter();
    let first = pairs.next().ok_or_else(|| damaged("it has no signing key".to_owned()))?;
    Ok(Secrets { content_key: content_key.0, first, others: pairs.collect() })
}

/// Where the text is wrong. Not what: serde quotes what it finds, and that may be a secret.
fn place_of(error: &serde_json::Error) -> String {
    let problem = if error.is_data() { "not the expected fields and lengths" } else { "not JSON" };
    format!("{problem}, at line {}, column {}", error.line(), error.column())
}

fn key_pair(seed: &Secret) -> Result<KeyPair, &'static str> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&*seed.0).map_err(|_| "cannot be used")?;
    let pkcs8 = pair.to_pkcs8().map_err(|_| "cannot be converted")?;
    let public = pair.public_key().as_ref().to_vec();
    let kid = short_hash(&public);
    Ok(KeyPair { kid, pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()), public })
}

/// What tells a content key from others. It is random, so its hash tells nothing else.
pub(super) fn fingerprint(content_key: &[u8; 32]) -> String {
    short_hash(&Zeroizing::new([FINGERPRINT_OF, content_key].concat()))
}

fn short_hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes).as_ref().get(..KID_BYTES).unwrap_or_default())
}

fn failure(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TokenError {
    let path = PathBuf::from(path);
    move |source| TokenError::KeyFile { doing, path, source }
}

/// All that is read of a version that may be newer.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    content_key: Secret,
    signing: Vec<Signing>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signing {
    kid: String,
    seed: Secret,
}

/// 32 bytes that nobody may see; it has no `Debug` on purpose.
struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    fn random() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = URL_SAFE_NO_PAD.decode(&*text).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| D::Error::custom("must be base64url"))?;
        let bytes = bytes.as_slice().try_into().map_err(|_| D::Error::custom("must be 32 bytes"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::sync::Barrier;

    use tempfile::TempDir;

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        (folder, path)
    }

    fn same(a: &Secrets, b: &Secrets) -> bool {
        a.content_key == b.content_key && a.first.kid == b.first.kid && a.first.pkcs8 == b.first.pkcs8
    }

    #[test]
    fn the_keys_are_made_once_and_for_the_owner_only() {
        let (folder, path) = folder();
        let made = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
        assert!(same(&made, &open(&path).unwrap()));
        assert!(!same(&made, &open(&folder.path().join("other.json")).unwrap()));
        assert_ne!(*made.content_key, [0; 32]);
    }

    #[test]
    fn whoever_opens_at_the_same_time_gets_the_same_keys() {
        for _ in 0..20 {
            let (_folder, path) = folder();
            let barrier = Barrier::new(8);
            let all: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    open(&path).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(all.iter().all(|one| same(one, &all[0])));
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_still_read() {
        let (_folder, path) = folder();
        let made = open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(same(&made, &open(&path).unwrap()));
    }

    #[test]
    fn a_second_key_is_read_and_does_not_sign() {
        let (folder, path) = folder();
        let first = open(&path).unwrap();
        let second = open(&folder.path().join("other.json")).unwrap();
        let mut both: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let other: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("other.json")).unwrap()).unwrap();
        both["signing"].as_array_mut().unwrap().push(other["signing"][0].clone());
        fs::write(&path, both.to_string()).unwrap();

        let read = open(&path).unwrap();
        assert!(same(&read, &first));
        assert_eq!(read.others.iter().map(|pair| &pair.kid).collect::<Vec<_>>(), [&second.first.kid]);
    }

    /// Opening a file of that content fails with a text that has this in it, and leaves the file alone.
    fn check(content: &str, says: &str) {
        let (_folder, path) = folder();
        fs::write(&path, content).unwrap();
        let error = open(&path).err().unwrap_or_else(|| panic!("opened: {content}"));
        assert!(error.to_string().contains(says), "{error} has not {says:?}: {content}");
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?} shows a secret");
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "{says}: the file was changed");
    }

    /// A secret of the right length, with its key's name.
    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    const KID: &str = "Vkdap1RjR0w";

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        let key = format!(r#"{{"kid":"{KID}","seed":"{SECRET}"}}"#);
        let with =
            |signing: &str| format!(r#"{{"version":1,"content_key":"{SECRET}","signing":[{signing}]}}"#);
        let whole = with(&key);
        parse(whole.as_bytes(), Path::new("")).map(drop).unwrap();

        check("", "is damaged: not JSON, at line 1");
        check(&whole[..whole.len() - 9], "is damaged: not JSON");
        check(&format!("{whole}x"), "is damaged: not JSON");
        check("{}", "is damaged: not the expected fields");
        check(
            &whole.replace("\"version\":1", &format!("\"version\":\"{SECRET}\"")),
            "not the expected fields",
        );
        check(&whole.replace("content_key", SECRET), "not the expected fields");
        check(&whole.replace("AAEC", "AAE"), "not the expected fields and lengths, at line 1");
        check(&whole.replace("AAEC", "A!EC"), "not the expected fields and lengths");
        check(&whole.replace("version\":1", "version\":7"), "format version 7, which is newer");
        check(&with(""), "it has no signing key");
        check(&with(&vec![key.as_str(); 17].join(",")), "more than 16 signing keys");
        check(&with(&key.replace("AAEC", "BAEC")), "the seed of signing key 1 does not belong to its kid");
        check(&" ".repeat(MAX_FILE_BYTES + 1), "it is longer than");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let (folder, _) = folder();
        let path = folder.path().join("none/keys.json");
        let error = open(&path).err().unwrap().to_string();
        assert!(error.starts_with("cannot make the key file /"), "{error}");
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.starts_with("cannot read the key file /"), "{error}");
    }
}
