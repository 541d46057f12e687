//! The checkpoint: whose log it is, that the pinned key signed it, and who else did (K1 to K5, W6).

use counterfoil_tlog::note::{KeyKind, Note, SignatureLine, VerifierKey};
use counterfoil_tlog::{Checkpoint, checkpoint};

use crate::check::{Check, Finder, Weight};
use crate::trust::{Trust, TrustedLog};

/// A checkpoint as far as it can be believed.
#[derive(Debug)]
pub(crate) struct Head<'t> {
    /// What it says; `None` when it cannot be read.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The pinned log it is judged by.
    pub(crate) log: Option<&'t TrustedLog>,
    /// Whether the pinned key signed it.
    pub(crate) signed: bool,
    /// Newest time that a trusted witness states, seconds.
    pub(crate) witnessed_s: Option<u64>,
    /// Names of the trusted witnesses that cosigned.
    pub(crate) cosigners: Vec<String>,
}

struct Finders {
    k1: Finder,
    k2: Finder,
    k3: Finder,
    k4: Finder,
    k5: Finder,
    w6: Finder,
}

impl Finders {
    fn new() -> Self {
        Self {
            k1: Finder::new("K1", &[], "the pinned key of the log signed the checkpoint"),
            k2: Finder::new("K2", &[], "the checkpoint is of the pinned log"),
            k3: Finder::new("K3", &[], "no other key passes for the pinned one"),
            k4: Finder::new("K4", &[], "the checkpoint is in its one canonical form"),
            k5: Finder::new("K5", &[], "no known key's signature on it is bad"),
            w6: Finder::new(
                "W6",
                &[],
                "the witnesses that the auditor asks for have cosigned",
            )
            .weighing(Weight::Policy),
        }
    }

    fn finish(self) -> Vec<Check> {
        [self.k1, self.k2, self.k3, self.k4, self.k5, self.w6]
            .map(Finder::finish)
            .to_vec()
    }
}

/// Judges the bytes of `log/checkpoint`.
pub(crate) fn judge<'t>(bytes: &[u8], trust: &'t Trust) -> (Head<'t>, Vec<Check>) {
    let mut find = Finders::new();
    let mut head = Head {
        checkpoint: None,
        log: trust.only_log(),
        signed: false,
        witnessed_s: None,
        cosigners: Vec::new(),
    };
    let note = Note::parse(bytes)
        .map_err(|error| error.to_string())
        .and_then(|note| {
            let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
            Ok((note, checkpoint))
        });
    let (note, said) = match note {
        Ok(parsed) => parsed,
        Err(why) => {
            find.k4.fail(why);
            for other in [
                &mut find.k1,
                &mut find.k2,
                &mut find.k3,
                &mut find.k5,
                &mut find.w6,
            ] {
                other.skip("there is no readable checkpoint");
            }
            return (head, find.finish());
        }
    };
    find.k4.note("origin, size and root, each in its only form");
    match trust.log(&said.origin) {
        Some(log) => {
            head.log = Some(log);
            find.k2.note(&said.origin);
        }
        None => find
            .k2
            .fail(format!("{} is not a log of the trust file", said.origin)),
    }
    match head.log {
        Some(log) => signatures(&mut find, &mut head, &note, bytes, log, trust),
        None => {
            for other in [&mut find.k1, &mut find.k3, &mut find.k5, &mut find.w6] {
                other.skip("there is no pinned key for this log");
            }
        }
    }
    head.checkpoint = Some(said);
    (head, find.finish())
}

fn signatures<'t>(
    find: &mut Finders,
    head: &mut Head<'t>,
    note: &Note,
    bytes: &[u8],
    log: &'t TrustedLog,
    trust: &Trust,
) {
    let good = |line: &SignatureLine, key: &VerifierKey| is_good(note, line, key);
    let of_log: Vec<&SignatureLine> = lines_of(note, &log.key).collect();
    head.signed = of_log.iter().any(|line| good(line, &log.key));
    let same_name = note
        .signatures()
        .iter()
        .filter(|line| line.name() == log.key.name());
    if head.signed {
        find.k1.note(&log.key);
        find.k3.note(format!("key id {:08x}", log.key.key_id()));
    } else if of_log.is_empty() {
        find.k1.fail(format!("{} has not signed it", log.key));
        find.k3.expect(
            same_name.count() == 0,
            || "another key signed it under the log's name",
        );
    } else {
        find.k1.fail(format!("the signature of {} is bad", log.key));
        find.k3
            .fail("a signature that claims the pinned key's id is not by the pinned key");
    }
    let known = std::iter::once(&log.key).chain(trust.witnesses());
    let others = note.signatures().len() > 1;
    for key in known {
        for line in lines_of(note, key) {
            if !good(line, key) && others {
                find.k5.fail(format!("the line of {} is bad", key.name()));
            }
        }
    }
    find.k5
        .note(format!("{} signature lines", note.signatures().len()));
    witnesses(find, head, bytes, log, trust);
}

/// The lines on a note that name a key.
pub(crate) fn lines_of<'n>(
    note: &'n Note,
    key: &'n VerifierKey,
) -> impl Iterator<Item = &'n SignatureLine> {
    note.signatures()
        .iter()
        .filter(|line| line.name() == key.name() && line.key_id() == key.key_id())
}

/// Whether one line alone is a good signature by a key.
pub(crate) fn is_good(note: &Note, line: &SignatureLine, key: &VerifierKey) -> bool {
    Note::new(note.text(), vec![line.clone()])
        .and_then(|alone| alone.verify(std::slice::from_ref(key)))
        .is_ok_and(|verified| verified.is_signed_by(key))
}

fn witnesses(
    find: &mut Finders,
    head: &mut Head<'_>,
    bytes: &[u8],
    log: &TrustedLog,
    trust: &Trust,
) {
    let cosigners: Vec<VerifierKey> =
        match checkpoint::open_origin(bytes, &log.origin, &log.key, trust.witnesses()) {
            Ok(opened) => opened
                .cosignatures
                .into_iter()
                .filter(|signature| signature.key.kind() == KeyKind::CosignatureV1)
                .map(|signature| {
                    head.witnessed_s = head.witnessed_s.max(signature.timestamp);
                    signature.key
                })
                .collect(),
            Err(_) => Vec::new(),
        };
    head.cosigners = cosigners.iter().map(|key| key.name().to_owned()).collect();
    find.w6.expect(trust.quorum_met(log, &cosigners), || {
        format!(
            "{} of the trusted witnesses have cosigned, which is not enough",
            cosigners.len()
        )
    });
    find.w6.note(if trust.asks_for_witnesses(log) {
        head.cosigners.join(", ")
    } else {
        "none are asked for on this log's own checkpoint".to_owned()
    });
}
