//! What is not canonical is refused: notes, keys, checkpoints, receipts.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use counterfoil_tlog::checkpoint::{self, Checkpoint, CheckpointError};
use counterfoil_tlog::cosignature::{self, Cosigner};
use counterfoil_tlog::hash::{Hash, empty_root, leaf_hash};
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::note::{self, Note, NoteError, NoteSigner, SignatureLine, VerifierKey};
use counterfoil_tlog::proof::{self, ProofError, TlogProof};
use counterfoil_tlog::signature::RecordSigner;
use counterfoil_tlog::tile::TilePath;
use proptest::prelude::*;

const ORIGIN: &str = "ledger.example/t/acme";
const ROOT: &str = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=";

fn log() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, &[1; 32]).unwrap()
}

fn witness(seed: u8) -> Cosigner {
    Cosigner::from_seed(&format!("witness.example/w{seed}"), &[seed; 32]).unwrap()
}

fn head(size: u64) -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root: Hash::from_base64(ROOT).unwrap(),
    }
}

#[test]
fn a_checkpoint_is_read_in_its_canonical_form_only() {
    let good = format!("{ORIGIN}\n8\n{ROOT}\n");
    let parsed = Checkpoint::parse(&good).unwrap();
    assert_eq!(parsed, head(8));
    assert_eq!(parsed.to_text().unwrap(), good);
    for size in [
        "0008",
        "+8",
        " 8",
        "8 ",
        "8\r",
        "٨",
        "",
        "-8",
        "0x8",
        "8_0",
        "18446744073709551616",
    ] {
        let text = format!("{ORIGIN}\n{size}\n{ROOT}\n");
        assert!(
            matches!(Checkpoint::parse(&text), Err(CheckpointError::Size(_))),
            "{text:?}"
        );
    }
    let unpadded = ROOT.trim_end_matches('=');
    let trailing_bits = ROOT.replace("yg=", "yh=");
    for root in [
        unpadded,
        &trailing_bits,
        &format!(" {ROOT}"),
        &format!("{ROOT}\r"),
        "AAAA",
        "",
    ] {
        let text = format!("{ORIGIN}\n8\n{root}\n");
        assert!(
            matches!(Checkpoint::parse(&text), Err(CheckpointError::Root(_))),
            "{text:?}"
        );
    }
    for text in [
        format!("{ORIGIN}\n8\n{ROOT}"),
        format!("{ORIGIN}\n8\n{ROOT}\nextension\n"),
        format!("{ORIGIN}\n8\n{ROOT}\n\n"),
        format!("{ORIGIN}\n8\n"),
        String::new(),
    ] {
        assert_eq!(
            Checkpoint::parse(&text),
            Err(CheckpointError::Lines),
            "{text:?}"
        );
    }
    for origin in ["", "a\r", "a\tb", "a\u{85}"] {
        let text = format!("{origin}\n8\n{ROOT}\n");
        assert!(
            matches!(Checkpoint::parse(&text), Err(CheckpointError::Origin(_))),
            "{text:?}"
        );
    }
}

#[test]
fn an_empty_log_has_the_empty_root() {
    assert_eq!(head(0).to_text(), Err(CheckpointError::EmptyRoot));
    let text = format!("{ORIGIN}\n0\n{ROOT}\n");
    assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::EmptyRoot));
    let empty = Checkpoint {
        root: empty_root(),
        ..head(0)
    };
    assert_eq!(Checkpoint::parse(&empty.to_text().unwrap()), Ok(empty));
}

#[test]
fn a_checkpoint_cannot_be_written_with_an_origin_of_two_lines() {
    let forged = Checkpoint {
        origin: format!("{ORIGIN}\n9"),
        ..head(8)
    };
    assert!(matches!(forged.to_text(), Err(CheckpointError::Origin(_))));
    let other = Checkpoint {
        origin: "ledger.example/t/other".to_owned(),
        ..head(8)
    };
    assert!(matches!(
        other.sign(&log()),
        Err(CheckpointError::OtherOrigin { .. })
    ));
}

