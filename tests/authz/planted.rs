//! Secrets that are given to the suite in every way that it takes any, and then looked for in all that comes out of it: logs
//! down to TRACE with their spans, answers and errors, databases, bundles and exports. In each as it is, in hex, in base64.
//!
//! Where they have to stay are files below a folder `keys` that only their owner can read, and an answer that shows a new
//! token, once.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use counterfoil::{quickstart, up};
use counterfoil_chassis::Clock;
use counterfoil_connectors::{
    LdapConfig,
    testing::{Slapd, SlapdOptions},
};
use counterfoil_tests::{decisions::Decision, governance::Governance, ldap};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tonic::Code;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    carriers::json, logs::Listening, matrix::searchable, provider::Says, suite::Governed,
    wire::Headers,
};

/// Shorter ones would be found by chance.
const SECRET_BYTES_MIN: usize = 16;
/// So much of a form is looked up at once.
const START_BYTES: usize = 8;
const SUFFIX: &str = "dc=planted,dc=example";
const TENANT: &str = "planted-corp";

/// A secret, in all the forms that it may have.
struct Secret {
    name: String,
    value: Vec<u8>,
    forms: Vec<Vec<u8>>,
}

/// All secrets, and all that came out of the suite.
#[derive(Default)]
struct Search {
    secrets: Vec<Secret>,
    /// Where, and what was there.
    places: BTreeMap<String, Vec<u8>>,
    /// What the files hold that must hold secrets.
    kept: Vec<u8>,
}

impl Search {
    fn plant(&mut self, name: &str, value: &[u8]) {
        assert!(value.len() >= SECRET_BYTES_MIN, "{name} is too short");
        self.secrets.push(Secret {
            name: name.to_owned(),
            forms: forms(value),
            value: value.to_vec(),
        });
    }

    /// An API token: its secret part, as digits and as bytes.
    fn plant_token(&mut self, name: &str, token: &str) {
        let secret = token.rsplit('_').next().unwrap();
        let digits = &secret[..64];
        self.plant(name, digits.as_bytes());
        let known = self.secrets.last_mut().unwrap();
        known.forms.extend(forms(&hex::decode(digits).unwrap()));
    }

    fn came_out(&mut self, place: &str, bytes: &[u8]) {
        let place = self.places.entry(place.to_owned()).or_default();
        place.extend_from_slice(bytes);
        place.push(0);
    }

    /// What was found where it must not be, and how many secrets are where they must be.
    fn findings(&self) -> (Vec<String>, usize) {
        let needles = Needles::new(&self.secrets);
        let mut findings = Vec::new();
        for (place, content) in &self.places {
            findings.extend(needles.found(content).into_iter().map(|(secret, at)| {
                let around = &content[at.saturating_sub(200)..content.len().min(at + 100)];
                let name = &self.secrets[secret].name;
                format!("{name} in {place}: ...{}", around.escape_ascii())
            }));
        }
        (findings, needles.found(&self.kept).len())
    }

    fn bytes(&self) -> usize {
        self.places.values().map(Vec::len).sum()
    }
}

/// All forms of all secrets, to be looked for at once.
struct Needles<'a> {
    /// Whether a form begins with these two bytes.
    begins: Vec<bool>,
    by_start: HashMap<&'a [u8], Vec<(usize, &'a [u8])>>,
}

impl<'a> Needles<'a> {
    fn new(secrets: &'a [Secret]) -> Self {
        let mut needles = Self {
            begins: vec![false; 1 << 16],
            by_start: HashMap::new(),
        };
        for (number, secret) in secrets.iter().enumerate() {
            for form in &secret.forms {
                needles.begins[usize::from(u16::from_be_bytes([form[0], form[1]]))] = true;
                let same = needles.by_start.entry(&form[..START_BYTES]).or_default();
                same.push((number, form));
            }
        }
        needles
    }

    /// Which secrets are in it, and where first.
    fn found(&self, content: &[u8]) -> BTreeMap<usize, usize> {
        let mut found = BTreeMap::new();
        for (at, start) in content.windows(START_BYTES).enumerate() {
            if self.begins[usize::from(u16::from_be_bytes([start[0], start[1]]))]
                && let Some(forms) = self.by_start.get(start)
            {
                let here = forms
                    .iter()
                    .filter(|(_, form)| content[at..].starts_with(form));
                for (secret, _) in here {
                    found.entry(*secret).or_insert(at);
                }
            }
        }
        found
    }
}

