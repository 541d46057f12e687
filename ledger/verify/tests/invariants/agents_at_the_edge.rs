//! AI agents at the edges of their mandates: what clocks cannot tell apart is good, and what is beyond is seen.

use counterfoil_evidence::catalogue::decode_payload;
use counterfoil_evidence::v1::AgentMandateTerms;
use counterfoil_verify::testing::BundleFiles;
use counterfoil_verify::{Status, Verdict, Verification, report};
use prost::Message as _;

use crate::agents::{a_year, golden, is_grant, suspended, terms};
use crate::prelude::*;
use crate::support::agents::{DECIDER, PLANNER, STARTER, WATCHER, mandate_of};

/// The first of what records of the log say.
pub(crate) fn first<T>(
    files: &BundleFiles,
    pick: impl Fn(&v1::Record, &Payload) -> Option<T>,
) -> T {
    let entries = files.entries().unwrap();
    let mut found = entries.iter().filter_map(|bytes| {
        let entry = v1::Entry::decode(bytes.as_slice()).unwrap();
        let record = v1::Record::decode(entry.record.as_slice()).unwrap();
        let payload = decode_payload(&record.r#type, &record.payload)?.unwrap();
        pick(&record, &payload)
    });
    found.next().unwrap()
}

/// When the plan of humans' and agents' was put forward, and how many removals it has.
fn planned(golden: &Golden) -> (i64, u32) {
    let files = BundleFiles::new(&golden.dir.path().join("golden"));
    first(&files, |record, payload| match payload {
        Payload::RemediationPlanned(p) => {
            let count = u32::try_from(p.actions_count).unwrap();
            Some((record.occurred_at_ms, count))
        }
        _ => None,
    })
}

/// The log as a story changes it: whether nothing is wrong with it, and whether a check with this id fails.
pub(crate) fn told(
    golden: &Golden,
    name: &str,
    mut story: impl FnMut(&mut Scene<'_>) -> Edit,
) -> Verification {
    let (root, files) = golden.copy(name);
    let forger = Forger::new(&files, &golden.keys);
    forger.rewrite(|scene| Ok(story(scene))).unwrap();
    golden.verify(&root)
}

pub(crate) fn is_good(golden: &Golden, name: &str, story: impl FnMut(&mut Scene<'_>) -> Edit) {
    let found = told(golden, name, story);
    let text = report::text(&found);
    assert_eq!(found.verdict, Verdict::Ok, "{name}: {text}");
}

pub(crate) fn is_seen(
    golden: &Golden,
    id: &str,
    name: &str,
    story: impl FnMut(&mut Scene<'_>) -> Edit,
) {
    let found = told(golden, name, story);
    let caught = found.failed().any(|check| check.is(id));
    assert!(caught, "{name}: {}", report::text(&found));
}

#[test]
fn agents_exactly_at_their_limits_are_good() {
    let golden = golden();
    let (_, removals) = planned(&golden);
    is_good(&golden, "removals", |scene| {
        for agent in [PLANNER, STARTER] {
            terms(scene, agent, |terms| {
                terms.acts_per_hour_max = 1;
                terms.removals_per_day_max = removals;
                terms.removals_max = removals;
            });
        }
        Edit::Keep
    });
    for less in [true, false] {
        is_seen(&golden, "I-66", &format!("less {less}"), |scene| {
            terms(scene, PLANNER, |terms| match less {
                true => terms.removals_per_day_max = removals - 1,
                false => terms.removals_max = removals - 1,
            })
        });
    }
    is_good(&golden, "terms", |scene| {
        terms(scene, WATCHER, |terms| {
            terms.valid_to_ms = a_year(terms);
            terms.review_interval_ms = 90 * DAY_MS;
        });
        terms(scene, PLANNER, |terms| {
            terms.scope = vec![HR.to_owned(), LDAP.to_owned()];
            terms.environments = vec!["default".to_owned()];
        })
    });
    // As it was put forward: it begins when it is granted all the same.
    is_good(&golden, "begins", |scene| {
        if let Payload::AgentMandateGranted(p) = &mut *scene.payload {
            p.terms.get_or_insert_default().valid_from_ms -= 10;
        }
        Edit::Keep
    });
}

#[test]
fn i69_a_stop_counts_five_minutes_later_at_the_latest() {
    let golden = golden();
    let (planned_ms, _) = planned(&golden);
    // Told when the sources are: shortly before the plan.
    let stop = |effective_ms: i64| {
        move |scene: &mut Scene<'_>| match &*scene.payload {
            Payload::SourceRegistered(p) if p.source == HR => {
                let mut record = scene.record.clone();
                record.stream = "authority".to_owned();
                record.actor = BOB.to_owned();
                record.occurred_at_ms = effective_ms;
                Edit::Follow(vec![(record, suspended(PLANNER, effective_ms))])
            }
            _ => Edit::Keep,
        }
    };
    is_good(&golden, "at the limit", stop(planned_ms - 300_000));
    is_seen(&golden, "I-69", "later", stop(planned_ms - 300_001));
}

#[test]
fn i65_an_end_by_the_clock_counts_five_minutes_later_at_the_latest() {
    let golden = golden();
    let (planned_ms, _) = planned(&golden);
    let over = |valid_to_ms: i64| {
        move |scene: &mut Scene<'_>| terms(scene, PLANNER, |terms| terms.valid_to_ms = valid_to_ms)
    };
    is_good(&golden, "at the limit", over(planned_ms - 300_000));
    is_seen(&golden, "I-65", "later", over(planned_ms - 300_001));
}

#[test]
fn i65_a_certificate_that_is_due_counts_five_minutes_later_at_the_latest() {
    let golden = golden();
    let (planned_ms, _) = planned(&golden);
    let files = BundleFiles::new(&golden.dir.path().join("golden"));
    let granted_ms = first(&files, |record, payload| match payload {
        Payload::AgentMandateGranted(p) if p.mandate == mandate_of(PLANNER) => {
            Some(record.occurred_at_ms)
        }
        _ => None,
    });
    let due = |due_ms: i64| {
        move |scene: &mut Scene<'_>| {
            terms(scene, PLANNER, |terms| {
                terms.review_interval_ms = due_ms - granted_ms
            })
        }
    };
    is_good(&golden, "at the limit", due(planned_ms - 300_000));
    is_seen(&golden, "I-65", "later", due(planned_ms - 300_001));
}

/// An agent is stopped the day before, and let go on when the sources come: told then, or after the first record of which `told` says
/// so.
fn resumed(told: impl Fn(&Payload) -> bool) -> impl FnMut(&mut Scene<'_>) -> Edit {
    let mut resumed_ms = 0;
    move |scene| {
        if is_grant(scene, PLANNER) {
            let now_ms = scene.record.occurred_at_ms;
            return followed_by(scene, suspended(PLANNER, now_ms));
        }
        if matches!(&*scene.payload, Payload::SourceRegistered(p) if p.source == HR) {
            resumed_ms = scene.record.occurred_at_ms;
        }
        if resumed_ms == 0 || !told(scene.payload) {
            return Edit::Keep;
        }
        let resumed = v1::AgentResumed {
            mandate: mandate_of(PLANNER),
            agent: PLANNER.to_owned(),
            effective_ms: resumed_ms,
        };
        let mut record = scene.record.clone();
        record.stream = "authority".to_owned();
        record.actor = BOB.to_owned();
        record.occurred_at_ms = std::mem::take(&mut resumed_ms);
        record.accountability = None;
        Edit::Follow(vec![(record, Payload::AgentResumed(resumed))])
    }
}

#[test]
fn i69_a_resumption_that_is_told_after_the_fact_is_seen() {
    let golden = golden();
    let in_time = resumed(|payload| matches!(payload, Payload::SourceRegistered(_)));
    is_good(&golden, "in time", in_time);
    let late = resumed(|payload| matches!(payload, Payload::ActionIntended(_)));
    is_seen(&golden, "I-69", "late", late);
}

/// Takes the grant of an agent's mandate out, and tells it after the first record of which `then` says so, as of its old time.
fn granted_later(
    agent: &'static str,
    then: impl Fn(&Payload) -> bool,
) -> impl FnMut(&mut Scene<'_>) -> Edit {
    let mut kept = None;
    move |scene| {
        if is_grant(scene, agent) {
            kept = Some((scene.record.clone(), scene.payload.clone()));
            return Edit::Drop;
        }
        match then(scene.payload) {
            true => Edit::Follow(kept.take().into_iter().collect()),
            false => Edit::Keep,
        }
    }
}

#[test]
fn i65_a_mandate_that_is_granted_after_the_fact_is_seen() {
    let golden = golden();
    // What is carried out, is so an hour after it was planned.
    let late = granted_later(PLANNER, |payload| {
        matches!(payload, Payload::ActionIntended(_))
    });
    is_seen(&golden, "I-65", "late", late);
    let in_time = granted_later(PLANNER, |payload| {
        matches!(payload, Payload::ThresholdResolved(_))
    });
    is_good(&golden, "in time", in_time);
}

#[test]
fn i69_a_plan_that_is_told_long_after_its_agent_was_stopped_is_seen() {
    let golden = golden();
    for (name, stops) in [("stopped", true), ("not stopped", false)] {
        let mut later = false;
        let story = |scene: &mut Scene<'_>| {
            if later {
                *scene.recorded_at_ms += DAY_MS;
            }
            let Payload::ReconRunSealed(_) = &*scene.payload else {
                return Edit::Keep;
            };
            later = true;
            let now_ms = scene.record.occurred_at_ms;
            let mut record = scene.record.clone();
            record.stream = "authority".to_owned();
            record.actor = BOB.to_owned();
            record.blob.clear();
            match stops {
                true => Edit::Follow(vec![(record, suspended(PLANNER, now_ms))]),
                false => Edit::Keep,
            }
        };
        let found = told(&golden, name, story);
        let caught = found.failed().any(|check| check.is("I-69"));
        assert_eq!(caught, stops, "{name}: {}", report::text(&found));
    }
}

#[test]
fn i66_two_mandates_do_not_double_the_limits_of_an_hour() {
    let golden = golden();
    let another = |limits: [u32; 2]| {
        let mut kept = Vec::new();
        move |scene: &mut Scene<'_>| {
            terms(scene, DECIDER, |terms| terms.acts_per_hour_max = limits[0]);
            let of = |terms: &Option<AgentMandateTerms>| {
                terms.as_ref().is_some_and(|terms| terms.agent == DECIDER)
            };
            match &*scene.payload {
                Payload::AgentMandateProposed(p) if of(&p.terms) => {
                    let mut terms = p.terms.clone().unwrap();
                    terms.acts_per_hour_max = limits[1];
                    let again = v1::AgentMandateProposed {
                        mandate: "another".to_owned(),
                        terms: Some(terms),
                    };
                    let proposal = Payload::AgentMandateProposed(again.clone());
                    kept = vec![again];
                    Edit::Follow(vec![(scene.record.clone(), proposal)])
                }
                // Comes right after it, and cites it as the one before it on the stream.
                Payload::AgentMandateGranted(p) if of(&p.terms) => Edit::Keep,
                Payload::CampaignStaged(_) => {
                    let again = kept.pop().unwrap();
                    let now_ms = scene.record.occurred_at_ms;
                    let mut terms = again.terms.unwrap();
                    terms.valid_from_ms = now_ms;
                    let granted = v1::AgentMandateGranted {
                        mandate: again.mandate,
                        proposal_record_hash: vec![7; 32],
                        terms: Some(terms),
                    };
                    let mut record = scene.record.clone();
                    record.stream = "authority".to_owned();
                    record.actor = BOB.to_owned();
                    record.blob.clear();
                    record.accountability = None;
                    Edit::Follow(vec![(record, Payload::AgentMandateGranted(granted))])
                }
                _ => Edit::Keep,
            }
        }
    };
    is_seen(&golden, "I-66", "two and two", another([2, 2]));
    let found = told(&golden, "three and three", another([3, 3]));
    let beyond = found.failed().any(|check| check.is("I-66"));
    assert!(!beyond, "{}", report::text(&found));
}

