use std::fs;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn now() -> Timestamp {
    "2026-01-19T12:00:00.25Z".parse().unwrap()
}

fn keys() -> Keys {
    let folder = tempfile::tempdir().unwrap();
    Keys::open(&folder.path().join("keys.json")).unwrap()
}

fn grant() -> Grant {
    Grant {
        user_id: "u-1".parse().unwrap(),
        username: Some("Ada L.".to_owned()),
        tenant: "main".parse().unwrap(),
        scopes: ["moderate", "operate"].map(str::to_owned).into(),
        allowance: Allowance::Full,
        lifetime: HOUR,
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The header, the claims and the signature of a token.
fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A token that our key signs, whatever it says.
fn signed(keys: &Keys, claims: &Value) -> String {
    jsonwebtoken::encode(&keys.header, claims, &keys.signing).unwrap()
}

/// The token is refused with a text that has this in it, and that has nothing of the token.
#[track_caller]
fn check(keys: &Keys, token: &str, says: &str) {
    let error = keys.verify(token, now()).unwrap_err();
    assert!(error.to_string().contains(says), "{error} has not {says:?}");
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!format!("{error} {error:?}").contains(part), "{error:?} shows the token");
    }
}

#[test]
fn a_token_says_what_it_was_issued_for() {
    let keys = keys();
    let token = keys.issue(&grant(), now());
    let identity = keys.verify(&token, now()).unwrap();
    let Identity { actor, username, tenant, allowance, expires_at, token_id } = &identity;
    assert_eq!(actor, &Actor { user_id: grant().user_id, scopes: grant().scopes });
    assert_eq!((username.as_str(), tenant.as_str(), *allowance), ("Ada L.", "main", Allowance::Full));
    assert_eq!(expires_at.to_string(), "2026-01-19T13:00:00Z");
    assert_ne!(*token_id, keys.verify(&keys.issue(&grant(), now()), now()).unwrap().token_id);

    let [header, claims, _] = parts(&token).map(|part| part.to_owned());
    assert_eq!(decoded(&header), json!({"typ": "JWT", "alg": "EdDSA", "kid": keys.verifying[0].kid}));
    let expected = json!({
        "iss": "sillage", "sub": "u-1", "name": "Ada L.", "tenant": "main", "scope": "moderate operate",
        "iat": 1_768_824_000, "exp": 1_768_827_600, "jti": token_id,
    });
    assert_eq!(decoded(&claims), expected);
}

#[test]
fn a_guest_has_a_limit_and_no_name() {
    let keys = keys();
    let guest = Grant { username: None, scopes: BTreeSet::new(), allowance: Allowance::Limited, ..grant() };
    let token = keys.issue(&guest, now());
    let identity = keys.verify(&token, now()).unwrap();
    assert_eq!((identity.username.as_str(), identity.allowance), ("u-1", Allowance::Limited));
    assert_eq!(identity.actor, Actor::user(guest.user_id));
    assert_eq!(decoded(parts(&token)[1])["limited"], json!(true));
}

#[test]
fn a_token_ends() {
    let keys = keys();
    let token = keys.issue(&grant(), now());
    let end = keys.verify(&token, now()).unwrap().expires_at;
    let before = |moment: Timestamp| Timestamp::from_micros(moment.as_micros() - 1);
    for (moment, holds) in [
        (end, true),
        (before(clock::later(end, LEEWAY)), true),
        (clock::later(end, LEEWAY), false),
        (clock::later(end, HOUR), false),
    ] {
        let answer = keys.verify(&token, moment);
        assert_eq!(answer.is_ok(), holds, "{moment}");
        assert!(holds || matches!(answer, Err(TokenError::Expired)), "{moment}");
    }
    let endless = keys.issue(&Grant { lifetime: Duration::MAX, ..grant() }, now());
    assert!(keys.verify(&endless, now()).unwrap().expires_at.to_string().starts_with("9999-"));
}