/// How a secret may look: as it is, in hex, in base64 wherever in a longer text it began; and the latter once more in hex, as
/// a database shows bytes.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    for lead in 0..3 {
        let text = [&[0; 2][..lead], value].concat();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&text).into_bytes();
            // Its first digits and the last have bits of what stands around it.
            let first = [0, 2, 3][lead];
            forms.push(encoded[first..encoded.len() - 1].to_vec());
        }
    }
    let in_hex: Vec<Vec<u8>> = forms
        .iter()
        .flat_map(|form| [hex::encode(form), hex::encode_upper(form)])
        .map(String::into_bytes)
        .collect();
    forms.extend(in_hex);
    forms.sort();
    forms.dedup();
    forms
}

/// Plays everything and searches all of it.
pub async fn run() {
    let started = Instant::now();
    let listening = Listening::begin(LevelFilter::TRACE);
    let mut search = Search::default();
    let passwords = ["app", "owner"].map(|role| format!("planted-{role}-{}", random()));
    for password in &passwords {
        search.plant("password of PostgreSQL", password.as_bytes());
    }
    refused_by_the_database(&mut search).await;
    let roles = [
        format!("counterfoil_app:{}", passwords[0]),
        format!("counterfoil_owner:{}", passwords[1]),
    ];
    let governed = Governed::on_postgres_as(roles).await;
    let estate = a_directory_is_governed(&governed, &mut search).await;
    credentials(&governed, &mut search).await;
    every_rpc_once(&governed, &mut search).await;
    secrets_in_settings(&governed, &mut search).await;
    secrets_that_are_refused(&governed, &mut search, &estate).await;
    governed.databases.settled().await;
    for (table, rows) in governed.databases.everything().await {
        search.came_out(&format!("database {table}"), rows.join("\n").as_bytes());
    }
    let folder = governed.folder.path().to_owned();
    for file in files(&folder) {
        let bytes = fs::read(&file).unwrap();
        let name = file.strip_prefix(&folder).unwrap();
        if name.iter().any(|part| part == "keys") {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(
                mode & 0o077,
                0,
                "{} is not its owner's alone",
                name.display()
            );
            search.kept.extend(bytes);
            search.kept.push(0);
        } else {
            search.came_out(&format!("file {}", name.display()), &bytes);
        }
    }
    let texts = [&governed.attacker, &governed.victim].map(|world| world.canary.clone());
    let temporary = governed.stop_and_keep().await;
    search.came_out("logs", &listening.bytes());
    drop((listening, temporary));
    report(&search, &texts, started);
}

/// Fails with what was found; and with texts of people in logs or in the ledger.
fn report(search: &Search, texts: &[String], started: Instant) {
    let (mut findings, kept) = search.findings();
    for (place, content) in &search.places {
        let public = place == "logs" || place.starts_with("database ledger.");
        let content = if public {
            searchable(content)
        } else {
            String::new()
        };
        let hexed = |text: &String| content.contains(&hex::encode(text));
        let told = |text: &&String| content.contains(*text) || hexed(text);
        let told = texts.iter().filter(told);
        findings.extend(told.map(|text| format!("a text of people ({text}) in {place}")));
    }
    let logs = &search.places["logs"];
    let _ = writeln!(
        std::io::stdout().lock(),
        "planted: {} secrets, {kept} of them in files of keys, {} places, {} MiB searched, {} MiB of them logs, \
         {} findings, {} ms",
        search.secrets.len(),
        search.places.len(),
        search.bytes() >> 20,
        logs.len() >> 20,
        findings.len(),
        started.elapsed().as_millis(),
    );
    assert!(search.secrets.len() >= 20);
    // A search that would find nothing proves nothing.
    assert!(kept > 10, "{kept}");
    let logs = searchable(logs);
    for speaks in ["TRACE", "h2::", "sqlx::", "counterfoil_"] {
        assert!(logs.contains(speaks), "nothing of {speaks} was logged");
    }
    let bundles = |place: &&String| place.contains("bundles");
    assert!(search.places.keys().filter(bundles).count() > 3);
    assert!(findings.is_empty(), "found:\n  {}", findings.join("\n  "));
}

fn random() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    hex::encode(bytes)
}

/// A start that fails tells where it wanted to go, not with which password.
async fn refused_by_the_database(search: &mut Search) {
    let folder = tempfile::tempdir().unwrap();
    let password = format!("planted-refused-{}", random());
    search.plant(
        "password of a database that is not there",
        password.as_bytes(),
    );
    let options = up::Options {
        data_dir: folder.path().join("data"),
        database_url: Some(format!("postgres://someone:{password}@127.0.0.1:1/none")),
        migration_database_url: None,
        publish_url: None,
        any_port: true,
        deployment: None,
    };
    let error = up::Suite::start(&options).await.expect_err("no database");
    search.came_out("error at start", format!("{error:#}\n{error:?}").as_bytes());
}

