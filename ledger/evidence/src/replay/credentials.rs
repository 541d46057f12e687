//! Who gave whom the means to act as somebody (I-81): as the customer, only the customer.
//!
//! Principals, activation and credentials are all on the stream of authority, so that their places tell their order. Whoever
//! issues presents a credential of their own, which the record names: what is issued is no stronger than that, and the chain
//! ends at what the deployment issued before the tenant was active.

use std::collections::HashMap;

use super::check::{Check, Tallies};
use super::state::{At, Pos, State};
use crate::catalogue::Payload;
use crate::v1::{
    CredentialIssued, CredentialKind, CredentialRevoked, OrganizationKind, PrincipalKind,
    PrincipalRegistered,
};

const DAY_MS: i64 = 86_400_000;
/// Longest life of a token.
const TERM_MAX_MS: i64 = 365 * DAY_MS;
/// How long after the activation what the deployment issued ends at the latest.
pub(super) const HAND_OVER_MS: i64 = DAY_MS;
/// Longest public id of a credential.
const ID_BYTES_MAX: usize = 64;

/// What the log says of credentials, and of what they are judged by.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    pub(super) issued: Vec<At<CredentialIssued>>,
    pub(super) revoked: Vec<At<CredentialRevoked>>,
    /// By "principals/{principal}": where it was registered first, and as what.
    registered: HashMap<String, At<PrincipalRegistered>>,
    /// By the same: where its end is.
    ended: HashMap<String, Pos>,
}

impl Credentials {
    /// Looks at one record.
    pub(super) fn absorb(&mut self, pos: Pos, payload: &Payload) {
        match payload {
            Payload::CredentialIssued(issued) => {
                let what = issued.clone();
                self.issued.push(At { pos, what });
            }
            Payload::CredentialRevoked(revoked) => {
                let what = revoked.clone();
                self.revoked.push(At { pos, what });
            }
            Payload::PrincipalRegistered(registered) => {
                let what = registered.clone();
                let name = registered.principal.clone();
                self.registered.entry(name).or_insert(At { pos, what });
            }
            Payload::PrincipalEnded(ended) => {
                self.ended.entry(ended.principal.clone()).or_insert(pos);
            }
            _ => {}
        }
    }

    /// Every principal, where it was registered first.
    pub(super) fn principals(&self) -> impl Iterator<Item = &At<PrincipalRegistered>> {
        self.registered.values()
    }

    /// A principal that is registered at a place.
    fn registered(&self, name: &str, pos: Pos) -> Result<&PrincipalRegistered, &'static str> {
        let found = self.registered.get(name).filter(|found| found.pos < pos);
        Ok(&found.ok_or("is no registered principal")?.what)
    }

    /// A principal that is registered at a place, and has not ended there; or why it is none. The place is one of the stream of
    /// authority: its order tells what came first, whatever the clocks of those who wrote it say.
    pub(super) fn at(&self, name: &str, pos: Pos) -> Result<&PrincipalRegistered, &'static str> {
        let found = self.registered(name, pos)?;
        match self.ended.get(name).is_some_and(|end| *end < pos) {
            true => Err("had ended"),
            false => Ok(found),
        }
    }

    /// The same, with the name in what is said.
    pub(super) fn active(&self, name: &str, pos: Pos) -> Result<&PrincipalRegistered, String> {
        self.at(name, pos).map_err(|why| format!("{name} {why}"))
    }
}

/// A credential that the log knows.
struct Held<'c> {
    pos: Pos,
    issued: &'c CredentialIssued,
    /// How long it was to live; `None`: until it is revoked.
    term_ms: Option<i64>,
    /// Until when it counts (exclusive).
    end_ms: i64,
    revoked: Option<Pos>,
}

impl Held<'_> {
    fn is_in_force(&self, pos: Pos, now_ms: i64) -> bool {
        self.pos < pos && self.revoked.is_none_or(|end| pos < end) && now_ms < self.end_ms
    }

    /// Whether what is issued with it is no stronger than it is.
    fn covers(&self, issued: &CredentialIssued, term_ms: Option<i64>) -> Result<(), &'static str> {
        let own = &self.issued.scopes;
        let within = own.is_empty()
            || (!issued.scopes.is_empty() && issued.scopes.iter().all(|scope| own.contains(scope)));
        if !within {
            return Err("has more scopes than the credential it was issued with");
        }
        if !self.issued.certificate_sha256.is_empty() && issued.certificate_sha256.is_empty() {
            return Err("is bound to no certificate, though what it was issued with is");
        }
        match (self.term_ms, term_ms) {
            (Some(own), Some(term)) if term > own => {
                Err("lives longer than the credential it was issued with was to")
            }
            (Some(own), None) if own < DAY_MS => {
                Err("has no end, though what it was issued with was to live less than a day")
            }
            _ => Ok(()),
        }
    }
}

