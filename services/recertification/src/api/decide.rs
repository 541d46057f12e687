//! Taking decisions: judging each of a call, asking inventory once for all of them, writing what stands in one transaction.
//!
//! Invariants: each item is judged by itself, one refusal does not touch the others; authority and inventory are asked once a
//! call, not once an item, and never from within the transaction; what was judged is compared again inside of it.

use std::collections::{HashMap, HashSet};

use counterfoil_chassis::{
    auth::Caller,
    db::WriteTx,
    error::ApiError,
    names::new_id,
    outbox::{Emission, EmittedRecord},
};
use counterfoil_evidence::{leaf::GrantKey, v1::RoutingCause};
use counterfoil_proto::authority::DecisionAction;

use super::{Api, peers::inventory::GrantNow};
use crate::{
    error::wrong_state,
    jobs::{
        ending::{self, Gone},
        routing,
    },
    model::{
        campaign::{Campaign, CampaignState},
        decision::{self, Decision, Limits, Proposal, Refusal, Reviewer},
        disposition::Disposition,
        identity,
        ids::{CampaignKey, Principal, Source},
        item::{Item, ItemEvent, ItemState, ShownGrant},
        rights::Cited,
        routing::{Person, Routable},
    },
    records::{self, PRESENTATION, Routing, Stamp},
    store::{StoreError, campaigns, items},
};

/// What became of one decision.
pub(super) type Outcome = Result<EmittedRecord, Refusal>;

/// Everything a call is judged by, read once.
struct Bench {
    campaign: Campaign,
    sources: HashMap<[u8; 8], Source>,
    items: HashMap<GrantKey, Item>,
    reviewer: Reviewer,
    limits: Limits,
    /// Without a right: each record cites the one it stands on.
    stamp: Stamp,
}

/// What is to be done about one item.
enum Verdict {
    /// The decision stands on this right, on this leaf.
    Take { right: Cited, leaf: Vec<u8> },
    /// The grant changed: it is shown again, to this reviewer.
    ShowAgain { shown: ShownGrant, to: Principal },
    /// The grant is gone.
    Void(Gone),
    /// Nothing.
    Refuse(Refusal),
}

/// A call that has been judged, not written.
pub(super) struct Judged {
    bench: Bench,
    proposals: Vec<Result<Proposal, Refusal>>,
    verdicts: Vec<Verdict>,
    salt: [u8; 32],
}

