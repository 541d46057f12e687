//! Who is who in a directory: every account and group by its normalised name, so that members, owners and nested groups,
//! which LDAP names by distinguished name, can be told by native id.
//!
//! Costs some 150 bytes an entry: two short texts, and 16 bytes instead of each distinguished name.

use std::collections::HashSet;

use crate::config::LdapConfig;
use crate::error::Result;
use crate::keys::KeyMap;
use crate::ldap::dn;
use crate::ldap::entry::{Entry, Found};
use crate::ldap::session::Session;
use crate::record::{IdentityClass, RowError, RowErrors};
use crate::text::{misleading, printable};

/// Asks for no attribute at all, RFC 4511 4.5.1.8.
const NO_ATTRIBUTES: &str = "1.1";

/// Account or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Account,
    Group,
}

/// What has to be known of an entry before anything that refers to it is sent.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) kind: Kind,
    pub(crate) native_id: Box<str>,
    pub(crate) identity_key: Option<Box<str>>,
    pub(crate) class: IdentityClass,
    pub(crate) disabled: bool,
    pub(crate) privileged: bool,
    /// Whether the entry came again when it was read in full.
    pub(crate) seen: bool,
    /// Whether its members came too.
    pub(crate) members_seen: bool,
}

impl Indexed {
    /// Whether everything about the entry was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.seen && (self.members_seen || self.kind == Kind::Account)
    }
}

/// All accounts and groups of a directory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_name: KeyMap<u32>,
    /// `None` when more than one account has the uid.
    by_uid: KeyMap<Option<u32>>,
    entries: Vec<Indexed>,
    placeholder: Option<String>,
}

/// What the members of one group are.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) accounts: HashSet<u32>,
    pub(crate) groups: HashSet<u32>,
    /// Values that name nothing this source reads, with the reason.
    pub(crate) unknown: Vec<String>,
    /// How many values there were, the placeholder included.
    pub(crate) values: usize,
}

impl Index {
    /// Searches the directory once for accounts and once for groups, and once more for every mark that is configured.
    pub(crate) async fn build(
        session: &mut Session,
        config: &LdapConfig,
        errors: &mut RowErrors,
    ) -> Result<Self> {
        let placeholder = config.placeholder_member.as_deref().map(dn::normalize);
        let mut index = Self {
            placeholder: placeholder.and_then(std::result::Result::ok),
            ..Self::default()
        };
        let mut referrals = HashSet::new();
        for kind in [Kind::Account, Kind::Group] {
            index
                .add_all(session, config, kind, &mut referrals, errors)
                .await?;
        }
        if let Some(number) = index
            .placeholder
            .as_deref()
            .and_then(|name| index.by_name.get(name))
        {
            let native_id = index.entry(*number).map_or("", |entry| &entry.native_id);
            report(
                errors,
                &config.base_dn,
                format!("placeholder_member is a real entry, {native_id}"),
            );
        }
        index.mark_all(session, config).await?;
        Ok(index)
    }

