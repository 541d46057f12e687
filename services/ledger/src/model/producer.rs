//! Who may write what: the producers of the deployment.

use counterfoil_engine::key_id_of;
use counterfoil_evidence::catalogue::stream;
use counterfoil_tlog::VerifierKey;
use counterfoil_tlog::note::KeyKind;
use counterfoil_tlog::signature::verify_record;

use crate::error::LedgerError;

/// First line of what a producer signs to show that it holds its key.
const POSSESSION_DOMAIN: &str = "counterfoil-producer/v1";

/// The streams that services other than the ledger write.
const STREAMS: [&str; 4] = [
    stream::AUTHORITY,
    stream::INVENTORY,
    stream::RECERTIFICATION,
    stream::RECONCILIATION,
];

/// A service's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    /// "{name}+{8 hex digits}".
    pub(crate) key_id: String,
    /// "services/{service}".
    pub(crate) principal: String,
    /// The stream it writes: the service's name.
    pub(crate) stream: String,
    /// Public key, C2SP text form.
    pub(crate) vkey: String,
}

impl Producer {
    /// Checks a registration: the caller registers itself, for its own stream, with a key that it holds.
    pub(crate) fn register(
        caller: &str,
        principal: &str,
        stream: &str,
        vkey: &str,
        proof_of_possession: &[u8],
    ) -> Result<Self, LedgerError> {
        let invalid = |field, reason: &str| LedgerError::Invalid {
            field,
            reason: reason.to_owned(),
        };
        if !STREAMS.contains(&stream) {
            return Err(invalid("stream", "is not the stream of a service"));
        }
        if principal != caller || principal != format!("services/{stream}") {
            return Err(LedgerError::ForeignStream);
        }
        let key = VerifierKey::parse(vkey).map_err(|error| invalid("vkey", &error.to_string()))?;
        if key.kind() != KeyKind::Ed25519 {
            return Err(invalid("vkey", "is not a plain Ed25519 key"));
        }
        let statement = format!("{POSSESSION_DOMAIN}\n{principal}\n{vkey}");
        verify_record(key.public_key(), statement.as_bytes(), proof_of_possession)
            .map_err(|error| invalid("proof_of_possession", &error.to_string()))?;
        Ok(Self {
            key_id: key_id_of(&key),
            principal: principal.to_owned(),
            stream: stream.to_owned(),
            vkey: vkey.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_tlog::NoteSigner;
    use counterfoil_tlog::signature::RecordSigner;

    use super::*;

    fn register(caller: &str, principal: &str, stream: &str) -> Result<Producer, LedgerError> {
        let vkey = NoteSigner::from_seed("x", &[1; 32]).unwrap().vkey();
        let statement = format!("counterfoil-producer/v1\n{principal}\n{vkey}");
        let proof = RecordSigner::from_seed(&[1; 32]).sign(statement.as_bytes());
        Producer::register(caller, principal, stream, &vkey, &proof)
    }

    #[test]
    fn a_service_registers_its_own_stream_and_no_other() {
        let own = register("services/inventory", "services/inventory", "inventory").unwrap();
        assert_eq!(own.stream, "inventory");
        for (caller, principal, stream) in [
            ("services/inventory", "services/authority", "authority"),
            ("services/inventory", "services/inventory", "authority"),
            ("services/authority", "services/inventory", "inventory"),
        ] {
            let refused = register(caller, principal, stream);
            assert!(matches!(refused, Err(LedgerError::ForeignStream)));
        }
        let ledger = register("services/ledger", "services/ledger", "ledger");
        assert!(matches!(
            ledger,
            Err(LedgerError::Invalid {
                field: "stream",
                ..
            })
        ));
    }

    #[test]
    fn a_key_that_the_caller_does_not_hold_is_refused() {
        let vkey = NoteSigner::from_seed("x", &[1; 32]).unwrap().vkey();
        let principal = "services/inventory";
        let statement = format!("counterfoil-producer/v1\n{principal}\n{vkey}");
        let proof = RecordSigner::from_seed(&[2; 32]).sign(statement.as_bytes());
        let refused = Producer::register(principal, principal, "inventory", &vkey, &proof);
        assert!(matches!(
            refused,
            Err(LedgerError::Invalid {
                field: "proof_of_possession",
                ..
            })
        ));
    }
}
