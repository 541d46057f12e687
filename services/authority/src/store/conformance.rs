//! What the tables do, the same on both engines.

use counterfoil_chassis::{WriteTx, both_engines, testing::TestDatabase};

use super::{
    From, MIGRATIONS, gate, holds, logins, organizations, policies, principals, qualifications,
    rights, settings, tenants, tenures, tokens,
};
use crate::model::{
    gate::Requirement,
    hold::{Hold, Release},
    ids::{BusinessUnitId, CompetencyId, HoldId, OrganizationId, PrincipalId, RightId, SourceId},
    policy::{self, Bundle, Wanted},
    principal::{Organization, OrganizationKind, Principal, PrincipalKind},
    right::{DecisionAction, Right, Scope},
    settings::{EscalationPathSet, Setting, SettingKind},
    standing::Competency,
    tenant::{Tenant, TenantKind, TenantLog, TenantState},
    tenure::{Tenure, start_ms},
};
use prost::Message;

const START: From<'static> = From {
    after: "",
    limit: 100,
};

fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.to_owned(),
        display_name: "\u{c4}cme".to_owned(),
        kind: TenantKind::Customer,
        state: TenantState::Onboarding,
        log: TenantLog {
            origin: format!("log.example/{id}"),
            vkey: "v".to_owned(),
            registrar_vkey: "r".to_owned(),
        },
        correlation_salt: [9; 32],
        created_at_ms: 5,
        activation_record: None,
        exit_evidence: None,
        stopped_itself: false,
    }
}

fn organization(id: &str, kind: OrganizationKind) -> Organization {
    Organization {
        id: OrganizationId::parse(id).unwrap(),
        kind,
        display_name: id.to_owned(),
    }
}

fn principal(id: &str, organization: &Organization) -> Principal {
    Principal {
        id: PrincipalId::parse(id).unwrap(),
        kind: PrincipalKind::Human,
        organization: organization.id.clone(),
        organization_kind: organization.kind,
        identity_key: format!("{id}@corp.example"),
        roles: vec!["auditor".to_owned(), "reviewer".to_owned()],
        display_name: id.to_uppercase(),
        ended_at_ms: None,
        record_hash: [1; 32],
    }
}

fn right(id: &str, grantee: &str, action: DecisionAction, from: i64, to: i64) -> Right {
    Right {
        id: RightId::parse(id).unwrap(),
        grantee: PrincipalId::parse(grantee).unwrap(),
        action,
        scope: Scope::Everywhere,
        valid_from_ms: from,
        valid_to_ms: to,
        grantor: PrincipalId::parse("ada").unwrap(),
        tiers: vec!["low".to_owned()],
        environments: Vec::new(),
        proposed: false,
        revoked_at_ms: None,
        record_hash: [2; 32],
    }
}

fn hold(id: &str, classes: &[&str]) -> Hold {
    Hold {
        id: HoldId::parse(id).unwrap(),
        retention_classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        basis: "FRCP-37E".to_owned(),
        reason_code: "litigation".to_owned(),
        placed_by: PrincipalId::parse("ada").unwrap(),
        placed_at_ms: 7,
        record_hash: [8; 32],
        release: None,
    }
}

fn tenure(unit: &str, from_ms: i64, owner: &str) -> Tenure {
    Tenure {
        business_unit: BusinessUnitId::parse(unit).unwrap(),
        from_ms,
        owner: PrincipalId::parse(owner).unwrap(),
        deputy: PrincipalId::parse("cleo"),
        display_name: String::new(),
        record_hash: [3; 32],
    }
}

fn setting(version: i64, last_resort: &str) -> Setting {
    let path = EscalationPathSet {
        scope: "*".to_owned(),
        levels: Vec::new(),
        last_resort: format!("principals/{last_resort}"),
    };
    Setting {
        version,
        content: path.encode_to_vec(),
        record_hash: [4; 32],
    }
}

