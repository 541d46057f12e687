//! Reading logs over gRPC and HTTP: entries, proofs, tails, exports, tiles, what happened to a grant. On both engines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "support/http.rs"]
mod http;
mod support;

use std::collections::BTreeMap;

use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::v1::{
    ActionIntended, Decision, EffectClaim, EffectVerified, EvidenceRef, Operation, OwnershipSet,
    RegressionDetected, ReviewDecided,
};
use counterfoil_proto::ledger::{
    ExplainAccessRequest, ExplainAccessResponse, ExportLogRequest, GetCheckpointRequest,
    GetEntryRequest, ListEntriesRequest, ProveConsistencyRequest, StreamEntriesRequest,
    get_entry_request::Selector,
};
use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::verify_consistency;
use counterfoil_tlog::{Hash, VerifierKey, checkpoint, proof};
use http::{http, http_with};
use signed_note::{Note, StandardVerifier, VerifierList};
use support::{Client, Ledger, NOW_MS, append};
use tlog_tiles::HashReader as _;
use tonic::Code;

const ACME: &str = "tenants/acme";

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

/// A log with `count` records about `accounts/0..4`, three entries after its own.
async fn filled(db: &TestDatabase, count: u64) -> (Ledger, Client, support::Producer) {
    let ledger = Ledger::start(db).await;
    ledger.create("acme").await;
    let mut inventory = ledger.producer("inventory", "acme").await;
    let mut client = ledger.client("services/inventory");
    let records = (0..count)
        .map(|n| inventory.next(&ownership(n), &[&format!("accounts/{}", n % 4)]))
        .collect();
    append(&mut client, "acme", records).await;
    (ledger, client, inventory)
}

