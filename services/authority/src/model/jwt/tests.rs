//! Every way we know to get a token past a verifier.

use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;
const NOW: i64 = NOW_MS / 1000;

struct Signer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).unwrap(),
        }
    }

    fn jwks(&self) -> String {
        let point = self.ec.public_key().as_ref();
        format!(
            r#"{{"keys":[
                {{"kty":"OKP","crv":"Ed25519","kid":"ed","use":"sig","x":"{}"}},
                {{"kty":"EC","crv":"P-256","kid":"ec","alg":"ES256","x":"{}","y":"{}"}},
                {{"kty":"OKP","crv":"Ed25519","kid":"enc","use":"enc","x":"{}"}},
                {{"kty":"oct","kid":"shared","k":"AAAA"}}
            ]}}"#,
            b64(self.ed.public_key()),
            b64(&point[1..33]),
            b64(&point[33..]),
            b64(self.ed.public_key()),
        )
    }

    fn keys(&self) -> Keys {
        Keys::read(self.jwks().as_bytes()).unwrap()
    }

    fn token(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = if header.contains("ES256") {
            let random = SystemRandom::new();
            let signed = self.ec.sign(&random, message.as_bytes()).unwrap();
            signed.as_ref().to_vec()
        } else {
            self.ed.sign(message.as_bytes()).as_ref().to_vec()
        };
        format!("{message}.{}", b64(signature))
    }
}

const EDDSA: &str = r#"{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}"#;