#[test]
fn what_others_signed_is_refused() {
    let (keys, others) = (keys(), keys());
    check(&keys, &others.issue(&grant(), now()), "a key that is not in use here");

    let same_kid = Keys { header: keys.header.clone(), ..others };
    check(&keys, &same_kid.issue(&grant(), now()), "signature of the token is wrong");

    let mut old = keys.issue(&grant(), now());
    let [header, claims, signature] = parts(&old);
    let mut changed = decoded(claims);
    changed["scope"] = json!("operate everything");
    check(&keys, &format!("{header}.{}.{signature}", part(&changed)), "signature of the token is wrong");
    check(&keys, &format!("{header}.{claims}.{}", &signature[..84]), "signature of the token is wrong");
    check(&keys, &format!("{header}.{claims}."), "signature of the token is wrong");
    let renamed = part(&json!({"typ": "JWT", "alg": "EdDSA", "kid": "unknown"}));
    check(&keys, &format!("{renamed}.{claims}.{signature}"), "a key that is not in use here");
    old.push('A');
    check(&keys, &old, "signature of the token is wrong");
}

#[test]
fn only_eddsa_is_taken() {
    let keys = keys();
    let token = keys.issue(&grant(), now());
    let [_, claims, signature] = parts(&token);
    let kid = &keys.verifying[0].kid;
    let public = keys.verifying[0].key.try_get_as_bytes().unwrap();
    for alg in ["none", "None", "HS256", "HS512", "RS256", "ES256", "EdDSA ", ""] {
        let header = part(&json!({"typ": "JWT", "alg": alg, "kid": kid}));
        check(&keys, &format!("{header}.{claims}.{signature}"), "not a token of this system");
        check(&keys, &format!("{header}.{claims}."), "not a token of this system");
        let message = format!("{header}.{claims}");
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public), message.as_bytes());
        let mac = URL_SAFE_NO_PAD.encode(mac);
        check(&keys, &format!("{message}.{mac}"), "not a token of this system");
    }
    // A key that the token brings along is not looked at.
    let (header, brought) =
        (part(&json!({"alg": "EdDSA"})), json!({"alg": "EdDSA", "kid": kid, "jku": "http://x"}));
    check(&keys, &format!("{header}.{claims}.{signature}"), "not a token of this system");
    check(&keys, &format!("{}.{claims}.{signature}", part(&brought)), "signature of the token is wrong");
}

#[test]
fn what_is_no_token_is_refused() {
    let keys = keys();
    let token = keys.issue(&grant(), now());
    let [header, claims, signature] = parts(&token);
    for text in [
        "",
        ".",
        "..",
        "hello",
        "a.b.c",
        "ü.ü.ü",
        &format!("{header}.{claims}"),
        &format!("{token}.x"),
        &format!("{header}.{claims}.{signature}="),
        &format!(" {token}"),
        &format!("{header}.{}.{signature}", "a".repeat(MAX_TOKEN_BYTES)),
    ] {
        check(&keys, text, "not a token of this system");
    }
}

#[test]
fn a_signed_token_must_be_complete() {
    let keys = keys();
    let whole = decoded(parts(&keys.issue(&grant(), now()))[1]);
    keys.verify(&signed(&keys, &whole), now()).unwrap();
    let without = |claim: &str| {
        let mut claims = whole.clone();
        claims.as_object_mut().unwrap().remove(claim);
        claims
    };
    for claim in ["iss", "sub", "tenant", "scope", "iat", "exp", "jti"] {
        check(
            &keys,
            &signed(&keys, &without(claim)),
            &format!("the claim `{claim}` of the token is missing"),
        );
    }
    keys.verify(&signed(&keys, &without("name")), now()).unwrap();

    let with = |claim: &str, value: Value| {
        let mut claims = whole.clone();
        claims[claim] = value;
        signed(&keys, &claims)
    };
    for (claim, value, says) in [
        ("iss", json!("elsewhere"), "the claim `iss`"),
        ("iss", json!(["sillage"]), "not a token"),
        ("sub", json!(""), "the claim `sub`"),
        ("sub", json!("a b"), "the claim `sub`"),
        ("sub", json!(7), "not a token"),
        ("tenant", json!("a\nb"), "the claim `tenant`"),
        ("exp", json!("2030"), "not a token"),
        ("exp", json!(-1), "expired"),
        ("exp", json!(i64::MIN), "expired"),
        ("jti", json!("7"), "not a token"),
        ("limited", json!("no"), "not a token"),
        ("aud", json!("mail"), "the claim `aud`"),
    ] {
        check(&keys, &with(claim, value), says);
    }
    keys.verify(&with("exp", json!(i64::MAX)), now()).unwrap();
}

