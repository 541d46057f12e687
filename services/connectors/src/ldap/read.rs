//! Streams a directory: accounts, then groups, then who is in which.
//!
//! LDAP has no reading at one moment. What changed meanwhile is found in three ways, and each makes the sync PARTIAL: an
//! entry that is in one search and not in the other, a change stamp later than the start, and a control total that differs.

use tokio::sync::mpsc;

use crate::config::LdapConfig;
use crate::error::{ConnectorError, Result};
use crate::ldap::entry::{Entry, Found};
use crate::ldap::index::{Index, Kind, report};
use crate::ldap::session::Session;
use crate::ldap::time;
use crate::pager::Pager;
use crate::record::{
    AccountRecord, AccountStatus, ControlTotals, EntitlementEdge, EntitlementRecord, GrantRecord,
    Page, ReadSummary, RowErrors, Sensitivity, SourceRecord,
};
use crate::text::misleading;

const EMAIL: &str = "mail";
const PURPOSE: &str = "description";

/// Reads everything.
pub(crate) async fn read(config: &LdapConfig, sink: mpsc::Sender<Page>) -> Result<ReadSummary> {
    let mut session = Session::open(config, &config.reader).await?;
    let mut pager = Pager::new(sink);
    match stream(&mut session, config, &mut pager).await {
        Ok(watermark) => {
            session.close().await;
            pager.finish(watermark).await
        }
        Err(ConnectorError::Unreachable { reason, .. }) => Err(ConnectorError::Interrupted {
            pages: pager.pages(),
            reason,
        }),
        Err(error) => Err(error),
    }
}

/// Counts everything over a connection and by searches of its own.
pub(crate) async fn control_totals(config: &LdapConfig) -> Result<ControlTotals> {
    let mut session = Session::open(config, &config.reader).await?;
    let index = Index::build(&mut session, config, &mut RowErrors::default()).await?;
    let mut totals = ControlTotals::default();
    for entry in index.iter() {
        match entry.kind {
            Kind::Account => totals.accounts += 1,
            Kind::Group => totals.entitlements += 1,
        }
    }
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let attributes = &config.member_attributes;
    let mut pages = session.pages(
        &config.base_dn,
        &config.group_filter,
        attributes,
        config.page_size,
    );
    while let Some(found) = pages.next().await? {
        if let Found::Entry(entry) = found {
            let members = index.members(&entry, config);
            totals.edges += count(members.groups.len());
            // A value that names nothing we know is somebody's access all the same.
            totals.grants += count(members.accounts.len() + members.unknown.len());
        }
    }
    session.close().await;
    Ok(totals)
}

/// Looks at the base entry, which also tells whether this principal may see anything.
pub(crate) async fn base_entry(
    session: &mut Session,
    config: &LdapConfig,
    principal: &str,
) -> Result<Entry> {
    let found = session
        .lookup(&config.base_dn, "(objectClass=*)", &["contextCSN"])
        .await?;
    found.ok_or_else(|| ConnectorError::AccessDenied {
        principal: principal.to_owned(),
        code: crate::ldap::session::code::NO_SUCH_OBJECT,
        reason: format!(
            "base_dn {:?} is not there, or this principal may not see it",
            config.base_dn
        ),
    })
}

async fn context_csn(session: &mut Session, config: &LdapConfig) -> Result<Vec<String>> {
    let base = base_entry(session, config, &config.reader.dn).await?;
    let mut values: Vec<String> = base.texts("contextCSN").map(str::to_owned).collect();
    values.sort_unstable();
    Ok(values)
}

async fn stream(
    session: &mut Session,
    config: &LdapConfig,
    pager: &mut Pager,
) -> Result<Option<String>> {
    let started = context_csn(session, config).await?;
    let mut index = Index::build(session, config, pager.errors()).await?;
    if !index.iter().any(|entry| entry.kind == Kind::Account) {
        let reason = format!(
            "no entry matches account_filter {}: the filter is wrong, or {} may not see the accounts",
            config.account_filter, config.reader.dn
        );
        report(pager.errors(), &config.base_dn, reason);
    }
    accounts(session, config, &mut index, pager).await?;
    groups(session, config, &mut index, pager).await?;
    memberships(session, config, &mut index, pager).await?;
    for entry in index.iter().filter(|entry| !entry.is_complete()) {
        report(
            pager.errors(),
            &entry.native_id,
            "went away while the directory was being read",
        );
    }
    changed_meanwhile(session, config, &started, pager).await?;
    Ok((!started.is_empty()).then(|| started.join(";")))
}

