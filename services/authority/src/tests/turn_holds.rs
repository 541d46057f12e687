//! What is held and how long evidence is kept, by the model's functions, as the service's own functions use them.

use counterfoil_evidence::v1::RetentionRule;

use super::{
    command_holds::{Days, HoldAct},
    turn::{Done, Turn},
    world::{Realm, not_found, place},
};
use crate::{
    error::{HoldRefusal, Refusal},
    model::{
        hold::{Hold, Release, check_new, may_release, shortened},
        ids::HoldId,
        settings::check_rules,
    },
};

/// The rules of a retention policy that keeps each of the classes so long.
pub(super) fn rules(days: Days) -> Vec<RetentionRule> {
    let rules = days.of_classes().map(|(class, days)| RetentionRule {
        retention_class: class.to_owned(),
        duration_days: days,
        basis: "SOX-404".to_owned(),
        jurisdiction: "*".to_owned(),
    });
    rules.collect()
}

impl Realm {
    fn holds_in_force(&self) -> Vec<Hold> {
        let holds = self.holds.iter().filter(|one| one.release.is_none());
        holds.cloned().collect()
    }
}

impl Turn<'_> {
    pub(super) fn take_hold(&mut self, act: &HoldAct) -> Done {
        match act {
            HoldAct::Place(class) => self.place_hold(*class),
            HoldAct::Release(nth) => self.release_hold(*nth),
            HoldAct::Keep(days) => self.keep(*days),
        }
    }

    /// Nothing of the tenant is held.
    pub(super) fn require_none_held(&self) -> Done {
        match self.realm.holds_in_force().is_empty() {
            true => Ok(()),
            false => Err(HoldRefusal::InForce(String::new()).into()),
        }
    }

    fn place_hold(&mut self, class: Option<&str>) -> Done {
        self.require_customer_human()?;
        let classes: Vec<String> = class.map(str::to_owned).into_iter().collect();
        let (basis, reason_code) = ("FRCP-37E".to_owned(), "litigation".to_owned());
        let classes = check_new(&classes, &basis, &reason_code).map_err(Refusal::from)?;
        self.realm.holds.push(Hold {
            id: HoldId::stored(self.realm.holds.len().to_string()),
            retention_classes: classes,
            basis,
            reason_code,
            placed_by: self.caller.id.clone(),
            placed_at_ms: self.now_ms,
            record_hash: [0; 32],
            release: None,
        });
        Ok(())
    }

    fn release_hold(&mut self, nth: usize) -> Done {
        self.require_customer_human()?;
        let at = place(self.realm.holds.len(), nth).ok_or_else(not_found)?;
        let hold = &self.realm.holds[at];
        if hold.release.is_some() {
            return Err(HoldRefusal::Released.into());
        }
        let placed_by = self.realm.person(&hold.placed_by);
        if !placed_by.is_some_and(|placed_by| may_release(placed_by, &self.caller)) {
            return Err(HoldRefusal::SecondHuman.into());
        }
        self.realm.holds[at].release = Some(Release {
            by: self.caller.id.clone(),
            at_ms: self.now_ms,
            reason_code: "settled".to_owned(),
        });
        Ok(())
    }

    fn keep(&mut self, days: Days) -> Done {
        self.require_customer()?;
        let rules = rules(days);
        check_rules(&rules).map_err(Refusal::from)?;
        if let Some(class) = shortened(&self.realm.holds_in_force(), &self.realm.kept, &rules) {
            return Err(HoldRefusal::InForce(class.to_owned()).into());
        }
        self.realm.kept = rules;
        Ok(())
    }
}