/// The judge of credentials, with what it has found of them so far.
struct Judge<'s> {
    state: &'s State,
    credentials: &'s Credentials,
    known: HashMap<&'s str, Held<'s>>,
    /// Ids of those of a principal.
    of: HashMap<&'s str, Vec<&'s str>>,
}

impl<'s> Judge<'s> {
    fn actor(&self, pos: Pos) -> &'s str {
        let actor = self.state.meta(pos).map(|meta| meta.actor);
        actor.map_or("", |actor| self.state.names.text(actor))
    }

    /// Where the tenant became active: from here on it is governed, and nobody but those who govern it speaks for it.
    fn activated(&self) -> Option<Pos> {
        self.state.governed.activated().map(|change| change.pos)
    }

    /// Whether the place is behind the activation.
    fn is_governed(&self, pos: Pos) -> bool {
        self.activated().is_some_and(|at| at < pos)
    }

    /// Whether somebody has a say in whose credentials these are.
    fn require_say(
        &self,
        actor: &PrincipalRegistered,
        holder: &PrincipalRegistered,
    ) -> Result<(), String> {
        let governs = match self.state.governed.of_provider() {
            true => OrganizationKind::Provider,
            false => OrganizationKind::Customer,
        };
        let same = actor.organization == holder.organization
            && actor.organization_kind() == holder.organization_kind();
        if same || actor.organization_kind() == governs {
            return Ok(());
        }
        Err(format!(
            "{} of {:?} has no say in those of {}, whose organisation is another",
            actor.principal,
            actor.organization_kind(),
            holder.principal
        ))
    }

    /// Whether whoever issued a credential may let somebody act as its principal.
    fn issuer(&self, issued: &At<CredentialIssued>, term_ms: Option<i64>) -> Result<(), String> {
        let (pos, what) = (issued.pos, &issued.what);
        let holder = self.credentials.active(&what.principal, pos)?;
        let hired = [OrganizationKind::Provider, OrganizationKind::Subcontractor];
        if !self.state.governed.of_provider() && hired.contains(&holder.organization_kind()) {
            return Err(format!(
                "{} is of a provider, whose people have theirs in their own tenant",
                holder.principal
            ));
        }
        let actor = self.actor(pos);
        if of_deployment(actor) {
            if self.is_governed(pos) {
                return Err(format!(
                    "{actor} of the deployment issued it after the activation"
                ));
            }
            if what.kind() != CredentialKind::ApiToken || !what.issued_with.is_empty() {
                return Err(format!("{actor} of the deployment issues tokens alone"));
            }
            return Ok(());
        }
        let issuer = self.credentials.active(actor, pos)?;
        self.require_say(issuer, holder)?;
        if holder.kind() == PrincipalKind::Human && issuer.kind() != PrincipalKind::Human {
            return Err(format!(
                "{actor} is no human, and issued it for the human {}",
                holder.principal
            ));
        }
        let held = self.known.get(what.issued_with.as_str());
        let now_ms = self.state.occurred_ms(pos);
        let held = held
            .filter(|held| held.issued.principal == actor && held.is_in_force(pos, now_ms))
            .ok_or_else(|| {
                format!("{actor} issued it with a credential that was not theirs, or not in force")
            })?;
        held.covers(what, term_ms).map_err(str::to_owned)
    }

    /// Takes up a credential as issued, and says what is wrong with that.
    fn issue(&mut self, issued: &'s At<CredentialIssued>) -> Vec<String> {
        let (pos, what) = (issued.pos, &issued.what);
        let occurred_ms = self.state.occurred_ms(pos);
        let term_ms = match what.valid_to_ms {
            0 => None,
            end => Some(end.saturating_sub(occurred_ms)),
        };
        let mut faults: Vec<String> = form(what, term_ms).map(str::to_owned).collect();
        faults.extend(self.issuer(issued, term_ms).err());
        let mut end_ms = term_ms.map_or(i64::MAX, |_| what.valid_to_ms);
        // Before the activation every credential comes of the deployment's, whoever issued it.
        if !self.is_governed(pos) {
            let handed_over = self.activated().map_or(i64::MAX, |at| {
                self.state.occurred_ms(at).saturating_add(HAND_OVER_MS)
            });
            end_ms = end_ms.min(handed_over);
        }
        let held = Held {
            pos,
            issued: what,
            term_ms,
            end_ms,
            revoked: None,
        };
        if self.known.contains_key(what.credential.as_str()) {
            faults.push("issues a credential again".to_owned());
        } else {
            self.known.insert(&what.credential, held);
            let own = self.of.entry(what.principal.as_str()).or_default();
            own.push(&what.credential);
        }
        faults
    }

    /// Takes up that a credential ended, and says what is wrong with that.
    fn revoke(&mut self, revoked: &At<CredentialRevoked>) -> Result<(), String> {
        let (pos, what) = (revoked.pos, &revoked.what);
        let now_ms = self.state.occurred_ms(pos);
        let said = self.revoker(pos, &what.credential, now_ms);
        let held = self.known.get_mut(what.credential.as_str());
        let held = held.filter(|held| held.pos < pos && held.revoked.is_none());
        let held = held.ok_or("revokes a credential that was not in force")?;
        held.revoked = Some(pos);
        if what.effective_ms != now_ms {
            return Err("revokes from another moment on than its own".to_owned());
        }
        said
    }

    /// Whether whoever revoked a credential may.
    fn revoker(&self, pos: Pos, credential: &str, now_ms: i64) -> Result<(), String> {
        let actor = self.actor(pos);
        if of_deployment(actor) {
            return Ok(());
        }
        let revoker = self.credentials.active(actor, pos)?;
        let own = self.of.get(actor).into_iter().flatten();
        let mut own = own.filter_map(|id| self.known.get(id));
        if !own.any(|held| held.is_in_force(pos, now_ms)) {
            return Err(format!("{actor} had no credential in force"));
        }
        let Some(held) = self.known.get(credential) else {
            return Ok(());
        };
        let name = &held.issued.principal;
        let holder = self.credentials.registered(name, pos);
        let holder = holder.map_err(|why| format!("{name} {why}"))?;
        self.require_say(revoker, holder)
    }
}