#[test]
fn i67_a_plan_that_is_started_once_it_has_been_carried_out_is_seen() {
    let golden = golden();
    for first in [true, false] {
        let mut kept = None;
        let story = |scene: &mut Scene<'_>| match &*scene.payload {
            Payload::RemediationStarted(_) if kept.is_none() => {
                kept = Some((scene.record.clone(), scene.payload.clone()));
                match first {
                    true => Edit::Drop,
                    false => followed_by(scene, scene.payload.clone()),
                }
            }
            Payload::ActionIntended(_) if first => Edit::Follow(kept.clone().into_iter().collect()),
            _ => Edit::Keep,
        };
        let found = told(&golden, &format!("first {first}"), story);
        let caught = found.failed().any(|check| check.is("I-67"));
        // Started again, it counts once: the agent is at its limit.
        let good = found.verdict == Verdict::Ok;
        assert_eq!((caught, good), (first, !first), "{}", report::text(&found));
    }
}

#[test]
fn what_cannot_be_read_is_not_judged() {
    let golden = golden();
    let (root, files) = golden.copy("without");
    let placed = |scene: &mut Scene<'_>| {
        terms(scene, PLANNER, |terms| {
            terms.scope = vec![HR.to_owned(), LDAP.to_owned()];
            terms.environments = vec!["default".to_owned()];
        })
    };
    let forger = Forger::new(&files, &golden.keys);
    forger.rewrite(|scene| Ok(placed(scene))).unwrap();
    let actions = first(&files, |record, _| {
        let blob = record.blob.iter();
        let mut blob = blob.filter(|blob| blob.media_type == media_type::ACTIONS);
        blob.next().map(|blob| hex::encode(&blob.sha256))
    });
    files.remove(&format!("blobs/sha256/{actions}")).unwrap();
    files.seal().unwrap();
    let found = golden.verify(&root);
    let text = report::text(&found);
    assert_eq!(found.verdict, Verdict::Incomplete, "{text}");
    let within = found.checks.iter().find(|check| check.is("I-66")).unwrap();
    assert_eq!(within.status, Status::Skip, "{text}");
}

