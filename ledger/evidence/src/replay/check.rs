//! The checks of the replay: their stable ids, and what was found under each.

use std::fmt::Display;

/// At most this many violations are told in words; all are counted.
const TOLD_MAX: usize = 12;

/// A check's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckInfo {
    /// Stable id, such as "I-28".
    pub id: &'static str,
    /// Other ids under which it is known, such as "G2".
    pub aliases: &'static [&'static str],
    /// What holds when it passes.
    pub title: &'static str,
}

macro_rules! checks {
    ($($name:ident $id:literal $aliases:expr, $title:literal;)*) => {
        /// A check of the replay.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Check { $($name,)* }

        /// All checks of the replay, in the order in which they are reported.
        pub const CHECKS: &[CheckInfo] = &[
            $(CheckInfo { id: $id, aliases: &$aliases, title: $title },)*
        ];
    };
}

checks! {
    I04 "I-04" [], "no fact is dated later than its integration, beyond clock skew, or integrated too long after it happened";
    I05 "I-05" [], "every record has a known type and a registered schema, and no hidden field";
    I07 "I-07" [], "every epoch is sealed once; its counts and stream marks recompute";
    I08 "I-08" [], "every obligation is discharged, breached or listed as open; the list recomputes";
    I11 "I-11" [], "every outcome names an accountable human of the customer organisation";
    I12 "I-12" [], "every business unit that is set has a human owner of the customer, and another for deputy while the tenant is active";
    I13 "I-13" [], "every decision is of a known principal who may, and cites a right that was valid and covered it, granted by a human of the customer";
    I14 "I-14" [], "every activity has one who carries it out and one human of the customer who owns its risk; no provider works while nobody answers";
    I16 "I-16" [], "every delegation lies within what its delegator holds, is bounded in time and chain, and decisions under it name both";
    I17 "I-17" [], "the tenant moves as its life allows, the activation cites what it rests on, and nothing is governed outside of it";
    I18 "I-18" ["G15"], "every policy cited was published before, its hash matches its rules, and decisions heed the newest";
    I19 "I-19" ["G17"], "every COMPLETE sync adds up to its set and to the source's own totals";
    I20 "I-20" [], "every snapshot accounts for every source as it was last read, and no campaign was staged on stale data";
    I25 "I-25" ["G8", "G9"], "every acceptance is justified in words, evidenced and bounded in time; exceptions also owned and based";
    I26 "I-26" ["G4", "G5"], "every decider had the item, and was known and never its subject";
    I27 "I-27" ["G1", "G16"], "the population is the snapshot minus what the scope excludes; decisions are on what was shown, and what was shown is what inventory had";
    I28 "I-28" ["G2", "G3"], "at close every item of the population has exactly one end, and the counts recompute";
    G10 "G10" ["I-31"], "no decision was added or changed after its stage or campaign was closed";
    I32 "I-32" [], "a campaign is CLOSED only with every removal verified; otherwise its debt recomputes";
    I33 "I-33" ["G11"], "nothing was closed without a verified effect at the required level";
    I34 "I-34" ["G11"], "every removal is proved against a sealed set that was read after the action ended";
    I36 "I-36" [], "who decided, who carried out and who verified are different principals";
    I37 "I-37" ["G12"], "removals were read again as the policy says; all stayed, or the case was reopened";
    I38 "I-38" [], "no say-so counts for more than it is";
    I39 "I-39" [], "every action was planned once, on a decision to remove that still stood, and on record before it started";
    I40 "I-40" [], "every attempt is unique, has one result, and is never repeated blindly";
    I45 "I-45" [], "every access of a provider's people is under a live engagement, by somebody assigned, with good evidence of every topic";
    I46 "I-46" [], "the tier that the customer gave reaches the sensitivity of what was touched";
    I47 "I-47" [], "no access after an attestation or a reassessment lapsed";
    I49 "I-49" [], "every subcontractor was approved by the customer, and is never wider than its provider";
    I51 "I-51" [], "a pilot is short, and the customer keeps secrets, approvals and logging";
    I53 "I-53" [], "whatever a provider's people did, they had come in on record";
    I43 "I-43" [], "every access in an emergency is of two humans, at most four hours, and reviewed by a third in time or missed on record";
    I58 "I-58" [], "authorised set, situations and findings recompute from decisions and snapshot";
    I59 "I-59" [], "no plan above the policy's threshold was carried out before a human resolved it";
    I65 "I-65" [], "every AI agent that did something had a mandate in force, put forward by one human, granted by another of the customer, with an owner, certified in time";
    I66 "I-66" [], "whatever an AI agent decided or started is within its mandate: level, action, place, rate and volume";
    I67 "I-67" [], "every plan that was carried out was started on record, and an AI agent's only after a human let it where its mandate wants one";
    I68 "I-68" [], "no AI agent did what is for humans: it grants, approves, resolves and reviews nothing, and certifies no mandate";
    I69 "I-69" [], "no AI agent did anything once it was stopped, and nothing went on that it had started; with the mandate that was taken back its credentials were revoked";
    I70 "I-70" [], "no legal hold was released by the human who placed it, and nothing that one covers was let go meanwhile";
    I81 "I-81" [], "nobody but the customer gave anybody the means to act as the customer, once the tenant was governed";
    I82 "I-82" [], "what the policy reserves for two people was proposed by one human and approved by another";
    I83 "I-83" [], "every round of hashing the log again that is stated is numbered, and is of the log as it was";
    G13 "G13" [], "reported remediation times are the differences of recorded times";
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds for everything there is.
    Pass,
    /// It does not hold for something.
    Fail,
    /// It could not be judged for something, and was not violated by the rest.
    Skip,
}

