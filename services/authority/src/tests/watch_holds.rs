//! What must never happen to what is held.

use super::{
    command::PEOPLE,
    command_holds::{AT_FIRST, CLASSES, Days, HoldAct},
    watch::{Known, ensure, is_another, is_human, of_customer},
    world::place,
};
use crate::model::tenant::TenantState;

/// A hold that somebody placed.
#[derive(Debug, Clone)]
struct Held {
    by: usize,
    class: Option<&'static str>,
    released: bool,
}

/// What is known of holds, and of how long anything is kept.
#[derive(Debug, Clone)]
pub(super) struct Holds {
    held: Vec<Held>,
    kept: Days,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            kept: AT_FIRST,
        }
    }
}

/// Where something about holds may be asked.
pub(super) const fn states_for(act: &HoldAct) -> &'static [TenantState] {
    use TenantState::{Active, Exiting, Suspended};
    match act {
        HoldAct::Place(_) | HoldAct::Release(_) => &[Active, Suspended, Exiting],
        HoldAct::Keep(_) => &[Active],
    }
}

impl Known {
    pub(super) fn note_hold(&mut self, who: usize, act: &HoldAct) -> Result<(), String> {
        let own = of_customer(who);
        ensure(own, "it was not the customer who said what is kept")?;
        match act {
            HoldAct::Place(class) => {
                ensure(is_human(who), "a machine placed a hold")?;
                self.holds.held.push(Held {
                    by: who,
                    class: *class,
                    released: false,
                });
            }
            HoldAct::Release(nth) => {
                let at = place(self.holds.held.len(), *nth).ok_or("nothing was released")?;
                let one = &mut self.holds.held[at];
                ensure(!one.released, "a hold was released twice")?;
                ensure(is_human(who), "a machine released a hold")?;
                ensure(
                    is_another(who, one.by),
                    &format!("{} released their own hold", PEOPLE[who].id),
                )?;
                one.released = true;
            }
            HoldAct::Keep(days) => {
                for (nth, class) in CLASSES.iter().enumerate() {
                    let held = self
                        .in_force()
                        .any(|one| one.is_none_or(|one| one == *class));
                    ensure(
                        !held || days.0[nth] >= self.holds.kept.0[nth],
                        "what is held is kept for less time",
                    )?;
                }
                self.holds.kept = *days;
            }
        }
        Ok(())
    }

    fn in_force(&self) -> impl Iterator<Item = Option<&'static str>> {
        let held = self.holds.held.iter().filter(|one| !one.released);
        held.map(|one| one.class)
    }

    /// Nothing is held.
    pub(super) fn lets_go(&self) -> Result<(), String> {
        let held = self.in_force().next();
        ensure(held.is_none(), "a tenant was closed under a hold")
    }
}