#[test]
fn i69_whoever_is_a_human_may_stop_an_agent_and_the_customer_withdraws_what_was_put_forward() {
    let golden = golden();
    let by_provider = |scene: &mut Scene<'_>| {
        if matches!(&*scene.payload, Payload::AgentSuspended(_)) {
            scene.record.actor = PROVIDER.to_owned();
        }
        Edit::Keep
    };
    // That its people come in on record is another matter (I-53).
    let found = told(&golden, "stopped", by_provider);
    let failed: Vec<_> = found.failed().map(|check| check.id).collect();
    assert_eq!(failed, ["I-53"], "{}", report::text(&found));
    is_good(&golden, "withdrawn", |scene| match &*scene.payload {
        Payload::AgentMandateProposed(p) if p.mandate == mandate_of(PLANNER) => {
            let draft = v1::AgentMandateProposed {
                mandate: "draft".to_owned(),
                ..p.clone()
            };
            let withdrawn = v1::AgentRevoked {
                mandate: "draft".to_owned(),
                agent: PLANNER.to_owned(),
                effective_ms: scene.record.occurred_at_ms,
                reason_code: "retired".to_owned(),
                credentials: Vec::new(),
            };
            let payloads = [
                Payload::AgentMandateProposed(draft),
                Payload::AgentRevoked(withdrawn),
            ];
            let more = payloads.map(|payload| (scene.record.clone(), payload));
            Edit::Follow(more.into_iter().collect())
        }
        _ => Edit::Keep,
    });
}
