//! What every file of forgeries needs.

pub(crate) use counterfoil_evidence::catalogue::Payload;
pub(crate) use counterfoil_evidence::leaf::media_type;
pub(crate) use counterfoil_evidence::v1::{
    self, CampaignOutcome, Decision, Disposition, EffectClaim, VerificationMethod,
};
pub(crate) use counterfoil_verify::testing::{Edit, Forger, Scene};

pub(crate) use crate::support::authority::{ALICE, BOB, CAROL, DAVE, DAY_MS, PROVIDER, tag_of};
pub(crate) use crate::support::cycle::writer;
pub(crate) use crate::support::estate::{HR, LDAP, OLD};
pub(crate) use crate::support::log::seed;
pub(crate) use crate::{Forgery, Golden, all_fail, all_fail_in, fails};

/// Who answers for a record.
pub(crate) fn accountability(record: &mut v1::Record) -> &mut v1::Accountability {
    record.accountability.get_or_insert_default()
}

/// Puts a record of the same producer and time after records of a type.
pub(crate) fn followed_by(scene: &Scene<'_>, payload: Payload) -> Edit {
    Edit::Follow(vec![(scene.record.clone(), payload)])
}

/// The end of a principal, told by CAROL on a replica whose clock is so far ahead of the one that wrote this record.
pub(crate) fn ended(record: &v1::Record, principal: &str, ahead_ms: i64) -> (v1::Record, Payload) {
    let record = v1::Record {
        actor: CAROL.to_owned(),
        occurred_at_ms: record.occurred_at_ms + ahead_ms,
        ..record.clone()
    };
    let ended = v1::PrincipalEnded {
        principal: principal.to_owned(),
        effective_ms: record.occurred_at_ms,
    };
    (record, Payload::PrincipalEnded(ended))
}