    async fn add_all(
        &mut self,
        session: &mut Session,
        config: &LdapConfig,
        kind: Kind,
        referrals: &mut HashSet<String>,
        errors: &mut RowErrors,
    ) -> Result<()> {
        let mut attributes = vec![config.native_id_attribute.clone()];
        let filter = match kind {
            Kind::Account => {
                attributes.push("uid".to_owned());
                attributes.extend(config.identity_attributes.iter().cloned());
                &config.account_filter
            }
            Kind::Group => &config.group_filter,
        };
        let mut pages = session.pages(&config.base_dn, filter, &attributes, config.page_size);
        while let Some(found) = pages.next().await? {
            match found {
                Found::Entry(entry) => {
                    if let Err(reason) = self.add(&entry, config, kind) {
                        report(errors, &entry.dn, reason);
                    }
                }
                Found::Broken(what) => {
                    report(errors, &config.base_dn, format!("the server sent {what}"))
                }
                Found::Referral(urls) => {
                    for url in urls {
                        if referrals.insert(url.clone()) {
                            let url = printable(&url);
                            let reason = format!(
                                "referral to {url} is not followed, so what it holds was not read"
                            );
                            report(errors, &config.base_dn, reason);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        entry: &Entry,
        config: &LdapConfig,
        kind: Kind,
    ) -> std::result::Result<(), String> {
        let name = dn::normalize(&entry.dn)?;
        let number = u32::try_from(self.entries.len())
            .map_err(|_| "too many entries to number".to_owned())?;
        let native_id = native_id(entry, config).unwrap_or_else(|| name.clone());
        if let Err(other) = self.by_name.insert(&name, number) {
            let other_kind = usize::try_from(*other)
                .ok()
                .and_then(|other| self.entries.get(other));
            return Err(match other_kind.map(|other| other.kind) {
                Some(other) if other != kind => {
                    "matches account_filter and group_filter: it is taken as an account".to_owned()
                }
                _ => "came twice, or two names differ only by case or spaces".to_owned(),
            });
        }
        let mut identity_key = None;
        if kind == Kind::Account {
            identity_key = entry.first(&config.identity_attributes).map(Box::from);
            for uid in entry.texts("uid") {
                if let Err(other) = self.by_uid.insert(&uid.to_lowercase(), Some(number)) {
                    *other = None;
                }
            }
        }
        let unseemly = identity_key.as_deref().and_then(misleading);
        self.entries.push(Indexed {
            kind,
            native_id: native_id.into_boxed_str(),
            identity_key: identity_key.filter(|_| unseemly.is_none()),
            class: IdentityClass::Workforce,
            disabled: false,
            privileged: false,
            seen: false,
            members_seen: false,
        });
        match unseemly {
            Some(reason) => Err(format!(
                "its identity key {reason}, so it is taken without one"
            )),
            None => Ok(()),
        }
    }

    async fn mark_all(&mut self, session: &mut Session, config: &LdapConfig) -> Result<()> {
        let accounts = &config.account_filter;
        for (class, filter) in &config.account_class_filters {
            self.mark(session, config, (accounts, filter), |entry| {
                entry.class = *class
            })
            .await?;
        }
        self.mark(
            session,
            config,
            (accounts, &config.disabled_filter),
            |entry| entry.disabled = true,
        )
        .await?;
        if let Some(filter) = &config.privileged_group_filter {
            self.mark(session, config, (&config.group_filter, filter), |entry| {
                entry.privileged = true
            })
            .await?;
        }
        Ok(())
    }

    async fn mark(
        &mut self,
        session: &mut Session,
        config: &LdapConfig,
        filters: (&str, &str),
        mut change: impl FnMut(&mut Indexed),
    ) -> Result<()> {
        let filter = format!("(&{}{})", filters.0, filters.1);
        let mut pages = session.pages(
            &config.base_dn,
            &filter,
            &[NO_ATTRIBUTES.to_owned()],
            config.page_size,
        );
        while let Some(found) = pages.next().await? {
            if let Found::Entry(entry) = found
                && let Some(number) = self.number(&entry.dn)
                && let Some(indexed) = self.entry_mut(number)
            {
                change(indexed);
            }
        }
        Ok(())
    }

    /// The number of the entry with this name, in whatever spelling.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.by_name.get(&dn::normalize(name).ok()?).copied()
    }

    pub(crate) fn entry(&self, number: u32) -> Option<&Indexed> {
        self.entries.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn entry_mut(&mut self, number: u32) -> Option<&mut Indexed> {
        self.entries.get_mut(usize::try_from(number).ok()?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Indexed> {
        self.entries.iter()
    }

    /// Tells the correlation key behind the value of an owner attribute: the identity key of the account it names, or,
    /// when it names none we know, the name itself, so that somebody can look for it.
    pub(crate) fn owner_key(&self, value: &str) -> String {
        let Ok(name) = dn::normalize(value) else {
            return value.to_owned();
        };
        let known = self
            .by_name
            .get(&name)
            .and_then(|number| self.entry(*number));
        match known.and_then(|entry| entry.identity_key.as_deref()) {
            Some(key) => key.to_owned(),
            None => name,
        }
    }

    /// Resolves the members of a group. Two values that name the same entry are one member.
    pub(crate) fn members(&self, entry: &Entry, config: &LdapConfig) -> Members {
        let mut members = Members::default();
        for attribute in &config.member_attributes {
            if let Some(part) = entry.partial_attribute(attribute) {
                members.unknown.push(format!(
                    "the server sent only a part of its members ({part})"
                ));
            }
            for value in entry.bytes(attribute) {
                members.values += 1;
                let Ok(value) = std::str::from_utf8(value) else {
                    members
                        .unknown
                        .push(format!("a value of {attribute} is not UTF-8"));
                    continue;
                };
                match self.member(attribute, value) {
                    Ok(Some(number)) => match self.entry(number).map(|entry| entry.kind) {
                        Some(Kind::Group) => drop(members.groups.insert(number)),
                        _ => drop(members.accounts.insert(number)),
                    },
                    Ok(None) => {}
                    Err(reason) => members
                        .unknown
                        .push(format!("{attribute} {:?} {reason}", printable(value))),
                }
            }
        }
        members
    }

    /// The entry that a member value names; `None` for the placeholder.
    fn member(&self, attribute: &str, value: &str) -> std::result::Result<Option<u32>, String> {
        if is_uid(attribute) {
            return match self.by_uid.get(&value.to_lowercase()) {
                Some(Some(number)) => Ok(Some(*number)),
                Some(None) => Err("is the uid of more than one account".to_owned()),
                None => Err("is the uid of no account this source reads".to_owned()),
            };
        }
        let name = dn::normalize(dn::without_unique_id(value))?;
        if self.placeholder.as_ref() == Some(&name) {
            return Ok(None);
        }
        let known = self.by_name.get(&name).copied();
        known
            .map(Some)
            .ok_or_else(|| "names no account and no group this source reads".to_owned())
    }
}

/// Whether the values of a member attribute are uids and not distinguished names.
pub(crate) fn is_uid(attribute: &str) -> bool {
    attribute.eq_ignore_ascii_case("memberUid")
}

/// The entry's own stable id; binary ones, like Active Directory's, in hexadecimal.
pub(crate) fn native_id(entry: &Entry, config: &LdapConfig) -> Option<String> {
    let value = entry.bytes(&config.native_id_attribute).next()?;
    if is_binary_id(&config.native_id_attribute) {
        return Some(hex::encode(value));
    }
    let value = std::str::from_utf8(value).ok()?.trim();
    (!value.is_empty()).then(|| value.to_ascii_lowercase())
}

pub(crate) fn is_binary_id(attribute: &str) -> bool {
    attribute.eq_ignore_ascii_case("objectGUID")
}

pub(crate) fn report(errors: &mut RowErrors, place: &str, reason: impl Into<String>) {
    errors.push(RowError {
        place: printable(place),
        row: None,
        reason: reason.into(),
    });
}
