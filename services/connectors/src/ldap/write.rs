//! Takes a member out of a group by one LDAP modify, and says exactly what is known afterwards.
//!
//! The modify deletes the very values the group holds for the account, so it fails rather than hits somebody else; where
//! the server offers it, an assertion (RFC 4528) makes it conditional on the membership and a post-read (RFC 4527) brings
//! the group as it stood right after. An LDAP modify happens whole or not at all (RFC 4511 4.6).

use std::collections::HashSet;

use ldap3::controls::{Assertion, PostRead, RawControl};
use ldap3::{LdapError, LdapResult, Mod, Scope, ldap_escape};
use sha2::{Digest, Sha256};

use crate::config::LdapConfig;
use crate::connector::{GrantRef, Hash, RevokeRequest, WriteOutcome};
use crate::error::{ConnectorError, Result};
use crate::ldap::dn;
use crate::ldap::entry::{Entry, post_read};
use crate::ldap::index::{is_binary_id, is_uid};
use crate::ldap::session::{Session, code, describe};

/// What the target holds for a grant: the group's entry and the values in it that name the account.
#[derive(Debug)]
pub(crate) struct Held {
    group: Entry,
    /// Attribute and value, as the server spells them.
    values: Vec<(String, String)>,
}

impl Held {
    /// Hash of the group's name and the values, in a fixed order.
    pub(crate) fn state(&self) -> Option<Hash> {
        if self.values.is_empty() {
            return None;
        }
        let mut hasher = Sha256::new();
        hash_text(&mut hasher, &self.group.dn);
        for (attribute, value) in &self.values {
            hash_text(&mut hasher, attribute);
            hash_text(&mut hasher, value);
        }
        Some(hasher.finalize().into())
    }
}

/// Reads what the group holds for the account.
pub(crate) async fn held(
    session: &mut Session,
    config: &LdapConfig,
    grant: &GrantRef,
) -> Result<Held> {
    let mut attributes: Vec<&str> = config
        .member_attributes
        .iter()
        .map(String::as_str)
        .collect();
    attributes.push("entryCSN");
    let group = entry_of(
        session,
        config,
        &grant.entitlement_native_id,
        &attributes,
        "entitlement",
    )
    .await?;
    let (name, uids) = account_names(session, config, &grant.account_native_id).await?;
    let mut values = values_of(&group, config, &name, &uids);
    values.sort_unstable();
    Ok(Held { group, values })
}

/// Takes the values out.
pub(crate) async fn remove(
    session: &mut Session,
    config: &LdapConfig,
    request: &RevokeRequest,
    held: &Held,
) -> Result<WriteOutcome> {
    let Some(before_hash) = held.state() else {
        return Ok(WriteOutcome::AlreadyAbsent);
    };
    if request
        .expected_before
        .is_some_and(|expected| expected != before_hash)
    {
        return Err(ConnectorError::refused(
            "the grant is no longer what it was when the order was made",
        ));
    }
    let mut result = modify(session, config, held, None).await?;
    if result.rc == code::OBJECT_CLASS_VIOLATION {
        // Definite: nothing happened, so a second modify is safe.
        let Some(placeholder) = &config.placeholder_member else {
            return Err(ConnectorError::Refused {
                code: Some(result.rc),
                reason: format!(
                    "{}; it is the group's last member and the group may not be empty: configure placeholder_member",
                    describe(&result)
                ),
            });
        };
        result = modify(session, config, held, Some(placeholder)).await?;
    }
    outcome(&result, config, held, before_hash)
}

async fn modify(
    session: &mut Session,
    config: &LdapConfig,
    held: &Held,
    placeholder: Option<&str>,
) -> Result<LdapResult> {
    let mut changes: Vec<Mod<Vec<u8>>> = Vec::new();
    for (attribute, value) in &held.values {
        let value = HashSet::from([value.clone().into_bytes()]);
        changes.push(Mod::Delete(attribute.clone().into_bytes(), value));
    }
    if let Some(placeholder) = placeholder {
        let names = held.values.iter().find(|(attribute, _)| !is_uid(attribute));
        let attribute = names.map_or("member", |(attribute, _)| attribute.as_str());
        let value = HashSet::from([placeholder.as_bytes().to_vec()]);
        changes.push(Mod::Add(attribute.as_bytes().to_vec(), value));
    }
    let controls = controls(session, config, held);
    let modified = session
        .operation()
        .with_controls(controls)
        .modify(&held.group.dn, changes)
        .await;
    modified.map_err(|error| match error {
        LdapError::OpSend { .. } => {
            ConnectorError::not_attempted(format!("the connection was gone: {error}"))
        }
        _ => ConnectorError::ambiguous(format!("no answer to the modify: {error}")),
    })
}

fn controls(session: &Session, config: &LdapConfig, held: &Held) -> Vec<RawControl> {
    let mut controls = Vec::new();
    if session.has_assertion {
        let mut filter = String::from("(&");
        for (attribute, value) in &held.values {
            filter.push_str(&format!("({attribute}={})", ldap_escape(value.as_str())));
        }
        filter.push(')');
        // A filter that does not parse would panic inside the client; without it the modify is still exact.
        if ldap3::parse_filter(&filter).is_ok() {
            let mut assertion = Assertion::new(filter);
            assertion.crit = true;
            controls.push(assertion);
        }
    }
    if session.has_post_read {
        let mut attributes: Vec<&str> = config
            .member_attributes
            .iter()
            .map(String::as_str)
            .collect();
        attributes.push("entryCSN");
        controls.push(PostRead::new(attributes));
    }
    controls
}