impl Api {
    /// Judges all proposals of a call; those that could not be read stay refused.
    pub(super) async fn judge(
        &self,
        caller: &Caller,
        key: &CampaignKey,
        proposals: Vec<Result<Proposal, Refusal>>,
    ) -> Result<Judged, ApiError> {
        let bench = self.bench(caller, key, &proposals).await?;
        let now_ms = bench.stamp.now_ms;
        let mut seen = HashSet::new();
        let first: Vec<Result<Cited, Refusal>> = proposals
            .iter()
            .map(|proposal| {
                let proposal = proposal.as_ref().map_err(Clone::clone)?;
                if !seen.insert(proposal.key) {
                    return Err(Refusal::twice());
                }
                bench.judge_alone(proposal, now_ms)
            })
            .collect();
        let mut wanted: Vec<GrantKey> = Vec::new();
        for (proposal, judged) in proposals.iter().zip(&first) {
            if let (Ok(proposal), Ok(_)) = (proposal, judged) {
                wanted.push(proposal.key);
                wanted.extend(proposal.reduce_to);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let (now, owners, salt) = tokio::try_join!(
            self.context.inventory.current(&key.tenant, &wanted),
            self.exception_owners(key, &proposals, &first),
            routing::salt(&self.context, &key.tenant),
        )?;
        let mut verdicts: Vec<Verdict> = proposals
            .iter()
            .zip(first)
            .map(|(proposal, judged)| match (proposal, judged) {
                (Ok(proposal), Ok(right)) => bench.judge_with(proposal, right, &now, &owners),
                (Err(refusal), _) => Verdict::Refuse(refusal.clone()),
                (_, Err(refusal)) => Verdict::Refuse(refusal),
            })
            .collect();
        self.answer_changes(key, &bench, &proposals, &now, &mut verdicts)
            .await?;
        Ok(Judged {
            bench,
            proposals,
            verdicts,
            salt,
        })
    }

    async fn bench(
        &self,
        caller: &Caller,
        key: &CampaignKey,
        proposals: &[Result<Proposal, Refusal>],
    ) -> Result<Bench, ApiError> {
        let tenant = &key.tenant;
        let keys: Vec<GrantKey> = proposals.iter().flatten().map(|one| one.key).collect();
        let mut connection = self.context.db.read(tenant).await?;
        let campaign = campaigns::get(&mut connection, key)
            .await?
            .ok_or_else(ApiError::not_found)?;
        let principal = self.context.principal(tenant, caller)?;
        require_active(&campaign)?;
        let sources = campaigns::sources(&mut connection, key).await?;
        let engine = self.context.db.engine();
        let found = items::get_many(&mut connection, engine, key, &keys).await?;
        drop(connection);
        // Taken before authority is asked: a right that it names held at this moment.
        let now_ms = self.context.clock.now_ms();
        let context = &self.context;
        let excepts = proposals
            .iter()
            .flatten()
            .any(|one| one.decision == Decision::Exception);
        let except = async {
            if !excepts {
                return Ok(Vec::new());
            }
            let asked = context.standing(tenant, &principal, DecisionAction::Except);
            asked.await.map(|standing| standing.rights)
        };
        let (standing, except, policy) = tokio::try_join!(
            context.standing(tenant, &principal, DecisionAction::Review),
            except,
            context.authority.policy(tenant),
        )?;
        Ok(Bench {
            campaign,
            sources,
            items: found.into_iter().map(|item| (item.key, item)).collect(),
            limits: policy.limits,
            stamp: Stamp {
                actor: caller.actor().to_owned(),
                now_ms,
                accountable_owner: standing.accountable_owner,
                right: None,
                on_behalf_of: Vec::new(),
                policy_hash: standing.policy_hash,
            },
            reviewer: Reviewer {
                principal,
                identity_key: standing.identity_key,
                review: standing.rights,
                except,
            },
        })
    }

    /// The people named as owners of exceptions, each asked for once.
    async fn exception_owners(
        &self,
        key: &CampaignKey,
        proposals: &[Result<Proposal, Refusal>],
        first: &[Result<Cited, Refusal>],
    ) -> Result<HashMap<Principal, Person>, ApiError> {
        let named: HashSet<&Principal> = proposals
            .iter()
            .zip(first)
            .filter(|(_, judged)| judged.is_ok())
            .filter_map(|(proposal, _)| proposal.as_ref().ok()?.exception_owner.as_ref())
            .collect();
        let asked = named.into_iter().map(|owner| async move {
            let found = self.context.authority.person(&key.tenant, owner).await?;
            Ok::<_, ApiError>(found.map(|person| (owner.clone(), person)))
        });
        let found = futures::future::try_join_all(asked).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Prepares what follows for items whose grant is not what was shown: shown again, or voided with a proof.
    async fn answer_changes(
        &self,
        key: &CampaignKey,
        bench: &Bench,
        proposals: &[Result<Proposal, Refusal>],
        now: &HashMap<GrantKey, GrantNow>,
        verdicts: &mut [Verdict],
    ) -> Result<(), ApiError> {
        let mut missing: HashMap<&Source, Vec<GrantKey>> = HashMap::new();
        let mut changed = Vec::new();
        for (at, verdict) in verdicts.iter().enumerate() {
            let (Verdict::Refuse(refusal), Ok(proposal)) = (verdict, &proposals[at]) else {
                continue;
            };
            let (Some(item), Some(now)) = (bench.items.get(&proposal.key), now.get(&proposal.key))
            else {
                continue;
            };
            if refusal.reason != Refusal::GRANT_CHANGED {
                continue;
            }
            if !now.current.leaf.is_empty() {
                changed.push((at, item, now));
            } else if item.state.after(ItemEvent::Voided).is_some() {
                let source = routing::source_of(&bench.sources, item)?;
                missing.entry(source).or_default().push(item.key);
            }
        }
        let mut gone = ending::prove_gone(&self.context, &key.tenant, missing).await?;
        for (verdict, proposal) in verdicts.iter_mut().zip(proposals) {
            let found = proposal.as_ref().ok().and_then(|one| gone.remove(&one.key));
            if let Some(proof) = found {
                *verdict = Verdict::Void(proof);
            }
        }
        for (at, item, now) in changed {
            let source = routing::source_of(&bench.sources, item)?;
            let shown = self
                .context
                .inventory
                .show(&key.tenant, source, now)
                .await?;
            let to = self.reviewer_of(bench, &shown, source).await?;
            verdicts[at] = Verdict::ShowAgain { shown, to };
        }
        Ok(())
    }

    /// Who reviews a grant that is shown again: the same reviewer, unless the access has become their own.
    async fn reviewer_of(
        &self,
        bench: &Bench,
        shown: &ShownGrant,
        source: &Source,
    ) -> Result<Principal, ApiError> {
        if identity::barred(&bench.reviewer.identity_key, &shown.subject_key).is_none() {
            return Ok(bench.reviewer.principal.clone());
        }
        let tenant = &bench.campaign.definition.key.tenant;
        let directory = self.context.directory(tenant).await?;
        let fallbacks = routing::fallbacks(&bench.campaign, &bench.stamp.accountable_owner);
        let routable = Routable {
            owner_key: &shown.owner_key,
            subject_key: &shown.subject_key,
            source,
        };
        directory
            .route(routable, &fallbacks, bench.stamp.now_ms)
            .ok_or_else(|| {
                ApiError::failed_precondition("NO_REVIEWER", "nobody but the subject could review")
            })
    }

    /// Writes what was judged: decisions with their records, what is shown again, what is voided. Answers one outcome a proposal.
    pub(super) async fn write(
        &self,
        tx: &mut WriteTx,
        judged: Judged,
    ) -> Result<Vec<Outcome>, ApiError> {
        let Judged {
            bench,
            proposals,
            mut verdicts,
            salt,
        } = judged;
        let key = bench.campaign.definition.key.clone();
        let campaign = routing::require(tx, &key, CampaignState::Active)
            .await
            .map_err(|error| {
                if error.code() == tonic::Code::FailedPrecondition {
                    wrong_state()
                } else {
                    error
                }
            })?;
        refuse_what_moved(tx, &bench, &mut verdicts, &proposals).await?;
        // Showing again and voiding follow from rules: they are no acts of the reviewer.
        let by_rule = bench.stamp.by_rule();
        let emission = self.context.outbox.begin(tx).await?;
        let staged_hash = campaign
            .staged_hash
            .ok_or(StoreError::Damaged("staged_hash"))?;
        let mut writer = Writer {
            key: &key,
            staged_hash,
            by_rule,
            salt,
            bench: &bench,
            emission,
            written: Written::default(),
        };
        let batch_id = (proposals.len() > 1).then(|| new_id(bench.stamp.now_ms));
        let mut outcomes = Vec::with_capacity(verdicts.len());
        for (verdict, proposal) in verdicts.into_iter().zip(&proposals) {
            let outcome = match (verdict, proposal) {
                (Verdict::Refuse(refusal), _) => Err(refusal),
                (_, Err(refusal)) => Err(refusal.clone()),
                (Verdict::Take { right, leaf }, Ok(proposal)) => {
                    Ok(writer.take(proposal, right, &leaf, batch_id.as_deref())?)
                }
                (Verdict::ShowAgain { shown, to }, Ok(_)) => Err(writer.show_again(shown, to)?),
                (Verdict::Void(gone), Ok(proposal)) => Err(writer.void(proposal, &gone)?),
            };
            outcomes.push(outcome);
        }
        let Writer {
            emission, written, ..
        } = writer;
        emission.finish(tx).await?;
        written.store(tx, &key, bench.stamp.now_ms).await?;
        Ok(outcomes)
    }
}

/// Records and rows of one call in the making.
struct Writer<'w> {
    key: &'w CampaignKey,
    staged_hash: [u8; 32],
    by_rule: Stamp,
    salt: [u8; 32],
    bench: &'w Bench,
    emission: Emission,
    written: Written,
}

impl Writer<'_> {
    fn take(
        &mut self,
        proposal: &Proposal,
        right: Cited,
        leaf: &[u8],
        batch_id: Option<&str>,
    ) -> Result<EmittedRecord, ApiError> {
        let stamp = Stamp {
            right: Some(right.record_hash),
            on_behalf_of: right.on_behalf_of,
            ..self.bench.stamp.clone()
        };
        let draft = records::decided(&stamp, self.key, proposal, leaf, batch_id);
        let emitted = self.emission.add(draft)?;
        if proposal.decision == Decision::Exception {
            let id = new_id(stamp.now_ms);
            let hash = emitted.record_hash;
            let draft = records::exception_granted(&stamp, self.key, proposal, &id, hash);
            self.emission.add(draft)?;
        }
        let row = decided_row(self.bench, proposal, &emitted);
        self.written.decided.push(row);
        Ok(emitted)
    }

    fn show_again(&mut self, shown: ShownGrant, to: Principal) -> Result<Refusal, ApiError> {
        let routing = Routing {
            key: shown.key,
            leaf: &shown.leaf,
            presentation: &shown.presentation,
            from: Some(&self.bench.reviewer.principal),
            to: &to,
            cause: RoutingCause::Represented,
            subject_tag: routing::subject_tag(&self.salt, &shown.subject_key),
        };
        let draft = records::routed(&self.by_rule, self.key, self.staged_hash, &routing);
        let hash = self
            .emission
            .add(draft)?
            .commitment(PRESENTATION)
            .ok_or_else(|| ApiError::internal("a record without its commitment"))?;
        self.written.shown.push((shown, to, hash));
        Ok(Refusal::grant_changed(
            "the grant is not what was shown; the item is presented again",
        ))
    }

    fn void(&mut self, proposal: &Proposal, gone: &Gone) -> Result<Refusal, ApiError> {
        let (sync, proof) = (gone.sync_record_hash, &gone.proof);
        let draft = records::voided(&self.by_rule, self.key, &proposal.key, sync, proof);
        let emitted = self.emission.add(draft)?;
        let row = ending::ended_row(proposal.key, &emitted);
        self.written.voided.push(row);
        Ok(Refusal::grant_changed(
            "the grant is gone; the item is void",
        ))
    }
}

/// Rows that a call changes.
#[derive(Default)]
struct Written {
    decided: Vec<items::DecidedRow>,
    shown: Vec<(ShownGrant, Principal, [u8; 32])>,
    voided: Vec<items::EndedRow>,
}

impl Written {
    async fn store(self, tx: &mut WriteTx, key: &CampaignKey, now_ms: i64) -> Result<(), ApiError> {
        items::decide(tx, key, self.decided).await?;
        items::represent(tx, key, self.shown).await?;
        items::end(tx, key, Disposition::Voided, now_ms, self.voided).await?;
        Ok(())
    }
}

impl Bench {
    /// Judges a proposal by what this service and authority know. Answers the right that the decision cites.
    fn judge_alone(&self, proposal: &Proposal, now_ms: i64) -> Result<Cited, Refusal> {
        let item = self
            .items
            .get(&proposal.key)
            .ok_or_else(Refusal::not_found)?;
        let source = self
            .sources
            .get(&item.key.source_tag().0)
            .ok_or_else(Refusal::not_found)?;
        let decision = proposal.decision;
        let right = decision::check_reviewer(item, source, &self.reviewer, decision, now_ms)?;
        decision::check_form(proposal, self.limits, now_ms)?;
        if item.state.after(ItemEvent::Decided).is_none() {
            return Err(Refusal::ended());
        }
        decision::check_presentation(item, &proposal.presentation_hash)?;
        Ok(Cited::from(right))
    }

