//! AI agents and plans while time goes on: logs that are older than mandates, mandates that have not begun, plans that are closed and
//! carried on, and agents that lose their mandate while what they started runs.

use counterfoil_evidence::DESCRIPTOR_SET;
use counterfoil_verify::testing::BundleFiles;
use counterfoil_verify::{Status, Verdict, report};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use sha2::{Digest as _, Sha256};

use crate::agents::{golden, is_grant, suspended, terms};
use crate::agents_at_the_edge::{first, is_good, is_seen, told};
use crate::prelude::*;
use crate::support::agents::{PLANNER, STARTER, STOPPED, mandate_of};

#[test]
fn i65_a_mandate_that_is_let_go_on_before_it_begins_has_not_begun() {
    let golden = golden();
    let story = |resumes: bool| {
        move |scene: &mut Scene<'_>| {
            terms(scene, PLANNER, |terms| {
                terms.valid_from_ms = terms.valid_to_ms - 10 * DAY_MS;
            });
            if !is_grant(scene, PLANNER) || !resumes {
                return Edit::Keep;
            }
            let now_ms = scene.record.occurred_at_ms;
            let resumed = v1::AgentResumed {
                mandate: mandate_of(PLANNER),
                agent: PLANNER.to_owned(),
                effective_ms: now_ms,
            };
            let payloads = [suspended(PLANNER, now_ms), Payload::AgentResumed(resumed)];
            let more = payloads.map(|payload| (scene.record.clone(), payload));
            Edit::Follow(more.into_iter().collect())
        }
    };
    is_seen(&golden, "I-65", "not begun", story(false));
    is_seen(&golden, "I-65", "let go on", story(true));
}

/// The schema as it was before there were mandates and starts.
fn old_schema() -> Vec<u8> {
    let mut set = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
    for file in &mut set.file {
        file.message_type.retain(|one| {
            let name = one.name();
            !name.starts_with("Agent") && name != "RemediationStarted"
        });
    }
    set.encode_to_vec()
}

/// The log as old services wrote it, until the new ones come after a record of which `come` says so.
fn old_log(
    files: &BundleFiles,
    come: impl Fn(&Payload) -> bool,
) -> impl FnMut(&mut Scene<'_>) -> Edit {
    let old = old_schema();
    let hash = Sha256::digest(&old).to_vec();
    let name = hex::encode(&hash);
    files.write(&format!("schemas/{name}.binpb"), &old).unwrap();
    let mut new = None;
    let mut came = false;
    move |scene| {
        if came {
            return Edit::Keep;
        }
        if let Payload::SchemaRegistered(p) = &mut *scene.payload {
            let mut record = scene.record.clone();
            record.accountability = None;
            new = Some((record, Payload::SchemaRegistered(p.clone())));
            p.schema_hash.clone_from(&hash);
            p.size_bytes = old.len() as u64;
            for blob in &mut scene.record.blob {
                blob.sha256.clone_from(&hash);
                blob.size = old.len() as u64;
            }
        }
        scene.record.schema_hash.clone_from(&hash);
        if come(scene.payload) {
            came = true;
            let (mut record, payload) = new.take().unwrap();
            record.occurred_at_ms = scene.record.occurred_at_ms;
            return Edit::Follow(vec![(record, payload)]);
        }
        match &*scene.payload {
            Payload::AgentMandateProposed(_)
            | Payload::AgentMandateGranted(_)
            | Payload::AgentMandateCertified(_)
            | Payload::AgentSuspended(_)
            | Payload::AgentResumed(_)
            | Payload::AgentRevoked(_)
            | Payload::RemediationStarted(_) => Edit::Drop,
            _ => Edit::Keep,
        }
    }
}

#[test]
fn what_was_done_before_there_were_mandates_and_starts_needs_none() {
    let golden = golden();
    for (name, from_the_middle) in [("never", false), ("from the middle", true)] {
        let (root, files) = golden.copy(name);
        let come = |payload: &Payload| {
            from_the_middle && matches!(payload, Payload::SourceRegistered(p) if p.source == HR)
        };
        let mut story = old_log(&files, come);
        let forger = Forger::new(&files, &golden.keys);
        forger.rewrite(|scene| Ok(story(scene))).unwrap();
        let found = golden.verify(&root);
        let text = report::text(&found);
        let failed: Vec<_> = found.failed().map(|check| check.id).collect();
        if from_the_middle {
            // The new services write starts; the agents among them have no mandate.
            assert!(failed.contains(&"I-65"), "{text}");
            assert!(!failed.contains(&"I-05"), "{text}");
            continue;
        }
        assert_eq!(failed, Vec::<&str>::new(), "{text}");
        assert_eq!(found.verdict, Verdict::Incomplete, "{text}");
        for id in ["I-65", "I-67"] {
            let check = found.checks.iter().find(|check| check.is(id)).unwrap();
            assert_eq!(check.status, Status::Skip, "{text}");
        }
        assert!(text.contains("from before the log knew mandates"), "{text}");
        assert!(text.contains("before the log knew who starts"), "{text}");
    }
}