/// A tenant whose source is a directory server: read, reviewed, changed and exported, with both of its passwords.
async fn a_directory_is_governed(governed: &Governed, search: &mut Search) -> PathBuf {
    let ldif = "dn: cn=Ada,dc=planted,dc=example\nobjectClass: inetOrgPerson\ncn: Ada\nsn: A\nmail: ada@planted.example\n\n\
        dn: cn=Bob,dc=planted,dc=example\nobjectClass: inetOrgPerson\ncn: Bob\nsn: B\nmail: bob@planted.example\n\n\
        dn: cn=ops,dc=planted,dc=example\nobjectClass: groupOfNames\ncn: ops\n\
        member: cn=Ada,dc=planted,dc=example\nmember: cn=Bob,dc=planted,dc=example\n";
    let slapd = Slapd::start(&SlapdOptions::new(SUFFIX).ldif(ldif)).unwrap();
    let keys = governed.folder.path().join("directory/keys");
    fs::create_dir_all(&keys).unwrap();
    let mut config = slapd.config();
    for bind in [&mut config.reader, &mut config.writer] {
        let password = fs::read_to_string(&bind.password_file).unwrap();
        search.plant(
            &format!("password of {}", bind.dn),
            password.trim().as_bytes(),
        );
        bind.password_file = keys.join(bind.password_file.file_name().unwrap());
        write_secret(&bind.password_file, &password);
    }
    let directory = governed.folder.path().join("directory/estate");
    let governance = Governance::new(TENANT, "Planted").unwrap();
    let adapt = |_: &LdapConfig| config.clone();
    let decide: ldap::Rule = |account, _| {
        Some(if account == "Bob" {
            Decision::Revoke
        } else {
            Decision::Accept
        })
    };
    let estate = ldap::describe(&directory, slapd, governance, adapt, decide)
        .await
        .unwrap();
    let home = governed.folder.path().join("directory");
    let outcome = quickstart::play(governed.admin(), &directory, &home, true)
        .await
        .unwrap();
    assert_eq!(outcome.removals_verified, 1);
    drop(estate);
    home
}

fn write_secret(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Tokens and keys that the suite made, and tokens that are no good any more.
async fn credentials(governed: &Governed, search: &mut Search) {
    for file in files(governed.folder.path()) {
        let text = || fs::read_to_string(&file).unwrap().trim().to_owned();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("token") => search.plant_token(&format!("token {}", file.display()), &text()),
            Some("key") => {
                let text = text();
                let encoded = text.splitn(5, '+').nth(4).unwrap();
                let seed = &STANDARD.decode(encoded).unwrap()[1..];
                search.plant(&format!("private key {}", file.display()), seed);
            }
            _ => {}
        }
    }
    let world = &governed.attacker;
    for (name, token) in [
        (
            "a token in use",
            governed.issue(world, "everything").await.token,
        ),
        ("a revoked token", governed.revoked(world).await),
        ("an expired token", governed.expired(world).await),
        ("a leaver's token", governed.ended(world).await),
    ] {
        search.plant_token(name, &token);
        present(governed, search, &format!("Bearer {token}")).await;
    }
    governed.link(world, "everything", "planted").await;
    let now = Clock::system().now_ms() / 1_000;
    let late = Says {
        ttl: -1,
        ..Says::well(&world.id, "planted")
    };
    for (name, says) in [
        ("a JWT", Says::well(&world.id, "planted")),
        ("an expired JWT", late),
    ] {
        let token = governed.providers[0].token(&says, now);
        let signature = token.rsplit('.').next().unwrap();
        search.plant(name, signature.as_bytes());
        search.plant(name, &URL_SAFE_NO_PAD.decode(signature).unwrap());
        present(governed, search, &format!("Bearer {token}")).await;
    }
    let password = format!("planted-basic-{}", random());
    search.plant("a password of basic authentication", password.as_bytes());
    let basic = STANDARD.encode(format!("someone:{password}"));
    present(governed, search, &format!("Basic {basic}")).await;
}

/// Shows a credential to every service, in the right header and in wrong ones.
async fn present(governed: &Governed, search: &mut Search, credential: &str) {
    for rpc in governed
        .rpcs
        .iter()
        .filter(|rpc| rpc.method.name().starts_with("List"))
    {
        let body: Bytes = governed
            .request(rpc, &governed.attacker)
            .encode_to_vec()
            .into();
        for header in ["authorization", "x-authorization", "cookie", "x-request-id"] {
            let headers: Headers = vec![(header, credential.to_owned())];
            let answer = governed
                .ask(rpc, &headers, vec![body.clone()])
                .await
                .unwrap();
            search.came_out(&format!("answer of {}", rpc.name()), &answer.bytes());
        }
    }
}

