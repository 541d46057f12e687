//! What each command does in a tenant, by the model's functions, as the service's own functions use them.

use super::{
    command::{ACCOUNTABLE, Act, HOUR_MS, Nth, PEOPLE, Source},
    world::{Realm, Refused, covers, not_found, place},
};
use crate::{
    error::Refusal,
    model::{
        delegation::{self, Delegation, Held, require_delegable},
        emergency::{self, Approval, Emergency, Phase, Stage, check_review, is_human, may_review},
        ids::{BusinessUnitId, DelegationId, EmergencyId, PrincipalId, RightId},
        principal::{OrganizationKind, Principal, require_accountable},
        right::{self, DecisionAction, Right, Scope, may_approve, require_grantable},
        tenant::TenantState,
    },
};

pub(super) type Done = Result<(), Refused>;

/// One command in a tenant, by one of its people whom the gate let in. The order of the checks is the service's.
pub(super) struct Turn<'a> {
    pub(super) realm: &'a mut Realm,
    pub(super) caller: Principal,
    pub(super) administers: bool,
    pub(super) now_ms: i64,
}

impl Turn<'_> {
    /// Does it, or says why not.
    pub(super) fn take(&mut self, act: &Act) -> Done {
        match act {
            Act::Grant {
                grantee,
                action,
                scope,
                term,
                grantor,
            } => {
                let grantor = grantor
                    .map_or(&self.caller, |who| &self.realm.people[who])
                    .id
                    .clone();
                self.grant(
                    (PEOPLE[*grantee].id, grantor),
                    *action,
                    scope.clone(),
                    *term,
                )
            }
            Act::ApproveRight(nth) => self.approve_right(*nth),
            Act::RevokeRight(nth) => self.revoke_right(*nth),
            Act::Delegate {
                source,
                delegate,
                scope,
                hours,
                transitive,
            } => self.delegate(
                *source,
                PEOPLE[*delegate].id,
                scope.as_ref(),
                *hours,
                *transitive,
            ),
            Act::RevokeDelegation(nth) => self.revoke_delegation(*nth),
            Act::Absence { deputy, hours } => self.absence(PEOPLE[*deputy].id, *hours),
            Act::AskEmergency {
                role,
                action,
                minutes,
            } => self.ask_emergency(*role, *action, *minutes),
            Act::ApproveEmergency(nth) => self.approve_emergency(*nth),
            Act::EndEmergency(nth) => self.end_emergency(*nth),
            Act::ReviewEmergency(nth) => self.review_emergency(*nth),
            Act::Publish(reserved) => {
                self.require_customer()?;
                self.realm.reserved.clone_from(reserved);
                Ok(())
            }
            Act::EndPrincipal(who) => self.end_principal(*who),
            Act::Suspend => self.move_to(TenantState::Suspended),
            Act::Resume => self.move_to(TenantState::Active),
            Act::BeginExit => self.begin_exit(),
            Act::TakeEvidence => {
                self.take_evidence();
                Ok(())
            }
            Act::Close => self.close(),
            Act::Decide(action, source) => self.decide(*action, source),
            Act::Mandate(act) => self.take_mandate(act),
            Act::Hold(act) => self.take_hold(act),
            Act::IssueToken(who) => self.issue_token(*who),
        }
    }

    pub(super) fn require_customer(&self) -> Done {
        match self.caller.organization_kind == OrganizationKind::Customer {
            true => Ok(()),
            false => Err(Refusal::CallerNotCustomer.into()),
        }
    }

    fn take_evidence(&mut self) {
        let by_customer = self.caller.is_active_human_of(OrganizationKind::Customer);
        let leaves = self.realm.state == TenantState::Exiting;
        self.realm.evidence_taken |= leaves && by_customer;
    }

    fn close(&mut self) -> Done {
        self.require_customer()?;
        self.require_none_held()?;
        match self.realm.evidence_taken {
            true => self.move_to(TenantState::Closed),
            false => Err(Refusal::EvidenceNotTaken.into()),
        }
    }

    fn begin_exit(&mut self) -> Done {
        match is_human(&self.caller) {
            true => self.move_to(TenantState::Exiting),
            false => Err(Refusal::CallerNotCustomer.into()),
        }
    }

    fn move_to(&mut self, to: TenantState) -> Done {
        self.require_customer()?;
        self.realm.state = to;
        Ok(())
    }

    fn grant(
        &mut self,
        (grantee, grantor): (&str, PrincipalId),
        action: DecisionAction,
        scope: Scope,
        (from, to): (i64, i64),
    ) -> Done {
        self.require_customer()?;
        let (from_ms, to_ms) = (self.now_ms + from * HOUR_MS, self.now_ms + to * HOUR_MS);
        right::check_new(action, from_ms, to_ms, self.now_ms).map_err(Refusal::from)?;
        if grantor != self.caller.id {
            return Err(Refusal::GrantorNotCaller.into());
        }
        let wanted = Right {
            id: RightId::stored(format!("r{}", self.realm.rights.len())),
            grantee: PrincipalId::stored(grantee.to_owned()),
            action,
            scope,
            valid_from_ms: from_ms,
            valid_to_ms: to_ms,
            grantor,
            tiers: Vec::new(),
            environments: Vec::new(),
            proposed: self.realm.reserved.contains(&action),
            revoked_at_ms: None,
            record_hash: [0; 32],
        };
        self.require_grantable(&wanted)?;
        self.realm.rights.push(wanted);
        Ok(())
    }

    fn require_grantable(&self, wanted: &Right) -> Done {
        let person = |id: &PrincipalId| self.realm.person(id);
        let answer = require_grantable(
            person(&wanted.grantor),
            person(&wanted.grantee),
            wanted.action,
        );
        answer.map_err(|reason| {
            Refusal::NotGrantable {
                position: 0,
                reason,
            }
            .into()
        })
    }

    fn approve_right(&mut self, nth: Nth) -> Done {
        if require_accountable(Some(&self.caller)).is_err() {
            return Err(Refusal::CallerNotCustomer.into());
        }
        let at = place(self.realm.rights.len(), nth).ok_or_else(not_found)?;
        let right = self.realm.rights[at].clone();
        if right.revoked_at_ms.is_some() {
            return Err(Refusal::RightRevoked.into());
        }
        if !right.proposed {
            return Err(Refusal::NotProposed.into());
        }
        let [grantor, grantee] = [&right.grantor, &right.grantee].map(|id| self.realm.person(id));
        if !may_approve(grantor, grantee, &self.caller) {
            return Err(Refusal::SecondHumanRequired.into());
        }
        self.require_grantable(&right)?;
        self.realm.rights[at].proposed = false;
        Ok(())
    }

    fn revoke_right(&mut self, nth: Nth) -> Done {
        self.require_customer()?;
        let at = place(self.realm.rights.len(), nth).ok_or_else(not_found)?;
        let right = &mut self.realm.rights[at];
        if right.revoked_at_ms.is_some() {
            return Err(Refusal::RightRevoked.into());
        }
        right.revoked_at_ms = Some(self.now_ms);
        Ok(())
    }

    fn delegate(
        &mut self,
        source: Source,
        delegate: &str,
        scope: Option<&Scope>,
        hours: i64,
        transitive: bool,
    ) -> Done {
        let held = match source {
            Source::Right(nth) => place(self.realm.rights.len(), nth).map(|at| Held {
                right: self.realm.rights[at].clone(),
                passed_on: Vec::new(),
            }),
            Source::Delegation(nth) => place(self.realm.delegations.len(), nth)
                .map(|at| self.realm.held(&self.realm.delegations[at])),
        };
        let held = held
            .filter(|held| *held.holder() == self.caller.id)
            .ok_or_else(not_found)?;
        let mut wanted = self.whole(&held, delegate, hours);
        // On the wire no scope is all of what is held, and every source is "*".
        if let Some(scope) = scope {
            wanted.scope = scope.clone();
        }
        wanted.transitive = transitive;
        self.pass_on(&held, wanted)
    }

    fn whole(&self, held: &Held, delegate: &str, hours: i64) -> Delegation {
        Delegation {
            id: DelegationId::stored(format!("d{}", self.realm.delegations.len())),
            delegator: held.holder().clone(),
            delegate: PrincipalId::stored(delegate.to_owned()),
            right: held.right.id.clone(),
            source: held.passed_on.last().map(|last| last.id.clone()),
            action: held.right.action,
            scope: held.reach().0.clone(),
            tiers: Vec::new(),
            environments: Vec::new(),
            valid_from_ms: self.now_ms,
            valid_to_ms: self.now_ms + hours * HOUR_MS,
            transitive: false,
            reason_code: "absence".to_owned(),
            revoked_at_ms: None,
            record_hash: [0; 32],
        }
    }

    fn pass_on(&mut self, held: &Held, wanted: Delegation) -> Done {
        delegation::check_new(&wanted, self.now_ms).map_err(Refusal::from)?;
        let delegate = self.realm.person(&wanted.delegate);
        let given = self.realm.delegations.iter().filter(|one| {
            (&one.delegator, &one.delegate, one.action)
                == (&wanted.delegator, &wanted.delegate, wanted.action)
                && one.revoked_at_ms.is_none()
                && one.valid_to_ms > self.now_ms
        });
        let given = given.count();
        require_delegable(held, delegate, &wanted, given).map_err(Refusal::NotDelegable)?;
        self.realm.delegations.push(wanted);
        Ok(())
    }

    fn absence(&mut self, deputy: &str, hours: i64) -> Done {
        let (from_ms, to_ms) = (self.now_ms, self.now_ms + hours * HOUR_MS);
        let throughout = |one: &&Right| {
            one.grantee == self.caller.id
                && !one.proposed
                && one.revoked_at_ms.is_none()
                && one.valid_from_ms <= from_ms
                && one.valid_to_ms >= to_ms
        };
        let rights: Vec<Right> = self
            .realm
            .rights
            .iter()
            .filter(throughout)
            .cloned()
            .collect();
        if rights.is_empty() {
            return Err(Refusal::NothingToPassOn.into());
        }
        let before = self.realm.delegations.len();
        for right in rights {
            let held = Held {
                right,
                passed_on: Vec::new(),
            };
            let wanted = self.whole(&held, deputy, hours);
            if let Err(refused) = self.pass_on(&held, wanted) {
                self.realm.delegations.truncate(before);
                return Err(refused);
            }
        }
        Ok(())
    }

    fn revoke_delegation(&mut self, nth: Nth) -> Done {
        let at = place(self.realm.delegations.len(), nth).ok_or_else(not_found)?;
        let one = &self.realm.delegations[at];
        let of_two = self.caller.id == one.delegator || self.caller.id == one.delegate;
        if !of_two && (!self.administers || self.require_customer().is_err()) {
            return Err(not_found());
        }
        if one.revoked_at_ms.is_some() {
            return Err(Refusal::RightRevoked.into());
        }
        self.realm.delegations[at].revoked_at_ms = Some(self.now_ms);
        Ok(())
    }

    fn ask_emergency(
        &mut self,
        role: Option<&str>,
        action: Option<DecisionAction>,
        minutes: i64,
    ) -> Done {
        if !is_human(&self.caller) {
            return Err(Refusal::HumanRequired.into());
        }
        let roles: Vec<String> = role.into_iter().map(str::to_owned).collect();
        let actions: Vec<DecisionAction> = action.into_iter().collect();
        emergency::check_new((&roles, &actions), minutes * 60, "an outage")
            .map_err(Refusal::from)?;
        self.realm.emergencies.push(Emergency {
            id: EmergencyId::stored(format!("e{}", self.realm.emergencies.len())),
            stage: Stage::Requested,
            requester: self.caller.id.clone(),
            roles,
            actions,
            scope: Scope::Everywhere,
            duration_ms: minutes * 60_000,
            requested_at_ms: self.now_ms,
            request_hash: [0; 32],
            approval: None,
            ended_at_ms: None,
            reviewer: None,
        });
        Ok(())
    }

    fn emergency(&self, nth: Nth) -> Result<usize, Refused> {
        place(self.realm.emergencies.len(), nth).ok_or_else(not_found)
    }

    fn approve_emergency(&mut self, nth: Nth) -> Done {
        let at = self.emergency(nth)?;
        let access = &self.realm.emergencies[at];
        let phase = access.phase(self.now_ms);
        if phase != Phase::Requested {
            return Err(Refusal::EmergencyState(phase).into());
        }
        let requester = self.realm.person(&access.requester);
        if !requester.is_some_and(|requester| emergency::may_approve(requester, &self.caller)) {
            return Err(Refusal::SecondHumanRequired.into());
        }
        let access = &mut self.realm.emergencies[at];
        access.approval = Some(Approval {
            approver: self.caller.id.clone(),
            valid_from_ms: self.now_ms,
            valid_to_ms: self.now_ms + access.duration_ms,
            record_id: Vec::new(),
            record_hash: [0; 32],
        });
        access.stage = Stage::Logged;
        Ok(())
    }

    fn end_emergency(&mut self, nth: Nth) -> Done {
        let at = self.emergency(nth)?;
        let access = &self.realm.emergencies[at];
        let approver = access.approval.as_ref().map(|approval| &approval.approver);
        let of_two = self.caller.id == access.requester || Some(&self.caller.id) == approver;
        if !of_two && (!self.administers || self.require_customer().is_err()) {
            return Err(not_found());
        }
        let phase = access.phase(self.now_ms);
        if phase != Phase::Active {
            return Err(Refusal::EmergencyState(phase).into());
        }
        self.realm.emergencies[at].ended_at_ms = Some(self.now_ms);
        Ok(())
    }

    fn review_emergency(&mut self, nth: Nth) -> Done {
        let at = self.emergency(nth)?;
        let access = &self.realm.emergencies[at];
        check_review("justified", "looked at").map_err(Refusal::from)?;
        let phase = access.phase(self.now_ms);
        if phase != Phase::Ended {
            return Err(Refusal::EmergencyState(phase).into());
        }
        let approver = access.approval.as_ref().map(|one| &one.approver);
        let two = [Some(&access.requester), approver].into_iter().flatten();
        let two = two.filter_map(|id| self.realm.person(id));
        if !may_review(two, &self.caller) {
            return Err(Refusal::ThirdHumanRequired.into());
        }
        self.realm.emergencies[at].reviewer = Some(self.caller.id.clone());
        Ok(())
    }

    fn end_principal(&mut self, who: usize) -> Done {
        self.require_customer()?;
        let found = &mut self.realm.people[who];
        if !found.is_active() {
            return Err(Refusal::PrincipalEnded.into());
        }
        if who < ACCOUNTABLE {
            return Err(Refusal::OwnsBusinessUnit(BusinessUnitId::stored("all".to_owned())).into());
        }
        found.ended_at_ms = Some(self.now_ms);
        Ok(())
    }

    /// What the services that decide do: the tenant must be active, and something must cover it.
    fn decide(&self, action: DecisionAction, source: &str) -> Done {
        if self.realm.state != TenantState::Active {
            return Err(Refusal::TenantState(self.realm.state).into());
        }
        let who = PEOPLE
            .iter()
            .position(|one| one.id == self.caller.id.as_str())
            .unwrap_or_default();
        let offers = self.realm.offers(who, action, self.now_ms);
        match offers.iter().any(|(_, scope)| covers(scope, source)) {
            true => Ok(()),
            false => Err(Refused::of("NO_DECISION_RIGHT")),
        }
    }
}
