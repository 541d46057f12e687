//! Clocks, schemas, epochs and obligations, forged.

use crate::prelude::*;

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-04",
        "a fact from the future",
        on!(SourceRegistered, |r, _p| r.occurred_at_ms += 600_000),
    ),
    (
        "I-04",
        "a fact that was kept back for months",
        on!(SourceRegistered, |r, _p| r.occurred_at_ms -= 60 * DAY_MS),
    ),
    (
        "I-05",
        "an unregistered schema",
        drop_if!(SchemaRegistered, |_p| true),
    ),
    (
        "I-07",
        "an epoch is left out",
        drop_if!(EpochSealed, |p| p.epoch == 2),
    ),
    (
        "I-07",
        "an epoch is numbered otherwise",
        on!(EpochSealed, |_r, p| p.epoch += 1),
    ),
    (
        "I-07",
        "an epoch counts less",
        on!(EpochSealed, |_r, p| p.type_counts[0].count += 1),
    ),
    (
        "I-07",
        "a stream is marked elsewhere",
        on!(EpochSealed, |_r, p| p.streams[0].last_seq += 1),
    ),
    (
        "I-07",
        "an epoch leaves entries out",
        on!(EpochSealed, |_r, p| p.from_index += 1),
    ),
    (
        "I-08",
        "an open obligation is not listed",
        on!(EpochSealed, |_r, p| p.open_obligations_count += 1),
    ),
    (
        "I-08",
        "the list has another root",
        on!(EpochSealed, |_r, p| p.open_obligations_root = vec![7; 32]),
    ),
    (
        "I-08",
        "an obligation is discharged twice",
        |scene| match &*scene.payload {
            Payload::ObligationDischarged(p) => {
                followed_by(scene, Payload::ObligationDischarged(p.clone()))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-08",
        "what was never owed is discharged",
        on!(ObligationDischarged, |_r, p| p.obligation[0] ^= 1),
    ),
    (
        "I-08",
        "something else is overdue",
        on!(ObligationOpened, |_r, p| {
            p.kind = "verify_removal".to_owned();
            p.due_ms -= 8 * DAY_MS;
        }),
    ),
    (
        "I-83",
        "a round of hashing is left out",
        drop_if!(LogScrubbed, |p| p.round == 1),
    ),
    (
        "I-83",
        "a round is of another log",
        on!(LogScrubbed, |_r, p| p.root[0] ^= 1),
    ),
    (
        "I-83",
        "a round leaves entries out",
        on!(LogScrubbed, |_r, p| p.from_size += 1),
    ),
    (
        "I-83",
        "a round rebuilt more tiles than there are",
        on!(LogScrubbed, |_r, p| p.tiles += 1),
    ),
    (
        "I-83",
        "a round began before what it hashed was there",
        on!(LogScrubbed, |_r, p| p.started_ms -= 600_000),
    ),
    (
        "I-83",
        "a round ended after it was stated",
        on!(LogScrubbed, |_r, p| p.ended_ms += 600_000),
    ),
    (
        "W2",
        "the last seal leaves an entry out",
        |scene| match &*scene.payload {
            Payload::EpochSealed(p) if p.epoch > 2 => followed_by(
                scene,
                Payload::EpochSealed(v1::EpochSealed {
                    epoch: 9,
                    ..p.clone()
                }),
            ),
            _ => Edit::Keep,
        },
    ),
];

#[test]
fn forged_clocks_schemas_epochs_and_obligations_are_seen() {
    all_fail(FORGERIES);
}