/// A transaction of tenant "acme", which has customer humans "ada" and "ben", and "msp" of a provider.
async fn acme(db: &TestDatabase) -> WriteTx {
    db.migrate(&[MIGRATIONS]).await;
    let mut tx = db.write_tx("acme").await.unwrap();
    tenants::insert(tx.conn(), &tenant("acme"), &[7; 16])
        .await
        .unwrap();
    let customer = organization("customer", OrganizationKind::Customer);
    let provider = organization("provider", OrganizationKind::Provider);
    for one in [&customer, &provider] {
        assert!(
            organizations::insert(tx.conn(), "acme", one, 1)
                .await
                .unwrap()
        );
    }
    let all = [
        principal("ada", &customer),
        principal("ben", &customer),
        principal("msp", &provider),
    ];
    principals::insert(&mut tx, &all, 2).await.unwrap();
    tx
}

both_engines! {
    async fn a_tenant_comes_back_as_it_was_written(db: TestDatabase) {
        let mut tx = acme(&db).await;
        assert_eq!(tenants::get(tx.conn(), "acme").await.unwrap(), Some(tenant("acme")));
        assert_eq!(tenants::get(tx.conn(), "beta").await.unwrap(), None);
        tenants::change(tx.conn(), "acme", (TenantState::Active, false), &[8; 16]).await.unwrap();
        let active = tenants::get(tx.conn(), "acme").await.unwrap().unwrap();
        assert_eq!(active.state, TenantState::Active);
        assert_eq!(active.activation_record, Some(vec![8; 16]));
        tx.commit().await.unwrap();
    }

    async fn lists_come_in_byte_order_and_go_on_after_a_place(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        for id in ["ab", "a-c", "a0", "b"] {
            let mut tx = db.write_tx(id).await.unwrap();
            tenants::insert(tx.conn(), &tenant(id), &[7; 16]).await.unwrap();
            tx.commit().await.unwrap();
        }
        let mut tx = db.read_everything("all tenants").await.unwrap();
        let found = tenants::list(tx.conn(), From { after: "", limit: 3 }).await.unwrap();
        let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["a-c", "a0", "ab"]);
        let rest = tenants::list(tx.conn(), From { after: "ab", limit: 3 }).await.unwrap();
        assert_eq!(rest.len(), 1);
    }

    async fn an_organisation_is_written_once(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let again = organization("customer", OrganizationKind::Provider);
        assert!(!organizations::insert(tx.conn(), "acme", &again, 9).await.unwrap());
        let found = organizations::list(tx.conn(), "acme", START).await.unwrap();
        assert_eq!(found[0], organization("customer", OrganizationKind::Customer));
        assert_eq!(found.len(), 2);
        let engine = tx.engine();
        let unknown = OrganizationId::parse("nobody").unwrap();
        let asked = [&found[1].id, &unknown];
        let known = organizations::get_many(tx.conn(), engine, "acme", asked).await.unwrap();
        assert_eq!(known.into_keys().collect::<Vec<_>>(), [found[1].id.clone()]);
    }

    async fn a_principal_comes_back_and_ends_once(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let customer = organization("customer", OrganizationKind::Customer);
        let ada = PrincipalId::parse("ada").unwrap();
        let found = principals::get(tx.conn(), "acme", &ada).await.unwrap();
        assert_eq!(found, Some(principal("ada", &customer)));
        assert_eq!(principals::get(tx.conn(), "beta", &ada).await.unwrap(), None);
        principals::end(tx.conn(), "acme", &ada, 50).await.unwrap();
        principals::end(tx.conn(), "acme", &ada, 60).await.unwrap();
        let ended = principals::get(tx.conn(), "acme", &ada).await.unwrap().unwrap();
        assert_eq!(ended.ended_at_ms, Some(50));
        let all = principals::list(tx.conn(), "acme", START).await.unwrap();
        let ids: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["ada", "ben", "msp"]);
    }

    /// The rule of the model and the SQL that looks a moment up give the same owner, also where the clock went back.
    async fn a6_every_instant_of_a_unit_has_the_owner_that_the_model_says(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let unit = BusinessUnitId::parse("sales").unwrap();
        let mut starts: Vec<(i64, &str)> = Vec::new();
        for (moment, owner) in [10, 10, 40, 5, 20, 60].into_iter().zip(["ada", "ben"].into_iter().cycle()) {
            let from = start_ms(starts.last().map(|last| last.0), moment);
            tenures::insert(tx.conn(), "acme", &tenure("sales", from, owner)).await.unwrap();
            starts.push((from, owner));
        }
        for instant in 0..70 {
            let expected = starts.iter().rev().find(|(from, _)| *from <= instant).map(|one| one.1);
            let found = tenures::at(tx.conn(), "acme", &unit, instant).await.unwrap();
            assert_eq!(found.as_ref().map(|one| one.owner.as_str()), expected, "at {instant}");
        }
    }

    async fn the_first_unit_stays_the_first_and_lists_show_present_owners(db: TestDatabase) {
        let mut tx = acme(&db).await;
        assert_eq!(tenures::first(tx.conn(), "acme").await.unwrap(), None);
        for (unit, from, owner) in [("zinc", 1, "ada"), ("brass", 2, "ben"), ("zinc", 3, "ben"), ("brass", 4, "ada")] {
            tenures::insert(tx.conn(), "acme", &tenure(unit, from, owner)).await.unwrap();
        }
        let first = tenures::first(tx.conn(), "acme").await.unwrap().unwrap();
        assert_eq!((first.business_unit.as_str(), first.owner.as_str()), ("zinc", "ben"));
        let all = tenures::list(tx.conn(), "acme", START).await.unwrap();
        let owners: Vec<(&str, &str)> =
            all.iter().map(|one| (one.business_unit.as_str(), one.owner.as_str())).collect();
        assert_eq!(owners, [("brass", "ada"), ("zinc", "ben")]);
        let ben = PrincipalId::parse("ben").unwrap();
        let owned = tenures::answered_by(tx.conn(), "acme", &ben).await.unwrap();
        assert_eq!(owned.unwrap().as_str(), "zinc");
        tenures::insert(tx.conn(), "acme", &tenure("zinc", 5, "ada")).await.unwrap();
        assert_eq!(tenures::answered_by(tx.conn(), "acme", &ben).await.unwrap(), None);
    }

    async fn a_right_holds_in_its_time_for_its_grantee_and_action_until_revoked(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let mut some = right("r2", "ben", DecisionAction::Review, 10, 20);
        let source = |id: &str| SourceId::stored(id.to_owned());
        some.scope = Scope::Sources(vec![source("HR_1"), source("vault")]);
        let all = [
            right("r1", "ben", DecisionAction::Review, 0, 15),
            some.clone(),
            right("r3", "ben", DecisionAction::Certify, 0, 100),
            right("r4", "ada", DecisionAction::Review, 0, 100),
        ];
        rights::insert(&mut tx, &all).await.unwrap();
        assert_eq!(rights::get(tx.conn(), "acme", &some.id).await.unwrap(), Some(some.clone()));
        let ben = PrincipalId::parse("ben").unwrap();
        for now in 0..25 {
            let held = rights::holding(tx.conn(), "acme", &ben, DecisionAction::Review, now).await.unwrap();
            let ids: Vec<&str> = held.iter().map(|one| one.id.as_str()).collect();
            let expected: Vec<&str> = all[..2].iter().filter(|one| one.holds(now)).map(|one| one.id.as_str()).collect();
            assert_eq!(ids, expected, "at {now}");
        }
        rights::revoke(tx.conn(), "acme", &some.id, 12).await.unwrap();
        rights::revoke(tx.conn(), "acme", &some.id, 13).await.unwrap();
        let revoked = rights::get(tx.conn(), "acme", &some.id).await.unwrap().unwrap();
        assert_eq!(revoked.revoked_at_ms, Some(12));
        let held = rights::holding(tx.conn(), "acme", &ben, DecisionAction::Review, 14).await.unwrap();
        assert_eq!(held.len(), 1);
        assert_eq!(rights::list(tx.conn(), "acme", From { after: "r1", limit: 2 }).await.unwrap().len(), 2);
    }

    async fn the_newest_policy_is_in_force_and_a_damaged_one_is_not_taken(db: TestDatabase) {
        let mut tx = acme(&db).await;
        assert_eq!(policies::in_force(tx.conn(), "acme", i64::MAX).await.unwrap(), None);
        for version in 1..=3 {
            let wanted = Wanted { threshold_count: version, ..Wanted::default() };
            let bundle = Bundle {
                version: u64::from(version),
                rules: policy::rules(&wanted, &|_, _| true).unwrap(),
                effective_from_ms: i64::from(version),
                record_hash: [5; 32],
            };
            policies::insert(tx.conn(), "acme", &bundle).await.unwrap();
            assert_eq!(policies::in_force(tx.conn(), "acme", i64::MAX).await.unwrap(), Some(bundle));
        }
        sqlx::query("UPDATE policies SET bundle_hash = $1").bind(vec![0_u8; 32]).execute(tx.conn()).await.unwrap();
        assert!(policies::in_force(tx.conn(), "acme", i64::MAX).await.is_err());
    }

    async fn the_newest_setting_of_each_kind_is_in_force(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let (path, retention) = (SettingKind::EscalationPath, SettingKind::RetentionPolicy);
        for version in 1..=2 {
            settings::insert(tx.conn(), "acme", path, &setting(version, "ada"), 1).await.unwrap();
        }
        let newest = settings::latest(tx.conn(), "acme", path).await.unwrap();
        assert_eq!(newest, Some(setting(2, "ada")));
        assert_eq!(settings::latest(tx.conn(), "acme", retention).await.unwrap(), None);
    }

    async fn a_hold_is_in_force_until_it_is_released_once_in_its_own_tenant(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let [whole, some] = [hold("h1", &[]), hold("h2", &["governance", "operations"])];
        for one in [&whole, &some] {
            holds::insert(tx.conn(), "acme", one).await.unwrap();
            assert_eq!(holds::get(tx.conn(), "acme", &one.id).await.unwrap().as_ref(), Some(one));
            assert_eq!(holds::get(tx.conn(), "beta", &one.id).await.unwrap(), None);
        }
        let [first, late] = [("ben", 50), ("ada", 60)].map(|(by, at_ms)| Release {
            by: PrincipalId::parse(by).unwrap(),
            at_ms,
            reason_code: "settled".to_owned(),
        });
        holds::release(tx.conn(), "beta", &whole.id, &first).await.unwrap();
        assert_eq!(holds::in_force(tx.conn(), "acme").await.unwrap(), [whole.clone(), some.clone()]);
        assert_eq!(holds::in_force(tx.conn(), "beta").await.unwrap(), []);
        for release in [&first, &late] {
            holds::release(tx.conn(), "acme", &whole.id, release).await.unwrap();
        }
        let released = Hold { release: Some(first), ..whole };
        assert_eq!(holds::get(tx.conn(), "acme", &released.id).await.unwrap(), Some(released.clone()));
        assert_eq!(holds::in_force(tx.conn(), "acme").await.unwrap(), std::slice::from_ref(&some));
        // What was released stays in the list.
        assert_eq!(holds::list(tx.conn(), "acme", START).await.unwrap(), [released.clone(), some.clone()]);
        assert_eq!(holds::list(tx.conn(), "acme", From { after: "", limit: 1 }).await.unwrap(), [released]);
        assert_eq!(holds::list(tx.conn(), "acme", From { after: "h1", limit: 9 }).await.unwrap(), [some]);
        assert_eq!(holds::list(tx.conn(), "beta", START).await.unwrap(), []);
    }

    async fn a_token_is_found_with_its_principal_and_revoked_in_its_tenant_only(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let scopes = ["a.get".to_owned(), "b.get".to_owned()];
        let token = tokens::NewToken {
            id: "aa", principal: "ben", sha256: [6; 32], scopes: &scopes, certificate_sha256: Some([7; 32]),
            issued_by: "principals/ada", issued_with: "a9", issued_at_ms: 1, expires_at_ms: 9,
        };
        tokens::insert(tx.conn(), "acme", &token).await.unwrap();
        let plain = tokens::NewToken {
            id: "ab", scopes: &[], certificate_sha256: None, issued_by: "operators/admin", issued_with: "", ..token
        };
        tokens::insert(tx.conn(), "acme", &plain).await.unwrap();
        let found = tokens::find(tx.conn(), "aa").await.unwrap().unwrap();
        assert_eq!((found.tenant.as_str(), found.principal.id.as_str()), ("acme", "ben"));
        assert_eq!((found.sha256, found.expires_at_ms, found.revoked_at_ms), ([6; 32], 9, None));
        assert_eq!((found.scopes.as_slice(), found.certificate_sha256), (&scopes[..], Some([7; 32])));
        let found = tokens::find(tx.conn(), "ab").await.unwrap().unwrap();
        assert_eq!((found.scopes.len(), found.certificate_sha256), (0, None));
        for tenant in ["beta", "acme"] {
            tokens::revoke(tx.conn(), tenant, "aa", 4).await.unwrap();
            tokens::stamp(tx.conn(), tenant, "aa", 70).await.unwrap();
            let expected = (tenant == "acme").then_some(4);
            let now = tokens::find(tx.conn(), "aa").await.unwrap().unwrap();
            assert_eq!(now.revoked_at_ms, expected);
        }
        tokens::revoke(tx.conn(), "acme", "aa", 5).await.unwrap();
        tokens::stamp(tx.conn(), "acme", "aa", 60).await.unwrap();
        let listed = tokens::get(tx.conn(), "acme", "aa").await.unwrap().unwrap();
        assert_eq!((listed.revoked_at_ms, listed.last_used_at_ms), (Some(4), Some(70)));
        assert_eq!(tokens::get(tx.conn(), "beta", "aa").await.unwrap(), None);
        let page = From { after: "aa", limit: 10 };
        let rest = tokens::list(tx.conn(), "acme", page).await.unwrap();
        assert_eq!(rest.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["ab"]);
        assert_eq!(tokens::list(tx.conn(), "beta", page).await.unwrap(), []);
        assert_eq!(tokens::find(tx.conn(), "bb").await.unwrap(), None);
        // What there is ends early, once and for all; what it was to live is still known.
        for (tenant, end_ms) in [("beta", 2), ("acme", 5), ("acme", 7)] {
            tokens::cut(tx.conn(), tenant, end_ms).await.unwrap();
        }
        for (id, end_ms) in [("aa", 5), ("ab", 5)] {
            assert_eq!(tokens::find(tx.conn(), id).await.unwrap().unwrap().expires_at_ms, end_ms);
            let listed = tokens::get(tx.conn(), "acme", id).await.unwrap().unwrap();
            assert_eq!((listed.expires_at_ms, listed.term_ms), (end_ms, 8));
        }
    }

    async fn a_subject_is_one_principal_of_a_tenant_until_it_is_unlinked(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let login = |id: &str| logins::Login {
            id: id.into(), issuer: "https://idp".into(), subject: "S-1".into(), principal: "ben".into(),
            linked_at_ms: 1, issued_with: "aa".into(), unlinked_at_ms: None,
        };
        logins::insert(tx.conn(), "acme", &login("l1")).await.unwrap();
        let find = async |tx: &mut WriteTx, tenant, subject| {
            let found = logins::find(tx.conn(), tenant, "https://idp", subject).await.unwrap();
            found.map(|(login, principal)| (login, principal.id.as_str().to_owned()))
        };
        assert_eq!(find(&mut tx, "acme", "S-1").await, Some(("l1".into(), "ben".into())));
        assert_eq!(find(&mut tx, "acme", "s-1").await, None);
        assert_eq!(find(&mut tx, "beta", "S-1").await, None);
        logins::unlink(tx.conn(), "beta", "l1", 5).await.unwrap();
        assert_eq!(logins::get(tx.conn(), "acme", "l1").await.unwrap(), Some(login("l1")));
        logins::unlink(tx.conn(), "acme", "l1", 5).await.unwrap();
        assert_eq!(find(&mut tx, "acme", "S-1").await, None);
        logins::insert(tx.conn(), "acme", &login("l2")).await.unwrap();
        let page = From { after: "", limit: 10 };
        let listed = logins::list(tx.conn(), "acme", page).await.unwrap();
        let ends: Vec<_> = listed.iter().map(|one| (one.id.as_str(), one.unlinked_at_ms)).collect();
        assert_eq!(ends, [("l1", Some(5)), ("l2", None)]);
        assert_eq!(logins::list(tx.conn(), "beta", page).await.unwrap(), []);
        let twice = logins::insert(tx.conn(), "acme", &login("l3")).await.unwrap_err();
        assert!(twice.as_database_error().unwrap().is_unique_violation());
    }

    /// However much else was shown before it.
    async fn what_counts_of_an_operators_evidence_is_accepted_not_revoked_and_not_over(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let otto = "tenants/msp/principals/otto";
        for (id, operator) in [("c1", otto), ("c2", otto), ("c3", otto), ("c4", otto), ("c5", "tenants/msp/principals/nova")] {
            let shown = Competency {
                id: CompetencyId::parse(id).unwrap(),
                operator: operator.to_owned(),
                topic: "onboarding".to_owned(),
                issuer: "ISC2".to_owned(),
                evidence_sha256: [7; 32],
                valid_to_ms: 50,
                accepted_at_ms: None,
                revoked_at_ms: None,
                record_hash: [6; 32],
            };
            qualifications::insert_competency(tx.conn(), "acme", &shown).await.unwrap();
        }
        let id = |id: &str| CompetencyId::parse(id).unwrap();
        for (accepted, valid_to_ms) in [("c2", 50), ("c3", 50), ("c4", 20), ("c5", 50)] {
            qualifications::accept_competency(tx.conn(), "acme", &id(accepted), valid_to_ms, 5).await.unwrap();
        }
        qualifications::revoke_competency(tx.conn(), "acme", &id("c3"), 6).await.unwrap();
        let good = qualifications::good_competencies(tx.conn(), "acme", otto, 20).await.unwrap();
        assert_eq!(good.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["c2"]);
        for (now_ms, waiting) in [(49, 1), (50, 0)] {
            let found = qualifications::unanswered_competencies(tx.conn(), "acme", otto, now_ms).await.unwrap();
            assert_eq!(found, waiting, "{now_ms}");
        }
    }

    async fn a13_each_record_takes_its_requirement_off_the_list(db: TestDatabase) {
        let mut tx = acme(&db).await;
        let missing = async |tx: &mut WriteTx, now| gate::met(tx.conn(), "acme", now).await.unwrap().missing();
        // Both organisations are there, each with an active principal.
        assert_eq!(missing(&mut tx, 50).await, Requirement::ALL[2..]);
        tenures::insert(tx.conn(), "acme", &tenure("sales", 1, "ada")).await.unwrap();
        assert_eq!(missing(&mut tx, 50).await, Requirement::ALL[3..]);
        let three = [
            right("r1", "ben", DecisionAction::Review, 0, 60),
            right("r2", "ben", DecisionAction::Remediate, 0, 100),
            right("r3", "ada", DecisionAction::Certify, 0, 100),
        ];
        rights::insert(&mut tx, &three).await.unwrap();
        assert_eq!(missing(&mut tx, 50).await, Requirement::ALL[6..]);
        let path = SettingKind::EscalationPath;
        settings::insert(tx.conn(), "acme", path, &setting(1, "msp"), 1).await.unwrap();
        assert_eq!(missing(&mut tx, 50).await, Requirement::ALL[6..], "a provider is no last resort");
        settings::insert(tx.conn(), "acme", path, &setting(2, "ada"), 1).await.unwrap();
        assert_eq!(missing(&mut tx, 50).await, Requirement::ALL[7..]);
        let retention = SettingKind::RetentionPolicy;
        settings::insert(tx.conn(), "acme", retention, &setting(1, ""), 1).await.unwrap();
        let rules = policy::rules(&Wanted::default(), &|_, _| true).unwrap();
        let bundle = Bundle { version: 1, rules, effective_from_ms: 1, record_hash: [5; 32] };
        policies::insert(tx.conn(), "acme", &bundle).await.unwrap();
        assert_eq!(missing(&mut tx, 50).await, []);
        // A right that has run out, and one whose grantee has ended, are missing again.
        assert_eq!(missing(&mut tx, 60).await, [Requirement::RightToReview]);
        principals::end(tx.conn(), "acme", &PrincipalId::parse("ben").unwrap(), 55).await.unwrap();
        assert_eq!(missing(&mut tx, 50).await, [Requirement::RightToReview, Requirement::RightToRemediate]);
        principals::end(tx.conn(), "acme", &PrincipalId::parse("msp").unwrap(), 55).await.unwrap();
        assert_eq!(missing(&mut tx, 50).await[0], Requirement::ProviderOrganization);
    }
}