async fn accounts(
    session: &mut Session,
    config: &LdapConfig,
    index: &mut Index,
    pager: &mut Pager,
) -> Result<()> {
    let mut attributes = described(config);
    attributes.push(EMAIL.to_owned());
    attributes.extend(config.last_seen_attributes.iter().cloned());
    attributes.extend(config.expires_attributes.iter().cloned());
    let mut pages = session.pages(
        &config.base_dn,
        &config.account_filter,
        &attributes,
        config.page_size,
    );
    while let Some(found) = pages.next().await? {
        let Some(entry) = entry_of(found, config, pager) else {
            continue;
        };
        let Some(number) = taken(index, &entry, Kind::Account, pager) else {
            continue;
        };
        let Some(indexed) = index.entry(number) else {
            continue;
        };
        let record = AccountRecord {
            native_id: indexed.native_id.to_string(),
            display_name: display_name(&entry, config, &indexed.native_id, pager),
            email: seemly(&entry, EMAIL, entry.texts(EMAIL).min(), pager),
            identity_key: indexed.identity_key.as_deref().map(str::to_owned),
            identity_class: indexed.class,
            status: if indexed.disabled {
                AccountStatus::Disabled
            } else {
                AccountStatus::Active
            },
            owner_key: owner_key(&entry, config, index, pager),
            last_seen_ms: latest(&entry, &config.last_seen_attributes, pager),
            expires_ms: latest(&entry, &config.expires_attributes, pager),
            purpose: seemly(&entry, PURPOSE, entry.texts(PURPOSE).min(), pager),
            lifecycle: None,
        };
        pager.push(SourceRecord::Account(record)).await?;
    }
    Ok(())
}

async fn groups(
    session: &mut Session,
    config: &LdapConfig,
    index: &mut Index,
    pager: &mut Pager,
) -> Result<()> {
    let attributes = described(config);
    let mut pages = session.pages(
        &config.base_dn,
        &config.group_filter,
        &attributes,
        config.page_size,
    );
    while let Some(found) = pages.next().await? {
        let Some(entry) = entry_of(found, config, pager) else {
            continue;
        };
        let Some(number) = taken(index, &entry, Kind::Group, pager) else {
            continue;
        };
        let Some(indexed) = index.entry(number) else {
            continue;
        };
        let record = EntitlementRecord {
            native_id: indexed.native_id.to_string(),
            display_name: display_name(&entry, config, &indexed.native_id, pager),
            kind: "group".to_owned(),
            privileged: indexed.privileged,
            owner_key: owner_key(&entry, config, index, pager),
            purpose: seemly(&entry, PURPOSE, entry.texts(PURPOSE).min(), pager),
            sensitivity: Sensitivity::Unclassified,
        };
        pager.push(SourceRecord::Entitlement(record)).await?;
    }
    Ok(())
}

async fn memberships(
    session: &mut Session,
    config: &LdapConfig,
    index: &mut Index,
    pager: &mut Pager,
) -> Result<()> {
    let mut attributes = vec!["objectClass".to_owned()];
    attributes.extend(config.member_attributes.iter().cloned());
    let mut pages = session.pages(
        &config.base_dn,
        &config.group_filter,
        &attributes,
        config.page_size,
    );
    while let Some(found) = pages.next().await? {
        let Some(entry) = entry_of(found, config, pager) else {
            continue;
        };
        let Some(number) = index.number(&entry.dn) else {
            report(
                pager.errors(),
                &entry.dn,
                "appeared while the directory was being read",
            );
            continue;
        };
        match index.entry_mut(number) {
            Some(group) if group.kind == Kind::Group && !group.members_seen => {
                group.members_seen = true;
            }
            _ => continue,
        }
        send_members(&entry, number, config, index, pager).await?;
    }
    Ok(())
}

async fn send_members(
    entry: &Entry,
    number: u32,
    config: &LdapConfig,
    index: &Index,
    pager: &mut Pager,
) -> Result<()> {
    let Some(group) = index.entry(number) else {
        return Ok(());
    };
    let members = index.members(entry, config);
    if members.values == 0 && must_have_members(entry) {
        let reason = format!(
            "shows no members although its class must have one: may {} see them?",
            config.reader.dn
        );
        report(pager.errors(), &entry.dn, reason);
    }
    for reason in members.unknown {
        report(pager.errors(), &entry.dn, reason);
    }
    for nested in sorted(members.groups) {
        if nested == number {
            report(pager.errors(), &entry.dn, "is a member of itself");
        } else if let Some(nested) = index.entry(nested) {
            let edge = EntitlementEdge {
                child_native_id: nested.native_id.to_string(),
                parent_native_id: group.native_id.to_string(),
            };
            pager.push(SourceRecord::Edge(edge)).await?;
        }
    }
    for account in sorted(members.accounts) {
        let Some(account) = index.entry(account) else {
            continue;
        };
        let grant = GrantRecord {
            account_native_id: account.native_id.to_string(),
            entitlement_native_id: group.native_id.to_string(),
            granted_ms: None,
            expires_ms: None,
            last_used_ms: None,
            purpose: None,
        };
        pager.push(SourceRecord::Grant(grant)).await?;
    }
    Ok(())
}