    /// Judges a proposal by what inventory holds now.
    fn judge_with(
        &self,
        proposal: &Proposal,
        right: Cited,
        now: &HashMap<GrantKey, GrantNow>,
        owners: &HashMap<Principal, Person>,
    ) -> Verdict {
        let (Some(item), Some(grant)) = (self.items.get(&proposal.key), now.get(&proposal.key))
        else {
            return Verdict::Refuse(Refusal::not_found());
        };
        if grant.current.leaf != item.leaf {
            let message = if grant.current.leaf.is_empty() && item.state == ItemState::Decided {
                "the grant is gone; the earlier decision stands"
            } else {
                "the grant is not what was shown"
            };
            return Verdict::Refuse(Refusal::grant_changed(message));
        }
        let checked = match (proposal.decision, proposal.reduce_to) {
            (Decision::Exception, _) => {
                let owner = proposal.exception_owner.as_ref();
                let owner = owner.and_then(|owner| owners.get(owner));
                decision::check_exception_owner(item, owner)
            }
            (Decision::Reduce, Some(narrower)) => {
                let narrower = now.get(&narrower).map(|one| &one.current);
                decision::check_reduction(&grant.current, narrower)
            }
            _ => Ok(()),
        };
        match checked {
            Ok(()) => Verdict::Take {
                right,
                leaf: item.leaf.clone(),
            },
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }
}

/// Items that somebody else moved between judging and writing are refused; the tenant's lock is held from here on.
async fn refuse_what_moved(
    tx: &mut WriteTx,
    bench: &Bench,
    verdicts: &mut [Verdict],
    proposals: &[Result<Proposal, Refusal>],
) -> Result<(), ApiError> {
    let keys: Vec<GrantKey> = verdicts
        .iter()
        .zip(proposals)
        .filter(|(verdict, _)| !matches!(verdict, Verdict::Refuse(_)))
        .filter_map(|(_, proposal)| proposal.as_ref().ok().map(|one| one.key))
        .collect();
    let engine = tx.engine();
    let key = &bench.campaign.definition.key;
    let found = items::get_many(tx.conn(), engine, key, &keys).await?;
    let present: HashMap<GrantKey, Item> = found.into_iter().map(|one| (one.key, one)).collect();
    for (verdict, proposal) in verdicts.iter_mut().zip(proposals) {
        let Ok(proposal) = proposal else { continue };
        if matches!(verdict, Verdict::Refuse(_)) {
            continue;
        }
        let same = match (bench.items.get(&proposal.key), present.get(&proposal.key)) {
            (Some(judged), Some(present)) => {
                judged.presentation_hash == present.presentation_hash
                    && judged.reviewer == present.reviewer
                    && judged.state == present.state
            }
            _ => false,
        };
        if !same {
            *verdict = Verdict::Refuse(Refusal::conflict());
        }
    }
    Ok(())
}

fn decided_row(bench: &Bench, proposal: &Proposal, emitted: &EmittedRecord) -> items::DecidedRow {
    items::DecidedRow {
        key: proposal.key,
        disposition: Disposition::Decided(proposal.decision),
        decide_ms: bench.stamp.now_ms,
        decided_by: bench.reviewer.principal.clone(),
        not_after_ms: proposal.not_after_ms(),
        reduce_to: proposal.reduce_to,
        record_hash: emitted.record_hash,
        stream_seq: emitted.stream_seq,
    }
}

/// Decisions count in ACTIVE only (I-31).
pub(super) fn require_active(campaign: &Campaign) -> Result<(), ApiError> {
    if campaign.state == CampaignState::Active {
        Ok(())
    } else {
        Err(wrong_state())
    }
}
