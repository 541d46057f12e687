//! Remembering one record, and judging what its own stream alone can tell.

use super::CLOCK_SKEW_MS;
use super::check::{Check, Tallies};
use super::prepare::{Decoded, Prepared};
use super::state::{
    At, Digest, Ending, FindingChange, Meta, Obligation, Pos, Principal, Run, State, Sym, Sync,
};
use super::{governed, providers, remediation, review};
use crate::catalogue::{Payload, RECORD_TYPES};
use crate::leaf::{SourceTag, media_type};
use crate::v1;

/// A record's envelope, once its payload is taken out.
pub(super) struct Context<'r> {
    pub(super) pos: Pos,
    pub(super) record: &'r v1::Record,
    pub(super) proved: bool,
}

impl Context<'_> {
    /// The attachment of a media type.
    pub(super) fn blob(&self, media_type: &str) -> Option<Digest> {
        let blob = self
            .record
            .blob
            .iter()
            .find(|blob| blob.media_type == media_type)?;
        blob.sha256.as_slice().try_into().ok()
    }

    /// The digest of the commitment with a label.
    pub(super) fn commitment(&self, label: &str) -> Option<&[u8]> {
        self.record
            .commitment
            .iter()
            .find(|commitment| commitment.label == label)
            .map(|commitment| commitment.digest.as_slice())
    }
}

/// A digest out of a field that should hold one; zeros, which no record has, otherwise.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    bytes.try_into().unwrap_or_default()
}

/// Takes one record in.
pub(super) fn record(
    state: &mut State,
    tallies: &mut Tallies,
    (recorded_ms, delay_max_ms): (i64, i64),
    prepared: Prepared,
) {
    let pos = Pos::try_from(state.metas.len()).unwrap_or(Pos::MAX);
    let record = &prepared.record;
    remember(state, record, prepared.record_hash, recorded_ms);
    state.by_hash.entry(prepared.record_hash).or_insert(pos);
    tallies.checked(Check::I04);
    tallies.expect(
        Check::I04,
        record.occurred_at_ms <= recorded_ms.saturating_add(CLOCK_SKEW_MS),
        || {
            let ahead = record.occurred_at_ms.saturating_sub(recorded_ms);
            format!("entry {pos} states what happened {ahead} ms after it was integrated")
        },
    );
    let delay_ms = recorded_ms.saturating_sub(record.occurred_at_ms);
    tallies.expect(Check::I04, delay_ms <= delay_max_ms, || {
        format!("entry {pos} was integrated {delay_ms} ms after what it states, at most {delay_max_ms} are allowed")
    });
    tallies.checked(Check::I05);
    let proved = !matches!(prepared.proof, Some(Err(_)));
    if let Some(Err(reason)) = &prepared.proof {
        let check = match &prepared.decoded {
            Decoded::Payload(payload)
                if matches!(payload.as_ref(), Payload::RegressionDetected(_)) =>
            {
                Check::I37
            }
            _ => Check::I34,
        };
        tallies.fail(check, format!("entry {pos}: {reason}"));
    }
    if !state.schemas_used.contains_key(&record.schema_hash) {
        state.schemas_used.insert(record.schema_hash.clone(), pos);
    }
    let context = Context {
        pos,
        record,
        proved,
    };
    match prepared.decoded {
        Decoded::Payload(payload) => {
            state.credentials.absorb(context.pos, &payload);
            payload_of(state, tallies, &context, *payload);
        }
        Decoded::UnknownType => tallies.skip(
            Check::I05,
            format!(
                "this verifier does not know {}: its integrity is verified, its meaning is not",
                record.r#type
            ),
        ),
        Decoded::Malformed(error) => {
            tallies.fail(Check::I05, format!("entry {pos}: {error}"));
        }
    }
}

/// Keeps the place of an entry that cannot be read.
pub(super) fn unreadable(state: &mut State) {
    remember(state, &v1::Record::default(), [0; 32], 0);
}