#[test]
fn a_checkpoint_of_another_log_or_key_is_refused() {
    let text = head(8).sign(&log()).unwrap();
    let key = log().verifier_key().clone();
    checkpoint::open(text.as_bytes(), &key, &[]).unwrap();
    // Another origin under the same key, another key under the same name, and a witness alone.
    assert!(matches!(
        checkpoint::open_origin(text.as_bytes(), "ledger.example/t/other", &key, &[]),
        Err(CheckpointError::OtherOrigin { .. })
    ));
    let impostor = NoteSigner::from_seed(ORIGIN, &[2; 32]).unwrap();
    assert_eq!(
        checkpoint::open(text.as_bytes(), impostor.verifier_key(), &[]),
        Err(CheckpointError::Note(NoteError::Unsigned))
    );
    let witness = witness(3);
    let line = witness.cosign(&head(8), 1).unwrap();
    let alone = Note::new(&head(8).to_text().unwrap(), vec![line])
        .unwrap()
        .to_bytes();
    assert!(matches!(
        checkpoint::open(&alone, &key, &[witness.verifier_key().clone()]),
        Err(CheckpointError::NotSignedByLog(_))
    ));
}

#[test]
fn a_bad_line_of_a_known_key_refuses_the_note_and_an_unknown_one_does_not() {
    let (text, key) = (head(8).to_text().unwrap(), log().verifier_key().clone());
    let (known, unknown) = (witness(3), witness(4));
    let mut note = log().sign_note(&text).unwrap();
    note.add_signature(known.cosign(&head(8), 7).unwrap())
        .unwrap();
    // A cosignature over another checkpoint is bad here.
    note.add_signature(unknown.cosign(&head(9), 7).unwrap())
        .unwrap();
    let bytes = note.to_bytes();
    let known_keys = [known.verifier_key().clone()];
    let opened = checkpoint::open(&bytes, &key, &known_keys).unwrap();
    assert_eq!(opened.cosignatures.len(), 1);
    let all_keys = [known.verifier_key().clone(), unknown.verifier_key().clone()];
    assert!(matches!(
        checkpoint::open(&bytes, &key, &all_keys),
        Err(CheckpointError::Note(NoteError::BadSignature { .. }))
    ));
}

#[test]
fn a_second_bad_line_of_a_known_key_is_not_hidden_behind_a_good_one() {
    let text = head(8).to_text().unwrap();
    let mut note = log().sign_note(&text).unwrap();
    let key = log().verifier_key().clone();
    note.add_signature(log().sign_text(&text)).unwrap();
    assert_eq!(
        note.clone()
            .verify(std::slice::from_ref(&key))
            .unwrap()
            .verified()
            .len(),
        1
    );
    note.add_signature(log().sign_text("something else\n"))
        .unwrap();
    assert!(matches!(
        note.verify(&[key]),
        Err(NoteError::BadSignature { .. })
    ));
}

/// Two keys of one name with one key id, which is only 32 bits: these seeds were found by trying 51,402.
fn colliding() -> [NoteSigner; 2] {
    [7593_u32, 51_402].map(|number| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        NoteSigner::from_seed(ORIGIN, &seed).unwrap()
    })
}

#[test]
fn a_key_with_the_id_of_a_known_one_does_not_pass_for_it() {
    let [known, impostor] = colliding();
    let (key, other) = (known.verifier_key(), impostor.verifier_key());
    assert_eq!((key.key_id(), key.name()), (other.key_id(), other.name()));
    let forged = impostor.sign_note("text\n").unwrap();
    assert!(matches!(
        forged.clone().verify(std::slice::from_ref(key)),
        Err(NoteError::BadSignature { .. })
    ));
    // With both known, a line cannot be attributed; the same key twice is no ambiguity.
    assert!(matches!(
        forged.clone().verify(&[key.clone(), other.clone()]),
        Err(NoteError::AmbiguousKey { .. })
    ));
    assert!(forged.verify(&[other.clone(), other.clone()]).is_ok());
}

#[test]
fn a_cosignature_does_not_pass_with_another_time_checkpoint_or_type() {
    let witness = witness(3);
    let keys = [witness.verifier_key().clone()];
    let line = witness.cosign(&head(8), 1_700_000_000).unwrap();
    let judge = |payload: Vec<u8>, size: u64| {
        let line = SignatureLine::new(line.name(), line.key_id(), payload).unwrap();
        Note::new(&head(size).to_text().unwrap(), vec![line])
            .unwrap()
            .verify(&keys)
    };
    let payload = line.signature().to_vec();
    judge(payload.clone(), 8).unwrap();
    // Signed by the witness's own key, but with a time that no cosignature may state.
    for timestamp in [0_u64, 1 << 63] {
        let message = cosignature::message(timestamp, &head(8).to_text().unwrap());
        let signature = RecordSigner::from_seed(&[3; 32]).sign(&message);
        assert!(judge([&timestamp.to_be_bytes(), signature.as_slice()].concat(), 8).is_err());
    }
    assert!(judge(payload.clone(), 9).is_err());
    let mut later = payload.clone();
    later[7] ^= 1;
    assert!(judge(later, 8).is_err());
    assert!(judge(payload[8..].to_vec(), 8).is_err());
    assert!(judge([&[0; 8], &payload[8..]].concat(), 8).is_err());
    assert!(judge([payload.as_slice(), &[0]].concat(), 8).is_err());
    assert!(matches!(
        witness.cosign(&head(8), 0),
        Err(CheckpointError::Timestamp)
    ));
    assert!(matches!(
        witness.cosign(&head(8), u64::MAX),
        Err(CheckpointError::Timestamp)
    ));
}