/// A judged check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Which check.
    pub check: CheckInfo,
    /// How it ended.
    pub verdict: Verdict,
    /// What was checked, or what is wrong, in words.
    pub detail: String,
}

/// What was found under one check.
#[derive(Debug, Clone, Default)]
struct Tally {
    checked: u64,
    failed: u64,
    skipped: u64,
    told: Vec<String>,
    skip_reasons: Vec<String>,
}

/// What was found under all checks.
#[derive(Debug)]
pub(super) struct Tallies(Vec<Tally>);

impl Default for Tallies {
    fn default() -> Self {
        Self(vec![Tally::default(); CHECKS.len()])
    }
}

impl Tallies {
    fn tally(&mut self, check: Check) -> Option<&mut Tally> {
        self.0.get_mut(check as usize)
    }

    /// Notes that something was looked at.
    pub(super) fn checked(&mut self, check: Check) {
        if let Some(tally) = self.tally(check) {
            tally.checked += 1;
        }
    }

    /// Notes a violation.
    pub(super) fn fail(&mut self, check: Check, what: impl Display) {
        if let Some(tally) = self.tally(check) {
            tally.failed += 1;
            if tally.told.len() < TOLD_MAX {
                tally.told.push(what.to_string());
            }
        }
    }

    /// Notes a violation unless `holds`, and in any case that something was looked at.
    pub(super) fn expect<D: Display>(
        &mut self,
        check: Check,
        holds: bool,
        what: impl FnOnce() -> D,
    ) -> bool {
        if !holds {
            self.fail(check, what());
        }
        holds
    }

    /// Notes that something could not be judged.
    pub(super) fn skip(&mut self, check: Check, why: impl Display) {
        if let Some(tally) = self.tally(check) {
            tally.skipped += 1;
            let why = why.to_string();
            if tally.skip_reasons.len() < TOLD_MAX && !tally.skip_reasons.contains(&why) {
                tally.skip_reasons.push(why);
            }
        }
    }

    pub(super) fn into_judgements(self) -> Vec<Judgement> {
        CHECKS
            .iter()
            .zip(self.0)
            .map(|(check, tally)| Judgement {
                check: *check,
                verdict: tally.verdict(),
                detail: tally.detail(),
            })
            .collect()
    }
}

impl Tally {
    fn verdict(&self) -> Verdict {
        if self.failed > 0 {
            Verdict::Fail
        } else if self.skipped > 0 {
            Verdict::Skip
        } else {
            Verdict::Pass
        }
    }

    fn detail(&self) -> String {
        let told = |parts: &[String], count: u64| {
            let more = count.saturating_sub(parts.len() as u64);
            let mut text = parts.join("; ");
            if more > 0 {
                text.push_str(&format!("; and {more} more"));
            }
            text
        };
        match self.verdict() {
            Verdict::Fail => told(&self.told, self.failed),
            Verdict::Skip => told(&self.skip_reasons, self.skip_reasons.len() as u64),
            Verdict::Pass if self.checked == 0 => "the log has nothing of this kind".to_owned(),
            Verdict::Pass => format!("{} checked", self.checked),
        }
    }
}
