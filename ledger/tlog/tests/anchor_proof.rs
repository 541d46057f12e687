//! Proofs of the anchor log as text: one text a proof, and whatever else is refused.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use counterfoil_tlog::anchor_proof::{AnchorProof, AnchorProofError, LoggedEntry, MapHead};
use counterfoil_tlog::hash::{Hash, leaf_hash, sha256};
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::Note;
use counterfoil_tlog::sparse_map::{MapLeaf, SparseMap, key_of, salt_of};
use counterfoil_tlog::{Checkpoint, NoteSigner, TlogProof};

const ORIGIN: &str = "ledger.example/t/acme";

fn signer() -> NoteSigner {
    NoteSigner::from_seed("ledger.example/anchor", &[1; 32]).unwrap()
}

fn logged() -> LoggedEntry {
    let entries: [&[u8]; 3] = [b"first", b"second", b"third"];
    let tree = MerkleTree::from_leaves(entries.map(leaf_hash).to_vec());
    let checkpoint = Checkpoint {
        origin: "ledger.example/anchor".to_owned(),
        size: 3,
        root: tree.root(),
    };
    let note = checkpoint.sign(&signer()).unwrap();
    LoggedEntry {
        entry: entries[1].to_vec(),
        proof: TlogProof {
            index: 1,
            path: tree.inclusion_proof(1, 3).unwrap(),
            checkpoint: Note::parse(note.as_bytes()).unwrap(),
        },
    }
}

fn leaf(origin: &str, size: u64) -> MapLeaf {
    let key = key_of(origin);
    MapLeaf {
        key,
        size,
        root: sha256(&size.to_be_bytes()),
        salt: salt_of(&[3; 32], &key),
    }
}

fn map() -> SparseMap {
    let leaves = [leaf(ORIGIN, 12), leaf("b", 5), leaf("c", 7)];
    SparseMap::new(&leaves).unwrap()
}

fn proof(origin: &str) -> AnchorProof {
    let leaf = leaf(ORIGIN, 12);
    let head = MapHead {
        size: 12,
        root: leaf.root,
        salt: leaf.salt,
    };
    AnchorProof {
        head: (origin == ORIGIN).then_some(head),
        path: map().path(&key_of(origin)),
        logged: logged(),
    }
}

#[test]
fn a_proof_has_one_text_and_leads_to_its_map_alone() {
    let root = map().root();
    for origin in [ORIGIN, "ledger.example/t/nobody"] {
        let proof = proof(origin);
        let read = AnchorProof::parse(&proof.to_string()).unwrap();
        assert_eq!(read, proof);
        assert!(read.leads_to(&root, origin));
        assert!(!read.leads_to(&root, "b") && !read.leads_to(&Hash([1; 32]), origin));
        let signed = read.logged.verify(signer().verifier_key(), &[]).unwrap();
        assert_eq!(signed.checkpoint.size, 3);
    }
    let logged = logged();
    assert_eq!(LoggedEntry::parse(&logged.to_string()).unwrap(), logged);
    let mut other = logged;
    other.entry.push(b'!');
    let refused = other.verify(signer().verifier_key(), &[]);
    assert!(matches!(refused, Err(AnchorProofError::Entry(_))));
    // Neither a head without its log's key nor an absence where there is a head.
    let mut claimed = proof(ORIGIN);
    claimed.head = None;
    assert!(!claimed.leads_to(&root, ORIGIN));
    claimed.head = Some(MapHead {
        size: 13,
        ..proof(ORIGIN).head.unwrap()
    });
    assert!(!claimed.leads_to(&root, ORIGIN));
}

#[test]
fn every_other_text_is_refused() {
    let text = proof(ORIGIN).to_string();
    let salt = text.lines().find(|line| line.starts_with("salt ")).unwrap();
    for (old, new) in [
        ("counterfoil-anchor-proof/v1", "counterfoil-anchor-proof/v2"),
        ("head 12 ", "head 012 "),
        ("head 12 ", "head  12 "),
        ("head 12 ", "head none "),
        ("path ", "paths "),
        ("\npath ", "\nmore\npath "),
        ("\nentry ", "\r\nentry "),
        ("\n\nc2sp.org", "\nc2sp.org"),
        ("\n\nc2sp.org", "\nmore\n\nc2sp.org"),
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("entry c2Vjb25k", "entry c2Vjb25k="),
        (&format!("{salt}\n"), ""),
    ] {
        let changed = text.replacen(old, new, 1);
        assert_ne!(changed, text, "{old}");
        assert!(AnchorProof::parse(&changed).is_err(), "{old} -> {new}");
    }
    assert!(LoggedEntry::parse(&text).is_err());
    assert!(AnchorProof::parse(&logged().to_string()).is_err());
}
