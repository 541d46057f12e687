//! Synthetic estates of any size: one CSV source, one owner, one reviewer.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use counterfoil::estate::{
    BusinessUnit, Campaign, DecisionRights, EscalationLevel, Estate, Organization, Policy,
    Principal, Retention, Source, Tenant,
};

/// Id of the tenant.
pub(crate) const TENANT: &str = "bench";

/// Writes an estate with `grants` grants over a tenth as many accounts and a five-hundredth as many entitlements.
pub(crate) fn write(directory: &Path, grants: usize) -> anyhow::Result<()> {
    let source = directory.join("target");
    fs::create_dir_all(&source)?;
    let accounts = (grants / 10).max(1);
    let entitlements = (grants / 500).max(10);
    let mut file = BufWriter::new(File::create(source.join("accounts.csv"))?);
    writeln!(
        file,
        "native_id,display_name,identity_key,email,identity_class,status,owner_key,last_seen,expires,purpose,lifecycle"
    )?;
    for number in 0..accounts {
        writeln!(
            file,
            "a{number},Account {number},p{number}@bench.example,,workforce,active,owner@bench.example,,,,active"
        )?;
    }
    file.flush()?;
    let mut file = BufWriter::new(File::create(source.join("entitlements.csv"))?);
    writeln!(
        file,
        "native_id,display_name,kind,privileged,owner_key,purpose,sensitivity"
    )?;
    for number in 0..entitlements {
        writeln!(
            file,
            "e{number},Entitlement {number},role,false,owner@bench.example,,low"
        )?;
    }
    file.flush()?;
    write_grants(&source, accounts, entitlements, grants, 0)?;
    fs::write(
        directory.join("decisions.csv"),
        "source,account,entitlement,decision,justification,evidence_kind,evidence_ref,review_by_days,exception_basis,exception_expires_days,reviewer,reduce_to\n",
    )?;
    estate()?.write(directory)
}

/// Takes the first `fewer` grants away, as a target would between two syncs.
pub(crate) fn change(directory: &Path, grants: usize, fewer: usize) -> anyhow::Result<()> {
    let source = directory.join("target");
    write_grants(
        &source,
        (grants / 10).max(1),
        (grants / 500).max(10),
        grants,
        fewer,
    )
}

fn write_grants(
    source: &Path,
    accounts: usize,
    entitlements: usize,
    grants: usize,
    skip: usize,
) -> anyhow::Result<()> {
    let partial = source.join("grants.csv.new");
    let mut file = BufWriter::new(File::create(&partial)?);
    writeln!(
        file,
        "account_native_id,entitlement_native_id,granted,expires,purpose"
    )?;
    for number in skip..grants {
        // Each account's grants fall on different entitlements: a stride that shares no factor with their number would do,
        // and consecutive ones always do.
        let account = number % accounts;
        let entitlement = (number / accounts + account) % entitlements;
        writeln!(file, "a{account},e{entitlement},,,")?;
    }
    file.flush()?;
    fs::rename(partial, source.join("grants.csv"))?;
    Ok(())
}

fn estate() -> anyhow::Result<Estate> {
    let person = |id: &str, key: &str, roles: &[&str]| Principal {
        id: id.to_owned(),
        display_name: id.to_owned(),
        identity_key: Some(key.to_owned()),
        organization: "customer".to_owned(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
    };
    let rights = |grantee: &str, actions: &[&str]| DecisionRights {
        grantor: "owner".to_owned(),
        grantees: vec![grantee.to_owned()],
        actions: actions.iter().map(|&action| action.to_owned()).collect(),
        scope: vec!["*".to_owned()],
        valid_days: 30,
    };
    let organization = |id: &str, kind: &str| Organization {
        id: id.to_owned(),
        display_name: id.to_owned(),
        kind: kind.to_owned(),
    };
    let mut connector = toml::Table::new();
    connector.insert("kind".to_owned(), "csv".into());
    connector.insert("directory".to_owned(), "target".into());
    Ok(Estate {
        tenant: Tenant {
            id: TENANT.to_owned(),
            display_name: "Bench".to_owned(),
            accountable_owner: "owner".to_owned(),
        },
        policy: Policy::default(),
        organizations: vec![
            organization("customer", "customer"),
            organization("provider", "provider"),
        ],
        principals: vec![
            person(
                "owner",
                "owner@bench.example",
                &["tenant-administrator", "reviewer"],
            ),
            person("deputy", "deputy@bench.example", &["reviewer"]),
        ],
        business_units: vec![BusinessUnit {
            id: "all".to_owned(),
            display_name: "All".to_owned(),
            owner: "owner".to_owned(),
            deputy: "deputy".to_owned(),
        }],
        decision_rights: vec![
            rights(
                "owner",
                &["review", "except", "certify", "remediate", "export"],
            ),
            rights("deputy", &["review"]),
        ],
        escalation: vec![EscalationLevel {
            to: "deputy".to_owned(),
            after_hours: 1,
        }],
        retention: vec![Retention {
            class: "governance".to_owned(),
            days: 30,
            basis: "benchmark".to_owned(),
        }],
        sources: vec![Source {
            id: "target".to_owned(),
            display_name: "Target".to_owned(),
            connector,
        }],
        campaign: Campaign {
            display_name: "Bench".to_owned(),
            owner: "owner".to_owned(),
            fallback_reviewer: "deputy".to_owned(),
            lapse_rule: "retain_as_debt".to_owned(),
            decisions: "decisions.csv".to_owned(),
        },
    })
}