#[test]
fn sixteen_cosignatures_are_accepted() {
    let mut note = log().sign_note(&head(8).to_text().unwrap()).unwrap();
    let witnesses: Vec<Cosigner> = (10..26).map(witness).collect();
    for witness in &witnesses {
        note.add_signature(witness.cosign(&head(8), 5).unwrap())
            .unwrap();
    }
    let keys: Vec<VerifierKey> = witnesses.iter().map(|w| w.verifier_key().clone()).collect();
    let opened = checkpoint::open(&note.to_bytes(), log().verifier_key(), &keys).unwrap();
    assert_eq!(opened.cosignatures.len(), 16);
}

#[test]
fn a_note_is_read_in_its_only_form() {
    let good = log().sign_note("text\n").unwrap().to_string();
    assert_eq!(Note::parse(good.as_bytes()).unwrap().to_string(), good);
    let line = good.lines().last().unwrap();
    let bad = [
        String::new(),
        "text\n".to_owned(),
        "text\n\n".to_owned(),
        format!("text\n{line}\n"),
        format!("text\n\n{line}"),
        format!("text\n\n{line}\n\n"),
        format!("text\n\n{line}\r\n"),
        format!("text\r\n\r\n{line}\r\n"),
        format!("te\u{0}xt\n\n{line}\n"),
        format!("te\txt\n\n{line}\n"),
        format!("text\n\n {line}\n"),
        format!("text\n\n{line} \n"),
        format!("text\n\n{}\n", line.replace('—', "-")),
        format!("text\n\n{}\n", line.replace("— ", "—")),
        format!("text\n\n{}\n", line.replace("— ", "—  ")),
        format!("text\n\n{}\n", line.replace(ORIGIN, "a b")),
        format!("text\n\n{}\n", line.replace(ORIGIN, "a+b")),
        format!("text\n\n{}\n", line.replace(ORIGIN, "")),
        format!("text\n\n{}\n", line.trim_end_matches('=')),
        format!("text\n\n— {ORIGIN} AAAA\n"),
        format!("text\n\n— {ORIGIN} AAAAAA==\n"),
        format!("text\n\n{}", format!("{line}\n").repeat(101)),
        format!("{}\n\n{line}\n", "x".repeat(note::NOTE_BYTES_MAX)),
    ];
    for text in bad {
        assert!(Note::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(Note::parse(b"te\xffxt\n\n").is_err());
    assert!(log().sign_note("no line feed").is_err());
    assert!(log().sign_note("").is_err());
}

#[test]
fn keys_are_read_in_their_only_form() {
    let signer = log();
    let (vkey, private) = (signer.vkey(), signer.to_private_key());
    assert_eq!(VerifierKey::parse(&vkey).unwrap().to_string(), vkey);
    let (_, rest) = vkey.split_once('+').unwrap();
    let cosigner = witness(3).vkey();
    let ecdsa = format!("{ORIGIN}+00000000+Ag==");
    assert_eq!(
        VerifierKey::parse(&ecdsa),
        Err(NoteError::UnsupportedKey(2))
    );
    assert!(matches!(
        VerifierKey::parse(&format!("other+{rest}")),
        Err(NoteError::KeyIdMismatch { .. })
    ));
    for bad in [
        String::new(),
        ORIGIN.to_owned(),
        format!("+{rest}"),
        format!("a b+{rest}"),
        vkey.replace("83d8f86c", "83D8F86C"),
        vkey.replace("83d8f86c", "083d8f86c"),
        vkey.replace("83d8f86c", "+3d8f86c"),
        format!("{vkey}\n"),
        format!("{vkey}AAAA"),
        cosigner.replace("+BO", "+AO"),
    ] {
        assert!(VerifierKey::parse(&bad).is_err(), "{bad:?}");
    }
    assert!(VerifierKey::new("n", note::KeyKind::Ed25519, &[0; 32]).is_err());
    let again = NoteSigner::parse_private_key(&private).unwrap();
    assert_eq!(again.to_private_key(), private);
    for bad in [
        &private["PRIVATE+KEY+".len()..],
        &private.replace("+83", "+84"),
        &vkey,
        "",
    ] {
        assert!(NoteSigner::parse_private_key(bad).is_err(), "{bad:?}");
    }
    for shown in [format!("{signer:?}"), format!("{:?}", witness(3))] {
        assert!(
            !shown.contains("PRIVATE") && !shown.contains("AQEBAQEB"),
            "{shown}"
        );
    }
    let cosigner = Cosigner::parse_private_key(&private).unwrap();
    assert_eq!(
        cosigner.verifier_key().public_key(),
        signer.verifier_key().public_key()
    );
    assert_ne!(
        cosigner.verifier_key().key_id(),
        signer.verifier_key().key_id()
    );
}

fn receipt(index: u64, size: u64) -> (String, Hash) {
    let leaves = (0..size).map(|at| leaf_hash(&at.to_be_bytes())).collect();
    let tree = MerkleTree::from_leaves(leaves);
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root: tree.root(),
    };
    let path = tree.inclusion_proof(index, size).unwrap();
    let checkpoint = Note::parse(checkpoint.sign(&log()).unwrap().as_bytes()).unwrap();
    (
        TlogProof {
            index,
            path,
            checkpoint,
        }
        .to_string(),
        tree.leaf(index).unwrap(),
    )
}

#[test]
fn a_receipt_verifies_for_its_entry_only() {
    let key = log().verifier_key().clone();
    for size in [1, 2, 5, 64, 100] {
        for index in [0, size / 2, size - 1] {
            let (text, leaf) = receipt(index, size);
            assert_eq!(TlogProof::parse(&text).unwrap().to_string(), text);
            let (at, checkpoint) = proof::verify(&text, &leaf, &key).unwrap();
            assert_eq!((at, checkpoint.size), (index, size));
            assert!(matches!(
                proof::verify(&text, &leaf_hash(b"another"), &key),
                Err(ProofError::Inclusion(_))
            ));
            let moved = text.replace(
                &format!("index {index}\n"),
                &format!("index {}\n", index + 1),
            );
            assert!(proof::verify(&moved, &leaf, &key).is_err());
        }
    }
}

#[test]
fn a_receipt_is_read_in_its_only_form() {
    let (text, leaf) = receipt(5, 8);
    let key = log().verifier_key().clone();
    let hash = text.lines().nth(2).unwrap().to_owned();
    for bad in [
        text.replace("tlog-proof@v1", "tlog-proof@v2"),
        text.replacen("c2sp.org/tlog-proof@v1\n", "", 1),
        text.replace("index 5", "index 05"),
        text.replace("index 5", "index +5"),
        text.replace("index 5", "index  5"),
        text.replace("index 5\n", ""),
        text.replace("index 5\n", "index 5\nindex 5\n"),
        text.replace('\n', "\r\n"),
        text.replace(&hash, &format!("{hash} ")),
        text.replace(&hash, hash.trim_end_matches('=')),
        text.replace("\n\n", "\n"),
        text.replace("index 5\n", "extra !!\nindex 5\n"),
        text.replace(
            "index 5\n",
            &format!("index 5\n{}", format!("{hash}\n").repeat(65)),
        ),
        format!("{text}\n"),
        format!("\n{text}"),
        String::new(),
    ] {
        assert!(TlogProof::parse(&bad).is_err(), "{bad:?}");
    }
    // Padded and cut paths have the form of a receipt and do not verify.
    for bad in [
        text.replace(&hash, &format!("{hash}\n{hash}")),
        text.replace(&format!("{hash}\n"), ""),
    ] {
        assert!(matches!(
            proof::verify(&bad, &leaf, &key),
            Err(ProofError::Inclusion(_))
        ));
    }
    let extra = text.replace("index 5\n", "extra aGludA==\nindex 5\n");
    assert_eq!(proof::verify(&extra, &leaf, &key).unwrap().0, 5);
    assert_eq!(TlogProof::parse(&extra).unwrap().to_string(), text);
}

proptest! {
    #[test]
    fn what_parses_is_written_back_as_it_was(text in "[ -~\n—+=]{0,80}\n\n— [a-z/]{1,8} [A-Za-z0-9+/]{8}\n") {
        if let Ok(note) = Note::parse(text.as_bytes()) {
            prop_assert_eq!(note.to_string(), text);
        }
    }

    #[test]
    fn hostile_text_does_no_harm(text in "\\PC{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = Note::parse(&bytes);
        let _ = VerifierKey::parse(&text);
        let _ = Checkpoint::parse(&text);
        let _ = TlogProof::parse(&text);
        prop_assert!(TilePath::parse(&text).is_err());
    }
}