fn outcome(
    result: &LdapResult,
    config: &LdapConfig,
    held: &Held,
    before_hash: Hash,
) -> Result<WriteOutcome> {
    match result.rc {
        code::SUCCESS => {
            let after = post_read(&result.ctrls);
            if after
                .as_ref()
                .is_some_and(|after| still_there(after, config, held))
            {
                return Err(ConnectorError::ambiguous(
                    "the server answered success, and its own post-read still shows the member",
                ));
            }
            Ok(WriteOutcome::Applied {
                before_hash,
                response_hash: response_hash(result, config, after.as_ref()),
            })
        }
        code::NO_SUCH_ATTRIBUTE | code::ASSERTION_FAILED => Ok(WriteOutcome::AlreadyAbsent),
        code::BUSY => Err(ConnectorError::not_attempted(describe(result))),
        // A proxy in front of the server answers these also after it has passed the change on.
        code::OPERATIONS_ERROR | code::TIME_LIMIT_EXCEEDED | code::UNAVAILABLE | code::OTHER => {
            Err(ConnectorError::ambiguous(format!(
                "{} (result code {})",
                describe(result),
                result.rc
            )))
        }
        rc => Err(ConnectorError::Refused {
            code: Some(rc),
            reason: describe(result),
        }),
    }
}

fn still_there(after: &Entry, config: &LdapConfig, held: &Held) -> bool {
    let left: HashSet<&str> = config
        .member_attributes
        .iter()
        .flat_map(|name| after.texts(name))
        .collect();
    held.values
        .iter()
        .any(|(_, value)| left.contains(value.as_str()))
}

fn response_hash(result: &LdapResult, config: &LdapConfig, after: Option<&Entry>) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(result.rc.to_be_bytes());
    hash_text(&mut hasher, &result.matched);
    hash_text(&mut hasher, &result.text);
    if let Some(after) = after {
        hash_text(&mut hasher, &after.dn);
        let names = config
            .member_attributes
            .iter()
            .map(String::as_str)
            .chain(["entryCSN"]);
        for name in names {
            let mut values: Vec<&[u8]> = after.bytes(name).collect();
            values.sort_unstable();
            for value in values {
                hash_text(&mut hasher, name);
                hasher.update((value.len() as u64).to_be_bytes());
                hasher.update(value);
            }
        }
    }
    hasher.finalize().into()
}

/// With its length, so that two texts never run into one another.
fn hash_text(hasher: &mut Sha256, text: &str) {
    hasher.update((text.len() as u64).to_be_bytes());
    hasher.update(text.as_bytes());
}

/// The values of a group that name the account, by its distinguished name or one of its uids.
fn values_of(
    group: &Entry,
    config: &LdapConfig,
    name: &str,
    uids: &[String],
) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for attribute in &config.member_attributes {
        for value in group.texts(attribute) {
            let named = if is_uid(attribute) {
                uids.iter().any(|uid| uid.eq_ignore_ascii_case(value))
            } else {
                dn::normalize(dn::without_unique_id(value)).is_ok_and(|normal| normal == name)
            };
            if named {
                values.push((attribute.clone(), value.to_owned()));
            }
        }
    }
    values
}

/// The normalised name and the uids of an account.
async fn account_names(
    session: &mut Session,
    config: &LdapConfig,
    native_id: &str,
) -> Result<(String, Vec<String>)> {
    let by_uid = config
        .member_attributes
        .iter()
        .any(|attribute| is_uid(attribute));
    if native_id.contains('=') && !by_uid {
        let name = dn::normalize(native_id).map_err(ConnectorError::refused)?;
        return Ok((name, Vec::new()));
    }
    let account = entry_of(session, config, native_id, &["uid"], "account").await?;
    let name = dn::normalize(&account.dn).map_err(ConnectorError::refused)?;
    Ok((name, account.texts("uid").map(str::to_owned).collect()))
}

/// The entry with a native id. Not finding it is not the same as the grant being absent: it may only be hidden from us.
async fn entry_of(
    session: &mut Session,
    config: &LdapConfig,
    native_id: &str,
    attributes: &[&str],
    what: &str,
) -> Result<Entry> {
    let mut found = if native_id.contains('=') {
        dn::normalize(native_id).map_err(ConnectorError::refused)?;
        let found = session
            .lookup(native_id, "(objectClass=*)", attributes)
            .await?;
        found.into_iter().collect()
    } else {
        let value = escaped_id(config, native_id)?;
        let filter = format!("({}={value})", config.native_id_attribute);
        session
            .find(&config.base_dn, Scope::Subtree, &filter, attributes)
            .await?
    };
    match (found.pop(), found.is_empty()) {
        (Some(entry), true) => Ok(entry),
        (Some(_), false) => Err(ConnectorError::refused(format!(
            "{what} {native_id} is not one entry but several"
        ))),
        (None, _) => Err(ConnectorError::Refused {
            code: Some(code::NO_SUCH_OBJECT),
            reason: format!("{what} {native_id} is not there, or the writer may not see it"),
        }),
    }
}

fn escaped_id(config: &LdapConfig, native_id: &str) -> Result<String> {
    if !is_binary_id(&config.native_id_attribute) {
        return Ok(ldap_escape(native_id).into_owned());
    }
    let bytes = hex::decode(native_id).map_err(|_| {
        ConnectorError::refused(format!("{native_id} is not a native id of this source"))
    })?;
    Ok(bytes.iter().map(|byte| format!("\\{byte:02x}")).collect())
}