pub(super) fn of_deployment(actor: &str) -> bool {
    actor.starts_with("operators/")
}

/// What is wrong with a credential by itself.
fn form(issued: &CredentialIssued, term_ms: Option<i64>) -> impl Iterator<Item = &'static str> {
    let id = issued.credential.as_bytes();
    let printable = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let is_id = (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(printable);
    let are_scopes = issued.scopes.iter().all(|scope| is_permission(scope))
        && issued.scopes.is_sorted_by(|left, right| left < right);
    let hashes = (issued.secret_tag.len(), issued.certificate_sha256.len());
    let (ends, hashed) = match issued.kind() {
        CredentialKind::Unspecified => (false, false),
        // A token always ends; a login lasts until it is revoked.
        CredentialKind::OidcLogin => (
            term_ms.is_none(),
            hashes == (0, 0) && issued.scopes.is_empty(),
        ),
        CredentialKind::ApiToken => (
            term_ms.is_some_and(|term| (1..=TERM_MAX_MS).contains(&term)),
            matches!(hashes, (32, 0 | 32)),
        ),
    };
    [
        (is_id, "has no public id"),
        (are_scopes, "has scopes that are none, or in no order"),
        (ends, "has no kind, no end, or one beyond a year"),
        (hashed, "does not tell what its holder shows"),
    ]
    .into_iter()
    .filter_map(|(good, fault)| (!good).then_some(fault))
}

/// Whether a text is written as permissions are: words of lower case letters, digits, underscores and hyphens with dots between
/// them.
#[must_use]
pub fn is_permission(text: &str) -> bool {
    let of_word =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    text.contains('.')
        && text
            .split('.')
            .all(|word| !word.is_empty() && word.bytes().all(of_word))
}

/// Judges all credentials.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    let credentials = &state.credentials;
    let mut judge = Judge {
        state,
        credentials,
        known: HashMap::new(),
        of: HashMap::new(),
    };
    let mut revoked = credentials.revoked.iter().peekable();
    let fail = |tallies: &mut Tallies, pos: Pos, why: &str| {
        tallies.fail(Check::I81, format!("{}: {why}", state.entry(pos)));
    };
    // In the order of the log: what is revoked counts until there.
    for issued in &credentials.issued {
        while let Some(end) = revoked.next_if(|end| end.pos < issued.pos) {
            tallies.checked(Check::I81);
            if let Err(why) = judge.revoke(end) {
                fail(tallies, end.pos, &why);
            }
        }
        tallies.checked(Check::I81);
        for why in judge.issue(issued) {
            fail(tallies, issued.pos, &why);
        }
    }
    for end in revoked {
        tallies.checked(Check::I81);
        if let Err(why) = judge.revoke(end) {
            fail(tallies, end.pos, &why);
        }
    }
}