fn remember(state: &mut State, record: &v1::Record, hash: Digest, recorded_ms: i64) {
    let accountability = record.accountability.as_ref();
    let short = record.r#type.rsplit('.').next().unwrap_or_default();
    let kind = RECORD_TYPES
        .iter()
        .position(|known| known.name == short)
        .and_then(|at| u8::try_from(at).ok())
        .unwrap_or(u8::MAX);
    let meta = Meta {
        hash,
        recorded_ms,
        occurred_ms: record.occurred_at_ms,
        kind,
        type_name: state.names.intern(&record.r#type),
        stream: state.names.intern(&record.stream),
        actor: state.names.intern(&record.actor),
        owner: state
            .names
            .intern(accountability.map_or("", |a| &a.accountable_owner)),
        authority: state
            .digests
            .intern(accountability.map_or(&[], |a| &a.authority)),
        policy: state
            .digests
            .intern(accountability.map_or(&[], |a| &a.policy)),
        on_behalf_of: match accountability {
            Some(a) if !a.on_behalf_of.is_empty() => state.names.intern(&a.on_behalf_of.join(" ")),
            _ => Sym::default(),
        },
    };
    state.metas.push(meta);
}

/// What takes something away does so when it is done: an end that is told of another time could undo what came before, or let
/// go on what is over.
fn ends_at_once(tallies: &mut Tallies, context: &Context<'_>, payload: &Payload) {
    let (check, effective_ms) = match payload {
        Payload::PrincipalEnded(end) => (Check::I13, end.effective_ms),
        Payload::DecisionRightRevoked(end) => (Check::I13, end.effective_ms),
        Payload::DelegationRevoked(end) => (Check::I16, end.effective_ms),
        Payload::EmergencyAccessEnded(end) => (Check::I43, end.effective_ms),
        Payload::AgentSuspended(end) => (Check::I69, end.effective_ms),
        Payload::AgentRevoked(end) => (Check::I69, end.effective_ms),
        // It lets go on, and no earlier than it was said either.
        Payload::AgentResumed(on) => (Check::I69, on.effective_ms),
        _ => return,
    };
    tallies.checked(check);
    let pos = context.pos;
    tallies.expect(check, effective_ms == context.record.occurred_at_ms, || {
        format!("entry {pos} takes effect at another time than its own")
    });
}

fn payload_of(state: &mut State, tallies: &mut Tallies, context: &Context<'_>, payload: Payload) {
    ends_at_once(tallies, context, &payload);
    let pos = context.pos;
    match payload {
        Payload::PrincipalRegistered(new) => principal(state, tallies, context, new),
        Payload::PrincipalEnded(ended) => {
            let name = state.names.intern(&ended.principal);
            let end = ending(state, pos, ended.effective_ms);
            let known = state.principals_ended.entry(name).or_insert(end);
            *known = known.or(end);
        }
        Payload::DecisionRightGranted(right) => {
            state.rights.insert(pos, right);
        }
        Payload::DecisionRightRevoked(revoked) => {
            let right = state.names.intern(&revoked.right);
            let end = ending(state, pos, revoked.effective_ms);
            let known = state.rights_revoked.entry(right).or_insert(end);
            *known = known.or(end);
        }
        Payload::PolicyBundlePublished(what) => state.policies.push(At { pos, what }),
        Payload::SourceRegistered(what) => {
            state.places.register(pos, &what);
            state.sources.push(At { pos, what });
        }
        Payload::ObjectClassified(what) => state.places.classify(pos, what),
        Payload::SourceSyncSealed(sealed) => {
            let tag = SourceTag::of(&sealed.source);
            let blob = context.blob(media_type::GRANT_SET);
            state.syncs.insert(pos, Sync { sealed, tag, blob });
        }
        Payload::SnapshotSealed(sealed) => {
            state.snapshots.insert(pos, sealed);
        }
        Payload::SchemaRegistered(schema) => {
            let hash = schema.schema_hash;
            state.schemas_registered.push((pos, hash.clone()));
            state.schemas.insert(hash);
        }
        Payload::EpochSealed(what) => state.epochs.push(At { pos, what }),
        Payload::ObligationOpened(opened) => obligation(state, tallies, pos, &opened),
        Payload::ObligationDischarged(discharged) => {
            discharge(state, tallies, pos, &discharged);
        }
        Payload::ObligationBreached(breached) => breach(state, tallies, pos, &breached),
        Payload::ReconRunSealed(record) => state.runs.push(At {
            pos,
            what: Run {
                authorized: context.blob(media_type::AUTHORIZED_SET),
                findings: context.blob(media_type::FINDINGS),
                record,
            },
        }),
        Payload::FindingDispositioned(change) => dispositioned(state, pos, &change),
        other => elsewhere(state, tallies, context, other),
    }
}

fn dispositioned(state: &mut State, pos: Pos, change: &v1::FindingDispositioned) {
    let finding = state.names.intern(&change.finding);
    state.finding_changes.push(FindingChange {
        pos,
        finding,
        state: change.state(),
        evidence: digest(&change.evidence_record_hash),
    });
    let at = state.finding_at.get(&finding);
    if let Some(found) = at.and_then(|at| state.findings.get_mut(*at as usize)) {
        found.state = change.state();
    }
}

/// What the other parts remember, each in its turn.
fn elsewhere(state: &mut State, tallies: &mut Tallies, context: &Context<'_>, other: Payload) {
    let other = match other {
        Payload::LogScrubbed(what) => {
            let pos = context.pos;
            state.scrubs.push(At { pos, what });
            return;
        }
        other => other,
    };
    if let Some(other) = governed::absorb(state, context, other)
        && let Some(other) = providers::absorb(state, context, other)
        && let Some(other) = review::absorb(state, tallies, context, other)
    {
        remediation::absorb(state, tallies, context, other);
    }
}

/// An end that a record states.
pub(super) fn ending(state: &State, pos: Pos, effective_ms: i64) -> Ending {
    Ending {
        pos,
        effective_ms,
        recorded_ms: state.meta(pos).map_or(i64::MAX, |meta| meta.recorded_ms),
    }
}

fn principal(
    state: &mut State,
    tallies: &mut Tallies,
    context: &Context<'_>,
    registered: v1::PrincipalRegistered,
) {
    let name = state.names.intern(&registered.principal);
    let principal = Principal {
        from_ms: context.record.occurred_at_ms,
        kind: registered.kind(),
        organization: state.names.intern(&registered.organization),
        organization_kind: registered.organization_kind(),
        identity_tag: registered.identity_tag,
    };
    // The first registration counts: a later one cannot make a human of what was a service.
    let new = principal.kind;
    let first = state.principals.entry(name).or_insert(principal).kind;
    let agent = first == v1::PrincipalKind::AiAgent || new == v1::PrincipalKind::AiAgent;
    tallies.expect(Check::I65, first == new || !agent, || {
        let (pos, name) = (context.pos, &registered.principal);
        format!("entry {pos} makes {new:?} of {name}, which is {first:?}")
    });
}

fn obligation(state: &mut State, tallies: &mut Tallies, pos: Pos, opened: &v1::ObligationOpened) {
    tallies.checked(Check::I08);
    let Ok(id) = <[u8; 16]>::try_from(opened.obligation.as_slice()) else {
        tallies.fail(Check::I08, format!("entry {pos}: an id has 16 bytes"));
        return;
    };
    let obligation = Obligation {
        pos,
        kind: state.names.intern(&opened.kind),
        owner: state.names.intern(&opened.owner),
        due_ms: opened.due_ms,
        object: state.names.intern(&opened.object),
        discharged: None,
        breached: None,
    };
    if state.obligations.insert(id, obligation).is_some() {
        tallies.fail(Check::I08, format!("entry {pos} opens an obligation again"));
    }
}

fn discharge(
    state: &mut State,
    tallies: &mut Tallies,
    pos: Pos,
    discharged: &v1::ObligationDischarged,
) {
    let found = <[u8; 16]>::try_from(discharged.obligation.as_slice())
        .ok()
        .and_then(|id| state.obligations.get_mut(&id));
    match found {
        Some(open) if open.discharged.is_none() => {
            open.discharged = Some((pos, digest(&discharged.evidence_record_hash)));
        }
        Some(_) => tallies.fail(
            Check::I08,
            format!("entry {pos} discharges an obligation a second time"),
        ),
        None => tallies.fail(
            Check::I08,
            format!("entry {pos} discharges an obligation that was never opened"),
        ),
    }
}

fn breach(state: &mut State, tallies: &mut Tallies, pos: Pos, breached: &v1::ObligationBreached) {
    let found = <[u8; 16]>::try_from(breached.obligation.as_slice())
        .ok()
        .and_then(|id| state.obligations.get_mut(&id));
    match found {
        Some(open) if open.breached.is_none() && open.discharged.is_none() => {
            open.breached = Some(pos);
        }
        Some(_) => tallies.fail(
            Check::I08,
            format!("entry {pos} breaches an obligation that has ended already"),
        ),
        None => tallies.fail(
            Check::I08,
            format!("entry {pos} breaches an obligation that was never opened"),
        ),
    }
}