/// Reports every account and group that was changed after the read began, if the server keeps change stamps.
async fn changed_meanwhile(
    session: &mut Session,
    config: &LdapConfig,
    started: &[String],
    pager: &mut Pager,
) -> Result<()> {
    let Some(latest) = started.last() else {
        return Ok(());
    };
    if context_csn(session, config).await? == started {
        return Ok(());
    }
    let (accounts, groups) = (&config.account_filter, &config.group_filter);
    let stamp = ldap3::ldap_escape(latest.as_str());
    let filter = format!("(&(|{accounts}{groups})(!(entryCSN<={stamp})))");
    let attributes = ["1.1".to_owned()];
    let mut pages = session.pages(&config.base_dn, &filter, &attributes, config.page_size);
    while let Some(found) = pages.next().await? {
        if let Found::Entry(entry) = found {
            report(
                pager.errors(),
                &entry.dn,
                "was changed while the directory was being read",
            );
        }
    }
    Ok(())
}

/// The entry, if it is one. Referrals were reported when the directory was indexed.
fn entry_of(found: Found, config: &LdapConfig, pager: &mut Pager) -> Option<Entry> {
    match found {
        Found::Entry(entry) => Some(entry),
        Found::Referral(_) => None,
        Found::Broken(what) => {
            report(
                pager.errors(),
                &config.base_dn,
                format!("the server sent {what}"),
            );
            None
        }
    }
}

/// The entry's number, when it was indexed as this kind.
fn taken(index: &mut Index, entry: &Entry, kind: Kind, pager: &mut Pager) -> Option<u32> {
    let Some(number) = index.number(&entry.dn) else {
        report(
            pager.errors(),
            &entry.dn,
            "appeared while the directory was being read",
        );
        return None;
    };
    let indexed = index.entry_mut(number)?;
    // What matches both filters was reported when it was indexed. What comes twice was, too.
    if indexed.kind != kind || indexed.seen {
        return None;
    }
    indexed.seen = true;
    Some(number)
}

fn described(config: &LdapConfig) -> Vec<String> {
    let mut attributes = vec![PURPOSE.to_owned()];
    attributes.extend(config.display_name_attributes.iter().cloned());
    attributes.extend(config.owner_attributes.iter().cloned());
    attributes
}

fn display_name(entry: &Entry, config: &LdapConfig, native_id: &str, pager: &mut Pager) -> String {
    let value = entry.first(&config.display_name_attributes);
    seemly(entry, "its display name", value, pager).unwrap_or_else(|| native_id.to_owned())
}

fn owner_key(
    entry: &Entry,
    config: &LdapConfig,
    index: &Index,
    pager: &mut Pager,
) -> Option<String> {
    let value = seemly(
        entry,
        "its owner",
        entry.first(&config.owner_attributes),
        pager,
    )?;
    Some(index.owner_key(&value))
}

/// The value, unless it misleads the eye; then it is reported and left out, and the record still goes.
fn seemly(entry: &Entry, what: &str, value: Option<&str>, pager: &mut Pager) -> Option<String> {
    let value = value.filter(|value| !value.is_empty())?;
    match misleading(value) {
        None => Some(value.to_owned()),
        Some(reason) => {
            report(
                pager.errors(),
                &entry.dn,
                format!("{what} {reason}, so it is left out"),
            );
            None
        }
    }
}

/// The latest moment that any of the attributes names.
fn latest(entry: &Entry, attributes: &[String], pager: &mut Pager) -> Option<i64> {
    let mut latest = None;
    for attribute in attributes {
        for value in entry.texts(attribute) {
            match time::milliseconds(value) {
                Ok(moment) => latest = latest.max(moment),
                Err(reason) => report(
                    pager.errors(),
                    &entry.dn,
                    format!("{attribute} {value:?} {reason}"),
                ),
            }
        }
    }
    latest
}

fn must_have_members(entry: &Entry) -> bool {
    entry.texts("objectClass").any(|class| {
        class.eq_ignore_ascii_case("groupOfNames")
            || class.eq_ignore_ascii_case("groupOfUniqueNames")
    })
}

/// The same directory must give the same order every time.
fn sorted(numbers: std::collections::HashSet<u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers
}
