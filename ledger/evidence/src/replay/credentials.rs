//! Who gave whom the means to act as somebody (I-81): as the customer, only the customer.
//!
//! Principals, activation and credentials are all on the stream of authority, so that their places tell their order.

use std::collections::{HashMap, HashSet};

use super::check::{Check, Tallies};
use super::state::{At, Pos, State};
use crate::catalogue::Payload;
use crate::v1::{
    CredentialIssued, CredentialKind, OrganizationKind, PrincipalRegistered, TenantKind,
    TenantState,
};

/// What the log says of credentials, and of what they are judged by.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// Whether it is a provider's own tenant.
    of_provider: bool,
    /// From here on the tenant is governed, and its customer alone speaks for itself.
    activated: Option<Pos>,
    issued: Vec<At<CredentialIssued>>,
    /// Id and place.
    revoked: Vec<At<String>>,
    /// By "principals/{principal}": where it was registered first, and as what.
    registered: HashMap<String, At<PrincipalRegistered>>,
    /// By the same: where its end is.
    ended: HashMap<String, Pos>,
}

impl Credentials {
    /// Looks at one record.
    pub(super) fn absorb(&mut self, pos: Pos, payload: &Payload) {
        match payload {
            Payload::TenantLifecycleChanged(change) if change.kind() == TenantKind::Provider => {
                self.of_provider = true;
            }
            Payload::TenantLifecycleChanged(change) if change.to() == TenantState::Active => {
                self.activated.get_or_insert(pos);
            }
            Payload::CredentialIssued(issued) => {
                let what = issued.clone();
                self.issued.push(At { pos, what });
            }
            Payload::CredentialRevoked(revoked) => {
                let what = revoked.credential.clone();
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

    /// A principal that is registered at a place, and has not ended there.
    fn active(&self, name: &str, pos: Pos) -> Result<&PrincipalRegistered, String> {
        let found = self.registered.get(name).filter(|found| found.pos < pos);
        let found = found.ok_or_else(|| format!("{name} is no registered principal"))?;
        if self.ended.get(name).is_some_and(|end| *end < pos) {
            return Err(format!("{name} had ended"));
        }
        Ok(&found.what)
    }

    /// Whether whoever issued a credential may let somebody act as its principal.
    fn judge(&self, issued: &At<CredentialIssued>, actor: &str) -> Result<(), String> {
        let holder = self.active(&issued.what.principal, issued.pos)?;
        let governs = match self.of_provider {
            true => OrganizationKind::Provider,
            false => OrganizationKind::Customer,
        };
        let hired = [OrganizationKind::Provider, OrganizationKind::Subcontractor];
        if !self.of_provider && hired.contains(&holder.organization_kind()) {
            return Err(format!(
                "{} is of a provider, whose people have theirs in their own tenant",
                holder.principal
            ));
        }
        let of_customer = holder.organization_kind() == OrganizationKind::Customer;
        if actor.starts_with("operators/") {
            let governed = self.activated.is_some_and(|pos| pos < issued.pos);
            if of_customer && governed {
                return Err(format!(
                    "{actor} of the deployment issued it for the customer's {} after the activation",
                    holder.principal
                ));
            }
            return Ok(());
        }
        let issuer = self.active(actor, issued.pos)?;
        let same = issuer.organization == holder.organization
            && issuer.organization_kind() == holder.organization_kind();
        if same || issuer.organization_kind() == governs {
            return Ok(());
        }
        Err(format!(
            "{actor} of {:?} issued it for {}, whose organisation is another",
            issuer.organization_kind(),
            holder.principal
        ))
    }
}

/// Judges all credentials.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    let credentials = &state.credentials;
    let mut known = HashMap::new();
    for issued in &credentials.issued {
        tallies.checked(Check::I81);
        let mut fail = |why: &str| {
            tallies.fail(Check::I81, format!("{}: {why}", state.entry(issued.pos)));
        };
        let actor = state.meta(issued.pos).map(|meta| meta.actor);
        let actor = actor.map_or("", |actor| state.names.text(actor));
        if let Err(why) = credentials.judge(issued, actor) {
            fail(&why);
        }
        let CredentialIssued {
            credential,
            valid_to_ms,
            ..
        } = &issued.what;
        if known.insert(credential.as_str(), issued.pos).is_some() {
            fail("issues a credential again");
        }
        let ends = match issued.what.kind() {
            CredentialKind::Unspecified => false,
            // A token always ends; a login may last until it is revoked.
            CredentialKind::OidcLogin if *valid_to_ms == 0 => true,
            _ => *valid_to_ms > state.occurred_ms(issued.pos),
        };
        if !ends {
            fail("has no kind or no end");
        }
    }
    let mut gone = HashSet::new();
    for revoked in &credentials.revoked {
        tallies.checked(Check::I81);
        let id = revoked.what.as_str();
        let issued = known.get(id).is_some_and(|pos| *pos < revoked.pos);
        tallies.expect(Check::I81, issued && gone.insert(id), || {
            let entry = state.entry(revoked.pos);
            format!("{entry} revokes a credential that was not in force")
        });
    }
}
