//! Synthetic estates of any size: one CSV source, one owner, one reviewer.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
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
    Ok(fs::write(directory.join("estate.toml"), ESTATE)?)
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

/// The estate as its file says it: the same form as everybody's.
const ESTATE: &str = r#"
[tenant]
id = "bench"
display_name = "Bench"
accountable_owner = "owner"

[[organizations]]
id = "customer"
display_name = "Customer"
kind = "customer"

[[organizations]]
id = "provider"
display_name = "Provider"
kind = "provider"

[[principals]]
id = "owner"
display_name = "Owner"
identity_key = "owner@bench.example"
organization = "customer"
roles = ["tenant-administrator", "reviewer"]

[[principals]]
id = "deputy"
display_name = "Deputy"
identity_key = "deputy@bench.example"
organization = "customer"
roles = ["reviewer"]

[[principals]]
id = "operator"
display_name = "Operator"
organization = "provider"
roles = ["operator"]

[[business_units]]
id = "all"
display_name = "All"
owner = "owner"
deputy = "deputy"

[[decision_rights]]
grantor = "owner"
grantees = ["owner"]
actions = ["review", "except", "certify", "remediate", "export"]
scope = ["*"]
valid_days = 30

[[escalation]]
to = "deputy"
after_hours = 1

[[retention]]
class = "governance"
days = 30
basis = "BENCH"

[[sources]]
id = "target"
display_name = "Target"
kind = "csv"
directory = "target"

[campaign]
display_name = "Bench"
owner = "owner"
fallback_reviewer = "deputy"
lapse_rule = "retain_as_debt"
decisions = "decisions.csv"
"#;