/// Every rpc, by someone of the tenant who holds every role.
async fn every_rpc_once(governed: &Governed, search: &mut Search) {
    let token = governed.issue(&governed.attacker, "everything").await.token;
    search.plant_token("the token of every call", &token);
    let headers: Headers = vec![("authorization", format!("Bearer {token}"))];
    for rpc in &governed.rpcs {
        let mut request = json(&governed.request(rpc, &governed.attacker));
        if let Some(id) = request.get_mut("requestId") {
            *id = json!(random());
        }
        let message = DynamicMessage::deserialize(rpc.method.input(), request).unwrap();
        let body = vec![message.encode_to_vec().into()];
        let answer = governed.ask(rpc, &headers, body).await.unwrap();
        if rpc.method.name() == "IssueToken" && answer.code == Code::Ok {
            // Shown once, here.
            let issued = DynamicMessage::decode(rpc.method.output(), answer.messages[0].clone());
            let issued = json(&issued.unwrap());
            search.plant_token("a token just issued", issued["token"].as_str().unwrap());
        } else {
            search.came_out(&format!("answer of {}", rpc.name()), &answer.bytes());
        }
    }
}

/// Secrets in the settings of a source, which takes none.
async fn secrets_in_settings(governed: &Governed, search: &mut Search) {
    let bind =
        |name: &str| json!({ "dn": format!("cn={name},{SUFFIX}"), "password_file": "/nowhere" });
    let ldap = json!({
        "kind": "ldap", "url": "ldap://127.0.0.1:1", "base_dn": SUFFIX,
        "reader": bind("reader"), "writer": bind("writer"),
    });
    let with = |pointer: &str, value: Value| {
        let mut settings = ldap.clone();
        match settings.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => settings[pointer.trim_start_matches('/')] = value,
        }
        settings
    };
    let (unknown, typed, url) = (random(), random(), random());
    for (secret, settings) in [
        (
            &unknown,
            with("/password", json!(format!("planted-{unknown}"))),
        ),
        (
            &typed,
            with("/connect_timeout_ms", json!(format!("planted-{typed}"))),
        ),
        (
            &url,
            with(
                "/url",
                json!(format!("ldap://admin:planted-{url}@127.0.0.1:1")),
            ),
        ),
    ] {
        search.plant("a password in the settings of a source", secret.as_bytes());
        let source = json!({ "configJson": settings.to_string(), "displayName": "Planted" });
        let request = json!({
            "tenant": format!("tenants/{TENANT}"), "sourceId": random(), "source": source,
        });
        let code = call(
            governed,
            search,
            "inventory SourceService/CreateSource",
            request,
        )
        .await;
        assert_eq!(code, Code::InvalidArgument);
    }
}

/// A token as an argument, and a password that the directory does not take.
async fn secrets_that_are_refused(governed: &Governed, search: &mut Search, home: &Path) {
    let token = governed.issue(&governed.attacker, "everything").await.token;
    search.plant_token("a token as an argument", &token);
    for token in [
        token.clone(),
        format!("{token}0"),
        token[..token.len() - 1].to_owned(),
    ] {
        let rpc = "authority PrincipalService/IntrospectToken";
        call(governed, search, rpc, json!({ "token": token })).await;
    }
    let wrong = format!("planted-wrong-{}", random());
    search.plant(
        "a password that the directory does not take",
        wrong.as_bytes(),
    );
    write_secret(&home.join("keys/reader.password"), &wrong);
    let request = json!({
        "source": format!("tenants/{TENANT}/sources/{}", ldap::SOURCE), "purpose": 1,
    });
    call(
        governed,
        search,
        "inventory SourceService/StartSync",
        request,
    )
    .await;
}

/// Calls an rpc as whoever may; what comes back is searched.
async fn call(governed: &Governed, search: &mut Search, rpc: &str, request: Value) -> Code {
    let rpc = governed
        .rpcs
        .iter()
        .find(|known| known.name() == rpc)
        .unwrap();
    let message = DynamicMessage::deserialize(rpc.method.input(), request).unwrap();
    let answer = governed
        .as_who_may(rpc, &governed.attacker, &governed.token("admin"), &message)
        .await;
    // Who gave it is told what is wrong with it, if need be in its own words.
    let mut bytes = answer.bytes();
    let own = message.encode_to_vec();
    for secret in &search.secrets {
        let value = &secret.value;
        if own.windows(value.len()).any(|window| window == value) {
            let text = searchable(&bytes).replace(&searchable(value), "");
            bytes = text
                .chars()
                .map(|byte| u8::try_from(byte).unwrap())
                .collect();
        }
    }
    search.came_out(&format!("answer of {}", rpc.name()), &bytes);
    answer.code
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}
