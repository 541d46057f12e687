//! What is decided on a grant over all campaigns: the newest decision or lapse that says something about it.

use counterfoil_evidence::leaf::{AuthorizedLeaf, AuthorizedStatus, GrantKey};

use super::{decision::Decision, disposition::Disposition, ids::Principal};

/// How one campaign ended on one grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecidedItem {
    /// The grant.
    pub(crate) key: GrantKey,
    /// Id of the campaign.
    pub(crate) campaign: String,
    /// How.
    pub(crate) disposition: Disposition,
    /// When, milliseconds.
    pub(crate) decide_ms: i64,
    /// Place of the deciding record in the service's stream: a total order.
    pub(crate) stream_seq: i64,
    /// SHA-256 of that record.
    pub(crate) record_hash: [u8; 32],
    /// Until when the access may be there, milliseconds; 0 when it must go.
    pub(crate) not_after_ms: i64,
    /// For REDUCE: the grant that stays.
    pub(crate) reduce_to: Option<GrantKey>,
    /// Who decided; `None` for a lapse.
    pub(crate) decided_by: Option<Principal>,
}

impl DecidedItem {
    /// The leaf of the authorised set; `None` when this says nothing about the grant: what was retained without a decision
    /// is not approved by it, and what was gone needs no approval.
    pub(crate) fn leaf(&self) -> Option<AuthorizedLeaf> {
        let status = match self.disposition {
            Disposition::Decided(Decision::Accept | Decision::Exception) => {
                AuthorizedStatus::Authorized
            }
            Disposition::Decided(Decision::Revoke | Decision::Reduce)
            | Disposition::LapsedRevoke => AuthorizedStatus::Revoked,
            Disposition::LapsedRetained | Disposition::Voided => return None,
        };
        let not_after_ms = match status {
            AuthorizedStatus::Authorized => u64::try_from(self.not_after_ms).unwrap_or(0),
            AuthorizedStatus::Revoked => 0,
        };
        Some(AuthorizedLeaf {
            key: self.key,
            status,
            not_after_ms,
            record_hash: self.record_hash,
        })
    }
}

/// Of decisions that come ascending by grant, keeps the newest on each.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    open: Option<DecidedItem>,
}

impl Newest {
    /// Takes the next decision; answers the newest on the grant before when that is complete.
    pub(crate) fn push(&mut self, next: DecidedItem) -> Option<DecidedItem> {
        next.leaf()?;
        match &mut self.open {
            Some(open) if open.key == next.key => {
                if next.stream_seq > open.stream_seq {
                    *open = next;
                }
                None
            }
            open => open.replace(next),
        }
    }

    /// The newest on the last grant.
    pub(crate) fn finish(self) -> Option<DecidedItem> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: u8, seq: i64, disposition: Disposition) -> DecidedItem {
        DecidedItem {
            key: GrantKey([key; 40]),
            campaign: "c".into(),
            disposition,
            decide_ms: 5,
            stream_seq: seq,
            record_hash: [9; 32],
            not_after_ms: 77,
            reduce_to: None,
            decided_by: None,
        }
    }

    fn newest(items: Vec<DecidedItem>) -> Vec<(u8, i64)> {
        let mut fold = Newest::default();
        let mut out: Vec<DecidedItem> = items
            .into_iter()
            .filter_map(|item| fold.push(item))
            .collect();
        out.extend(fold.finish());
        out.iter()
            .map(|one| (one.key.0[0], one.stream_seq))
            .collect()
    }

    const ACCEPT: Disposition = Disposition::Decided(Decision::Accept);
    const REVOKE: Disposition = Disposition::Decided(Decision::Revoke);

    #[test]
    fn the_newest_decision_on_each_grant_counts_whatever_order_campaigns_come_in() {
        let items = vec![
            item(1, 7, REVOKE),
            item(1, 3, ACCEPT),
            item(2, 1, ACCEPT),
            item(3, 2, REVOKE),
            item(3, 9, ACCEPT),
        ];
        assert_eq!(newest(items), [(1, 7), (2, 1), (3, 9)]);
    }

    #[test]
    fn what_was_retained_without_a_decision_leaves_the_earlier_decision_standing() {
        let items = vec![
            item(1, 3, ACCEPT),
            item(1, 8, Disposition::LapsedRetained),
            item(2, 4, Disposition::LapsedRetained),
            item(3, 5, Disposition::Voided),
        ];
        assert_eq!(newest(items), [(1, 3)]);
    }

    #[test]
    fn a_removal_has_no_end_date_and_an_acceptance_has_its_own() {
        let leaf = item(1, 1, REVOKE).leaf().unwrap();
        assert_eq!(
            (leaf.status, leaf.not_after_ms),
            (AuthorizedStatus::Revoked, 0)
        );
        let leaf = item(1, 1, ACCEPT).leaf().unwrap();
        assert_eq!(
            (leaf.status, leaf.not_after_ms),
            (AuthorizedStatus::Authorized, 77)
        );
    }
}