#[test]
fn an_older_key_still_verifies() {
    let (keys, mut newer) = (keys(), keys());
    let token = keys.issue(&grant(), now());
    newer.verifying.extend(keys.verifying);
    newer.verify(&token, now()).unwrap();
    assert_eq!(decoded(parts(&newer.issue(&grant(), now()))[0])["kid"], json!(newer.verifying[0].kid));
}

#[test]
fn usernames_are_printable() {
    for good in ["a", "Ada Lovelace", "李小龍", "👩\u{200d}🚀", &"é".repeat(100)] {
        check_username(good).unwrap_or_else(|error| panic!("{good:?}: {error}"));
    }
    for (bad, says) in [
        ("", "must not be empty"),
        (" ", "begin or end with a space"),
        (" a", "begin or end with a space"),
        ("a ", "begin or end with a space"),
        ("a\tb", "printable"),
        ("a\nb", "printable"),
        ("a\0", "printable"),
        ("a\u{a0}b", "printable"),
        ("\u{202e}nimda", "printable"),
        ("ad\u{200b}min", "printable"),
        (&"é".repeat(101), "too long"),
    ] {
        let error = check_username(bad).unwrap_err().to_string();
        assert!(error.contains(says), "{bad:?}: {error}");
    }
}

#[test]
fn a_token_never_says_more_than_was_granted() {
    let keys = keys();
    let scopes = |scopes: &[&str]| scopes.iter().map(|scope| (*scope).to_owned()).collect::<BTreeSet<_>>();
    let many: Vec<String> = (0..=MAX_SCOPES).map(|n| n.to_string()).collect();
    for (granted, in_token) in [
        (scopes(&["moderate operate", "read"]), scopes(&["read"])),
        (scopes(&["", "a\u{a0}b", "a\"b", "read"]), scopes(&["read"])),
        (scopes(&[&"x".repeat(MAX_SCOPE_BYTES + 1)]), scopes(&[])),
    ] {
        let grant = Grant { scopes: granted, username: Some("\u{7}".to_owned()), ..grant() };
        grant.check().unwrap_err();
        assert!(matches!(
            Grant { username: None, ..grant.clone() }.check(),
            Err(TokenError::InvalidScopes { .. })
        ));
        let identity = keys.verify(&keys.issue(&grant, now()), now()).unwrap();
        assert_eq!((identity.actor.scopes, identity.username.as_str()), (in_token, "u-1"));
    }
    Grant { scopes: many.into_iter().collect(), ..grant() }.check().unwrap_err();
    grant().check().unwrap();
}

#[test]
fn the_largest_grant_fits() {
    let keys = keys();
    let scopes = (0..MAX_SCOPES).map(|n| format!("{n:x>0$}", MAX_SCOPE_BYTES));
    let largest = Grant {
        user_id: "\"".repeat(200).parse().unwrap(),
        username: Some("🚀".repeat(MAX_USERNAME_CHARS)),
        tenant: "\\".repeat(200).parse().unwrap(),
        scopes: scopes.collect(),
        ..grant()
    };
    largest.check().unwrap();
    let identity = keys.verify(&keys.issue(&largest, now()), now()).unwrap();
    assert_eq!(identity.actor.scopes, largest.scopes);
}

#[test]
fn the_keys_outlive_the_process_and_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let keys = Keys::open(&path).unwrap();
    let again = Keys::open(&path).unwrap();
    again.verify(&keys.issue(&grant(), now()), now()).unwrap();
    assert_eq!(again.content_key(), keys.content_key());

    let shown = format!("{keys:?} {keys:#?}");
    assert!(shown.contains(&keys.verifying[0].kid), "{shown}");
    let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for secret in [&file["content_key"], &file["signing"][0]["seed"]] {
        let secret = secret.as_str().unwrap();
        let bytes = format!("{:?}", URL_SAFE_NO_PAD.decode(secret).unwrap());
        assert!(!shown.contains(secret) && !shown.contains(&bytes), "{shown}");
    }
}