fn claims(changes: &[(&str, &str)]) -> String {
    let (iat, exp) = (NOW.to_string(), (NOW + 300).to_string());
    let mut all = BTreeMapOf::from([
        ("iss", "\"https://idp.example\""),
        ("aud", "\"counterfoil\""),
        ("sub", "\"ada\""),
        ("org", "\"acme\""),
        ("iat", iat.as_str()),
        ("exp", exp.as_str()),
    ]);
    for (name, value) in changes {
        if value.is_empty() {
            all.remove(name);
        } else {
            all.insert(name, value);
        }
    }
    let members: Vec<String> = all
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

type BTreeMapOf<'a> = std::collections::BTreeMap<&'a str, &'a str>;

fn terms() -> Terms {
    Terms {
        issuer: "https://idp.example".into(),
        audience: "counterfoil".into(),
        subject_claim: "sub".into(),
        tenant_claim: Some("org".into()),
        tenants: vec!["acme".into(), "beta".into()],
        leeway_ms: 30_000,
        age_max_ms: 3_600_000,
    }
}

fn accept(keys: &Keys, token: &str) -> Option<SignedIn> {
    accept_at(keys, token, &terms(), NOW_MS)
}

fn accept_at(keys: &Keys, token: &str, terms: &Terms, now_ms: i64) -> Option<SignedIn> {
    let read = Unverified::read(token)?;
    let key = keys.get(&read.key_id)?;
    read.verify(key)?.accept(terms, now_ms)
}

#[test]
fn a_good_token_says_who_signed_in_and_until_when() {
    let signer = Signer::new();
    for header in [EDDSA, r#"{"alg":"ES256","kid":"ec"}"#] {
        let token = signer.token(header, &claims(&[]));
        let found = accept(&signer.keys(), &token).unwrap();
        assert_eq!(
            (found.tenant.as_str(), found.subject.as_str()),
            ("acme", "ada")
        );
        assert_eq!(found.expires_at_ms, NOW_MS + 300_000);
    }
    let several = signer.token(EDDSA, &claims(&[("aud", r#"["other","counterfoil"]"#)]));
    assert!(accept(&signer.keys(), &several).is_some());
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let signer = Signer::new();
    let keys = signer.keys();
    let point = signer.ec.public_key().as_ref().to_vec();
    // HMAC with the public key as its secret, in every spelling of that key.
    for secret in [signer.ed.public_key().as_ref(), point.as_slice()] {
        for header in [
            r#"{"alg":"HS256","kid":"ed"}"#,
            r#"{"alg":"EdDSA","kid":"ed"}"#,
            r#"{"alg":"ES256","kid":"ec"}"#,
        ] {
            let message = format!("{}.{}", b64(header), b64(claims(&[])));
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let tag = hmac::sign(&key, message.as_bytes());
            assert_eq!(accept(&keys, &format!("{message}.{}", b64(tag))), None);
        }
    }
    for header in [
        r#"{"alg":"none","kid":"ed"}"#,
        r#"{"alg":"None","kid":"ed"}"#,
        r#"{"alg":"eddsa","kid":"ed"}"#,
        r#"{"alg":"ES256","kid":"ed"}"#,
        r#"{"alg":"EdDSA","kid":"ec"}"#,
        r#"{"alg":"RS256","kid":"ed"}"#,
        r#"{"alg":["EdDSA"],"kid":"ed"}"#,
        r#"{"kid":"ed"}"#,
    ] {
        assert_eq!(
            accept(&keys, &signer.token(header, &claims(&[]))),
            None,
            "{header}"
        );
    }
    let unsigned = format!(
        "{}.{}.",
        b64(r#"{"alg":"none","kid":"ed"}"#),
        b64(claims(&[]))
    );
    assert_eq!(accept(&keys, &unsigned), None);
}

#[test]
fn a_key_that_is_missing_unknown_or_another_issuers_is_refused() {
    let (signer, other) = (Signer::new(), Signer::new());
    let keys = signer.keys();
    for header in [
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","kid":""}"#,
        r#"{"alg":"EdDSA","kid":"no"}"#,
        r#"{"alg":"EdDSA","kid":"enc"}"#,
        r#"{"alg":"EdDSA","kid":7}"#,
        r#"{"alg":"EdDSA","kid":"ed","crit":["exp"]}"#,
        r#"{"alg":"EdDSA","kid":"ed","typ":"dpop+jwt"}"#,
        r#"{"alg":"EdDSA","kid":"ed","typ":1}"#,
    ] {
        assert_eq!(
            accept(&keys, &signer.token(header, &claims(&[]))),
            None,
            "{header}"
        );
    }
    // Another issuer's key under the same id; also when the token brings it along.
    let own = b64(other.ed.public_key());
    let brought = format!(
        r#"{{"alg":"EdDSA","kid":"ed","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{own}"}}}}"#
    );
    assert_eq!(accept(&keys, &other.token(EDDSA, &claims(&[]))), None);
    assert_eq!(accept(&keys, &other.token(&brought, &claims(&[]))), None);
    let pinned = keys.pinned(&["ec".to_owned()]);
    assert_eq!(accept(&pinned, &signer.token(EDDSA, &claims(&[]))), None);
}

#[test]
fn claims_for_others_for_another_time_or_twice_are_refused() {
    let signer = Signer::new();
    let keys = signer.keys();
    let at = |seconds: i64| (NOW + seconds).to_string();
    let (past, now, soon, late) = (at(-1), at(0), at(31), at(30));
    for changes in [
        ("iss", "\"https://idp.example/\""),
        ("iss", "\"https://other.example\""),
        ("aud", "\"other\""),
        ("aud", "[]"),
        ("aud", "{\"counterfoil\":1}"),
        ("aud", ""),
        ("exp", &past),
        ("exp", &now),
        ("exp", "\"never\""),
        ("exp", "99999999999999999999"),
        ("exp", "9223372036854775807"),
        ("exp", "1e20"),
        ("exp", ""),
        ("iat", &soon),
        ("iat", ""),
        ("nbf", &soon),
        ("nbf", "null"),
        ("sub", ""),
        ("sub", "\"\""),
        ("sub", "7"),
        ("org", "\"gamma\""),
        ("org", "\"acme \""),
        ("org", "[\"acme\"]"),
        ("org", ""),
    ] {
        let token = signer.token(EDDSA, &claims(&[changes]));
        assert_eq!(accept(&keys, &token), None, "{changes:?}");
    }
    let tolerated = signer.token(EDDSA, &claims(&[("nbf", &late)]));
    assert!(accept(&keys, &tolerated).is_some());
    for twice in ["\"sub\":\"ada\",", "\"aud\":\"counterfoil\",", "\"exp\":1,"] {
        let doubled = claims(&[]).replacen('{', &format!("{{{twice}"), 1);
        assert_eq!(
            accept(&keys, &signer.token(EDDSA, &doubled)),
            None,
            "{twice}"
        );
    }
}

#[test]
fn a_token_that_is_bound_to_a_certificate_says_to_which_and_any_other_bond_is_refused() {
    let signer = Signer::new();
    let keys = signer.keys();
    let bound = |cnf: &str| accept(&keys, &signer.token(EDDSA, &claims(&[("cnf", cnf)])));
    let hash = b64([7; 32]);
    let found = bound(&format!(r#"{{"x5t#S256":"{hash}"}}"#)).unwrap();
    assert_eq!(found.bound_to, Some([7; 32]));
    let plain = accept(&keys, &signer.token(EDDSA, &claims(&[]))).unwrap();
    assert_eq!(plain.bound_to, None);
    for cnf in [
        "null".to_owned(),
        "{}".to_owned(),
        format!(r#""{hash}""#),
        r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#.to_owned(),
        format!(r#"{{"jkt":"{hash}","x5t#S256":"{hash}"}}"#),
        r#"{"x5t#S256":""}"#.to_owned(),
        r#"{"x5t#S256":7}"#.to_owned(),
        format!(r#"{{"x5t#S256":"{}"}}"#, b64([7; 31])),
        format!(r#"{{"x5t#S256":"{hash}="}}"#),
    ] {
        assert_eq!(bound(&cnf), None, "{cnf}");
    }
}

#[test]
fn a_token_counts_no_longer_than_its_issuer_may_vouch() {
    let signer = Signer::new();
    let (keys, terms) = (signer.keys(), terms());
    let year = (NOW + 31_536_000).to_string();
    let token = signer.token(EDDSA, &claims(&[("exp", &year)]));
    let found = accept(&keys, &token).unwrap();
    assert_eq!(found.expires_at_ms, NOW_MS + terms.age_max_ms);
    let last = NOW_MS + terms.age_max_ms - 1;
    assert!(accept_at(&keys, &token, &terms, last).is_some());
    assert!(accept_at(&keys, &token, &terms, last + 1).is_none());
}

#[test]
fn an_issuer_of_one_tenant_speaks_for_it_whatever_the_token_says() {
    let signer = Signer::new();
    let terms = Terms {
        tenant_claim: None,
        tenants: vec!["acme".into()],
        ..terms()
    };
    let token = signer.token(EDDSA, &claims(&[("org", "\"beta\"")]));
    let found = accept_at(&signer.keys(), &token, &terms, NOW_MS).unwrap();
    assert_eq!(found.tenant, "acme");
}

#[test]
fn garbled_tokens_and_key_sets_are_refused_without_a_panic() {
    let signer = Signer::new();
    let keys = signer.keys();
    let good = signer.token(EDDSA, &claims(&[]));
    for at in 0..good.len() {
        for byte in [b'A', b'.', b'_', b'='] {
            let mut changed = good.clone().into_bytes();
            if changed[at] == byte {
                continue;
            }
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(accept(&keys, &changed), None, "{at}");
        }
        assert_eq!(accept(&keys, &good[..at]), None);
    }
    for json in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
    ] {
        assert_eq!(Keys::read(json.as_bytes()), None, "{json}");
    }
    let one = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let set = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec![one; count].join(","));
    assert!(Keys::read(set(1).as_bytes()).is_some());
    assert_eq!(Keys::read(set(2).as_bytes()), None, "a key id twice");
    let empty = Keys::read(br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"AA","y":"AA"}]}"#);
    assert_eq!(empty.unwrap().get("a"), None);
}