both_engines! {
    async fn an_entry_comes_with_a_proof_under_the_newest_checkpoint(db: TestDatabase) {
        let (ledger, mut client, mut inventory) = filled(&db, 300).await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        let receipt = append(&mut client, "acme", vec![inventory.next(&ownership(1), &[])]).await.remove(0);
        for selector in [Selector::Index(receipt.index), Selector::RecordId(receipt.record_id.clone()), Selector::Index(7)] {
            let request = GetEntryRequest { tenant: ACME.to_owned(), selector: Some(selector) };
            let answer = client.get_entry(request).await.unwrap().into_inner();
            let entry = answer.entry.unwrap();
            let text = String::from_utf8(answer.tlog_proof).unwrap();
            let (index, head) = proof::verify(&text, &leaf_hash(&entry.entry), &vkey).unwrap();
            assert_eq!((index, head.size), (entry.index, 304));
            assert_eq!(entry.recorded_time.unwrap().seconds, NOW_MS / 1000);
        }
        for (selector, code) in [
            (Some(Selector::Index(304)), Code::NotFound),
            (Some(Selector::Index(u64::MAX)), Code::NotFound),
            (Some(Selector::RecordId(vec![9; 16])), Code::NotFound),
            (Some(Selector::RecordId(vec![9; 15])), Code::InvalidArgument),
            (None, Code::InvalidArgument),
        ] {
            let request = GetEntryRequest { tenant: ACME.to_owned(), selector };
            assert_eq!(client.get_entry(request).await.unwrap_err().code(), code);
        }
    }

    async fn a_list_is_read_page_by_page_and_its_token_fits_no_other_list(db: TestDatabase) {
        let (_ledger, mut client, _) = filled(&db, 50).await;
        let mut request = ListEntriesRequest {
            tenant: ACME.to_owned(),
            subject: "accounts/1".to_owned(),
            page_size: 5,
            ..Default::default()
        };
        let (mut found, mut pages) = (Vec::new(), 0);
        let first_token = loop {
            let answer = client.list_entries(request.clone()).await.unwrap().into_inner();
            found.extend(answer.entries.iter().map(|entry| entry.index));
            pages += 1;
            if answer.next_page_token.is_empty() {
                break request.page_token.clone();
            }
            request.page_token = answer.next_page_token;
        };
        let expected: Vec<u64> = (0..50).filter(|n| n % 4 == 1).map(|n| n + 3).collect();
        assert_eq!((found, pages), (expected, 3));
        let foreign = ListEntriesRequest { page_token: first_token, subject: "accounts/2".to_owned(), ..request.clone() };
        assert_eq!(client.list_entries(foreign).await.unwrap_err().code(), Code::InvalidArgument);
        let all = ListEntriesRequest { tenant: ACME.to_owned(), page_size: 1000, ..Default::default() };
        assert_eq!(client.list_entries(all).await.unwrap().into_inner().entries.len(), 53);
    }

    async fn two_sizes_of_the_log_are_proved_to_be_one_log(db: TestDatabase) {
        let (ledger, mut client, mut inventory) = filled(&db, 10).await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        let get = GetCheckpointRequest { tenant: ACME.to_owned() };
        let old = client.get_checkpoint(get).await.unwrap().into_inner();
        assert_eq!(old.vkey, vkey.to_string());
        let more = (0..400).map(|n| inventory.next(&ownership(n), &[])).collect();
        append(&mut client, "acme", more).await;
        for (new_size, expected) in [(0, 413), (100, 100), (13, 13)] {
            let request = ProveConsistencyRequest { tenant: ACME.to_owned(), old_size: old.size, new_size };
            let answer = client.prove_consistency(request).await.unwrap().into_inner();
            let new = checkpoint::open(&answer.checkpoint, &vkey, &[]).unwrap().checkpoint;
            assert_eq!(new.size, expected);
            let hashes: Vec<Hash> = answer.hashes.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect();
            let old = checkpoint::open(&old.checkpoint, &vkey, &[]).unwrap().checkpoint;
            verify_consistency(old.size, &old.root, new.size, &new.root, &hashes).unwrap();
        }
        for (old_size, new_size) in [(1, 1000), (20, 10), (1000, 0)] {
            let request = ProveConsistencyRequest { tenant: ACME.to_owned(), old_size, new_size };
            assert_eq!(client.prove_consistency(request).await.unwrap_err().code(), Code::OutOfRange);
        }
    }

    async fn a_tail_is_followed_and_resumed_by_index(db: TestDatabase) {
        let (ledger, mut client, mut inventory) = filled(&db, 5).await;
        let request = StreamEntriesRequest { tenant: ACME.to_owned(), from_index: 6, follow: true };
        let mut stream = client.clone().stream_entries(request).await.unwrap().into_inner();
        let mut next = async || stream.message().await.unwrap().unwrap().entry.unwrap().index;
        assert_eq!([next().await, next().await], [6, 7]);
        append(&mut client, "acme", vec![inventory.next(&ownership(1), &[])]).await;
        assert_eq!(next().await, 8);
        // What another replica has appended comes too.
        let other = ledger.replica().await;
        let mut elsewhere = ledger.client_at(&other.url(), "services/inventory");
        append(&mut elsewhere, "acme", vec![inventory.next(&ownership(2), &[])]).await;
        assert_eq!(next().await, 9);
        let request = StreamEntriesRequest { tenant: ACME.to_owned(), from_index: 8, follow: false };
        let mut stream = client.stream_entries(request).await.unwrap().into_inner();
        let mut rest = Vec::new();
        while let Some(answer) = stream.message().await.unwrap() {
            rest.push(answer.entry.unwrap().index);
        }
        assert_eq!(rest, [8, 9]);
        other.stop().await.unwrap();
    }

    async fn the_export_and_the_tiles_over_http_are_the_same_files_and_others_verify_them(db: TestDatabase) {
        let (ledger, mut client, _) = filled(&db, 600).await;
        let vkey = ledger.create("acme").await.vkey;
        let request = ExportLogRequest { tenant: ACME.to_owned(), size: 1000, ..Default::default() };
        assert_eq!(client.export_log(request).await.unwrap_err().code(), Code::OutOfRange);
        let part = exported(&mut client, 300).await;
        verify(&part, &vkey);
        assert!(part.0.contains_key("tile/0/001.p/44") && !part.0.contains_key("tile/0/001"));
        let whole = exported(&mut client, 0).await;
        verify(&whole, &vkey);
        let files = whole.0;
        let token = ledger.token("services/inventory");
        let get = async |path: &str| http(&ledger, path, Some(token.expose())).await;
        for (path, content) in &files {
            let (head, body) = get(&format!("/logs/acme/{path}")).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
            assert_eq!(&body, content, "{path}");
            let (kind, cache) = if path == "checkpoint" {
                ("content-type: text/plain; charset=utf-8", "max-age=1")
            } else {
                ("content-type: application/octet-stream", "immutable")
            };
            assert!(head.contains(kind) && head.contains(cache), "{path}: {head}");
            let tag = etag(&head);
            let asked = async |tags: &str| {
                let condition = format!("if-none-match: {tags}\r\n");
                http_with(&ledger, &format!("/logs/acme/{path}"), Some(token.expose()), &condition).await
            };
            for tags in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
                let (head, body) = asked(&tags).await;
                assert!(head.starts_with("HTTP/1.1 304") && body.is_empty(), "{path}: {head}");
                assert!(head.contains(&tag) && head.contains(cache), "{path}: {head}");
            }
            assert_eq!(asked("\"x\"").await.1, *content);
        }
        // Any partial tile that a receipt's checkpoint may need.
        let (head, body) = get("/logs/acme/tile/0/001.p/77").await;
        assert!(head.starts_with("HTTP/1.1 200"));
        assert_eq!(body, files["tile/0/001"][..77 * 32]);
        // Other bytes, another tag; what nobody may have is refused before it is compared.
        let (other, _) = get("/logs/acme/tile/0/001.p/76").await;
        assert_ne!(etag(&other), etag(&head));
        let (refused, _) = http_with(&ledger, "/logs/acme/checkpoint", None, "if-none-match: *\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        // What is not there and what is nobody's look the same.
        let (unknown, body) = get("/logs/nobody/checkpoint").await;
        assert!(unknown.starts_with("HTTP/1.1 404") && body.is_empty(), "{unknown}");
        for path in ["/logs/acme/tile/0/002.p/92", "/logs/acme/tile/0/9", "/logs/acme/tile/0/000.p/0", "/logs/acme/x"] {
            assert_eq!(get(path).await, (unknown.clone(), Vec::new()), "{path}");
        }
        let (head, _) = http(&ledger, "/logs/acme/checkpoint", None).await;
        assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    }

    async fn the_log_tells_what_happened_to_a_grant(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        let vkey = VerifierKey::parse(&ledger.create("acme").await.vkey).unwrap();
        let mut recertification = ledger.producer("recertification", "acme").await;
        let mut reconciliation = ledger.producer("reconciliation", "acme").await;
        let grant = hex::encode([7_u8; 40]);
        let subject = format!("grants/{grant}");
        let decided = ReviewDecided {
            decision: Decision::Revoke.into(),
            evidence: vec![EvidenceRef { kind: "usage".to_owned(), sha256: vec![3; 32] }],
            ..Default::default()
        };
        let intended = ActionIntended {
            operation: Operation::Revoke.into(),
            plan_record_hash: vec![4; 32],
            ..Default::default()
        };
        let verified = EffectVerified {
            claim: EffectClaim::Absent.into(),
            val: 3,
            sync_record_hash: vec![6; 32],
            ..Default::default()
        };
        let regressed = RegressionDetected { closed_record_hash: vec![8; 32], ..Default::default() };
        let accepted = ReviewDecided {
            decision: Decision::Accept.into(),
            review_by_ms: NOW_MS - 100,
            ..Default::default()
        };
        let records = vec![
            recertification.next_outcome(&decided, &subject, NOW_MS - 5000),
            reconciliation.next_outcome(&intended, &subject, NOW_MS - 4000),
            reconciliation.next_outcome(&verified, &subject, NOW_MS - 3000),
            reconciliation.next_outcome(&regressed, &subject, NOW_MS - 2000),
            recertification.next_outcome(&accepted, &subject, NOW_MS - 1000),
            recertification.next_outcome(&accepted, &format!("grants/{}", hex::encode([8_u8; 40])), NOW_MS),
        ];
        append(&mut ledger.client("services/recertification"), "acme", records).await;
        let explain = async |grant: String, at_ms: Option<i64>| {
            let at_time = at_ms.map(counterfoil_chassis::clock::timestamp);
            let mut client = ledger.client("services/recertification");
            let answer = client.explain_access(ExplainAccessRequest { grant, at_time }).await;
            answer.map(tonic::Response::into_inner)
        };
        let name = format!("tenants/acme/grants/{grant}");
        let states = [(4500, "REVOKED", 1), (3000, "REMOVED_VERIFIED", 3), (1500, "REGRESSED", 4), (1000, "ACCEPTED", 5), (0, "UNDECIDED", 5)];
        for (before_ms, state, events) in states {
            let answer = explain(name.clone(), Some(NOW_MS - before_ms)).await.unwrap();
            assert_eq!((answer.state.as_str(), answer.events.len()), (state, events));
        }
        let answer: ExplainAccessResponse = explain(name, None).await.unwrap();
        let words: Vec<_> = answer.events.iter().map(|event| event.outcome.as_str()).collect();
        assert_eq!(words, ["REVOKE", "REVOKE", "ABSENT", "REGRESSED", "ACCEPT"]);
        let first = &answer.events[0];
        assert_eq!(first.r#type, "counterfoil.evidence.v1.ReviewDecided");
        assert_eq!((first.actor.as_str(), first.accountable_owner.as_str()), ("principals/reviewer", "principals/owner"));
        assert_eq!(first.authority_record_hash, [5; 32]);
        assert_eq!(first.evidence_sha256, [[3; 32]]);
        for event in &answer.events {
            let request = GetEntryRequest { tenant: ACME.to_owned(), selector: Some(Selector::Index(event.index)) };
            let entry = ledger.client("services/recertification").get_entry(request).await.unwrap().into_inner().entry.unwrap();
            let text = std::str::from_utf8(&event.tlog_proof).unwrap();
            assert_eq!(proof::verify(text, &leaf_hash(&entry.entry), &vkey).unwrap().0, event.index);
        }
        let missing = format!("tenants/acme/grants/{}", hex::encode([9_u8; 40]));
        assert_eq!(explain(missing, None).await.unwrap_err().code(), Code::NotFound);
        for bad in ["tenants/acme/grants/07", &format!("tenants/acme/grants/{}", "AB".repeat(40)), "grants/x"] {
            assert_eq!(explain(bad.to_owned(), None).await.unwrap_err().code(), Code::InvalidArgument);
        }
    }
}

async fn exported(client: &mut Client, size: u64) -> Files {
    let request = ExportLogRequest {
        tenant: ACME.to_owned(),
        size,
        ..Default::default()
    };
    let mut stream = client.export_log(request).await.unwrap().into_inner();
    let (mut files, mut last_path) = (BTreeMap::<String, Vec<u8>>::new(), String::new());
    while let Some(part) = stream.message().await.unwrap() {
        files
            .entry(part.path.clone())
            .or_default()
            .extend(part.content);
        last_path = part.path;
    }
    assert_eq!(last_path, "checkpoint");
    Files(files)
}

fn etag(head: &str) -> String {
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: "));
    tag.unwrap().to_owned()
}

/// The files of a log, for code by other authors.
struct Files(BTreeMap<String, Vec<u8>>);

impl tlog_tiles::TileReader for Files {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read =
            |tile: &tlog_tiles::Tile| self.0[&tile.path().replacen("tile/8/", "tile/", 1)].clone();
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn verify(files: &Files, vkey: &str) {
    let verifiers = VerifierList::new(vec![Box::new(StandardVerifier::new(vkey).unwrap())]);
    let note = Note::from_bytes(&files.0["checkpoint"]).unwrap();
    assert_eq!(note.verify(&verifiers).unwrap().0.len(), 1);
    let head = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    let mut leaves = Vec::new();
    for (_, bundle) in files
        .0
        .range("tile/entries/".to_owned().."tile/entries~".to_owned())
    {
        let mut rest = bundle.as_slice();
        while let [high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            leaves.push(tlog_tiles::record_hash(&after[..length]));
            rest = &after[length..];
        }
    }
    assert_eq!(leaves.len() as u64, head.size());
    let places: Vec<u64> = (0..head.size())
        .map(|n| tlog_tiles::stored_hash_index(0, n))
        .collect();
    let reader = tlog_tiles::TileHashReader::new(head.size(), *head.hash(), files);
    assert!(reader.read_hashes(&places).unwrap() == leaves);
}
