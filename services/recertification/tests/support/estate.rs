//! The files of a CSV source.

use std::{fs, path::Path};

/// A grant in the files.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) account: &'static str,
    pub(crate) entitlement: &'static str,
    pub(crate) purpose: &'static str,
}

const fn grant(account: &'static str, entitlement: &'static str) -> Grant {
    Grant {
        account,
        entitlement,
        purpose: "",
    }
}

/// Five grants: crew is owned by rita, staff by ada, root (privileged) by nobody; crew follows into everyone.
pub(crate) fn estate() -> Vec<Grant> {
    vec![
        grant("ada", "crew"),
        grant("ada", "staff"),
        grant("bob", "staff"),
        grant("bob", "root"),
        grant("cid", "crew"),
    ]
}

/// Writes the files of a source.
pub(crate) fn write(folder: &Path, grants: &[Grant]) {
    let mut accounts =
        String::from("native_id,display_name,identity_key,identity_class,owner_key\n");
    for id in ["ada", "bob", "cid"] {
        accounts += &format!("{id},Name of {id},{id}@acme.example,workforce,\n");
    }
    let entitlements = "native_id,display_name,kind,privileged,owner_key\n\
        crew,The crew,team,false,rita@acme.example\n\
        staff,All staff,team,false,ada@acme.example\n\
        everyone,Everyone,team,false,rita@acme.example\n\
        root,Administrators,role,true,\n";
    let edges = "child_native_id,parent_native_id\ncrew,everyone\n";
    let mut rows = String::from("account_native_id,entitlement_native_id,last_used,purpose\n");
    for grant in grants {
        rows += &format!(
            "{},{},,{}\n",
            grant.account, grant.entitlement, grant.purpose
        );
    }
    for (name, text) in [
        ("accounts.csv", accounts.as_str()),
        ("entitlements.csv", entitlements),
        ("edges.csv", edges),
        ("grants.csv", rows.as_str()),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}