#[test]
fn i67_a_plan_that_nobody_started_under_new_services_is_seen_in_an_old_log() {
    let golden = golden();
    let (root, files) = golden.copy("unstarted");
    let come =
        |payload: &Payload| matches!(payload, Payload::SourceRegistered(p) if p.source == HR);
    let mut story = old_log(&files, come);
    let forger = Forger::new(&files, &golden.keys);
    let forged = forger.rewrite(|scene| match story(scene) {
        Edit::Keep if matches!(&*scene.payload, Payload::RemediationStarted(_)) => Ok(Edit::Drop),
        edit => Ok(edit),
    });
    forged.unwrap();
    let found = golden.verify(&root);
    let caught = found.failed().any(|check| check.is("I-67"));
    assert!(caught, "{}", report::text(&found));
}

#[test]
fn i69_a_token_that_is_issued_before_the_first_mandate_is_good() {
    let mut kept = None;
    is_good(&golden(), "token first", |scene| match &*scene.payload {
        Payload::AgentMandateGranted(p) if p.mandate == mandate_of(STOPPED) => {
            kept = Some((scene.record.clone(), scene.payload.clone()));
            Edit::Drop
        }
        Payload::CredentialIssued(p) if p.credential == "agent-1" => {
            Edit::Follow(kept.take().into_iter().collect())
        }
        _ => Edit::Keep,
    });
}

#[test]
fn i69_a_token_that_was_revoked_in_the_same_millisecond_was_not_left_in_force() {
    let mut kept = None;
    is_good(&golden(), "same", |scene| match &mut *scene.payload {
        Payload::AgentRevoked(p) => {
            p.credentials.clear();
            kept = Some((scene.record.clone(), scene.payload.clone()));
            Edit::Drop
        }
        Payload::CredentialRevoked(p) if p.credential == "agent-1" => {
            Edit::Follow(kept.take().into_iter().collect())
        }
        _ => Edit::Keep,
    });
}

#[test]
fn i67_a_plan_that_was_closed_and_goes_on_without_a_start_is_seen() {
    let golden = golden();
    let closed = |again: bool| {
        move |scene: &mut Scene<'_>| {
            let Payload::RemediationStarted(p) = &*scene.payload else {
                return Edit::Keep;
            };
            let closed = v1::RemediationClosed {
                remediation: p.remediation.clone(),
                ..v1::RemediationClosed::default()
            };
            let mut more = vec![(scene.record.clone(), Payload::RemediationClosed(closed))];
            if again {
                more.push((scene.record.clone(), scene.payload.clone()));
            }
            Edit::Follow(more)
        }
    };
    is_seen(&golden, "I-67", "closed", closed(false));
    let found = told(&golden, "started again", closed(true));
    let caught = found.failed().any(|check| check.is("I-67"));
    assert!(!caught, "{}", report::text(&found));
}

#[test]
fn i69_what_an_agent_started_goes_on_without_it_only_once_somebody_took_it_over() {
    let golden = golden();
    let files = BundleFiles::new(&golden.dir.path().join("golden"));
    let started_ms = first(&files, |record, payload| {
        let started = matches!(payload, Payload::RemediationStarted(_));
        (started && record.actor == STARTER).then_some(record.occurred_at_ms)
    });
    // Five minutes before the start, it may not have counted for that; for what follows it did.
    let stop_ms = started_ms - 300_000;
    let story = |taken_over: bool| {
        move |scene: &mut Scene<'_>| match &*scene.payload {
            Payload::SourceRegistered(p) if p.source == HR => {
                let mut record = scene.record.clone();
                record.stream = "authority".to_owned();
                record.actor = BOB.to_owned();
                record.occurred_at_ms = stop_ms;
                Edit::Follow(vec![(record, suspended(STARTER, stop_ms))])
            }
            Payload::RemediationStarted(_) if taken_over && scene.record.actor == STARTER => {
                let mut record = scene.record.clone();
                record.actor = BOB.to_owned();
                Edit::Follow(vec![(record, scene.payload.clone())])
            }
            _ => Edit::Keep,
        }
    };
    is_seen(&golden, "I-69", "nobody", story(false));
    let found = told(&golden, "somebody", story(true));
    let caught = found.failed().any(|check| check.is("I-69"));
    assert!(!caught, "{}", report::text(&found));
}
