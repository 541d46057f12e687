//! How a source is described, in TOML or JSON. Unknown keys are refused; secrets are only ever named by their file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::connector::Hash;
use crate::error::{ConnectorError, Result};
use crate::ldap::dn;
use crate::record::IdentityClass;

/// A source of accounts, entitlements and grants. The key `kind` says which one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SourceConfig {
    /// A directory of CSV files.
    Csv(CsvConfig),
    /// An LDAP directory.
    Ldap(Box<LdapConfig>),
}

/// A directory with accounts.csv, entitlements.csv, grants.csv and, if there are any, edges.csv and control.csv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvConfig {
    /// Required. The directory that the reader reads.
    pub directory: PathBuf,
    /// The directory that the writer changes, when it reaches the files by another path. Default: `directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_directory: Option<PathBuf>,
    /// The reader's name in the records. Default: `csv-reader@<directory's own name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_principal: Option<String>,
    /// The writer's name in the records. Default: `csv-writer@<directory's own name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_principal: Option<String>,
    /// How long a writer waits for another one to finish. Default: 10000.
    #[serde(default = "default_lock_timeout_ms")]
    pub lock_timeout_ms: u64,
    /// Set by [`SourceConfig::confine`], never by hand: the directory that all paths of this source lie below.
    /// Default: none, and any path may be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined_to: Option<PathBuf>,
}

/// A principal of an LDAP directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapBind {
    /// Required. The distinguished name to bind as.
    pub dn: String,
    /// Required. The file that holds the password; a trailing line end is not part of it. Read at every connection.
    pub password_file: PathBuf,
}

/// An LDAP directory: people are accounts, groups are entitlements, nested groups are edges, memberships are grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// Required. `ldap://host:port` or `ldaps://host:port`.
    pub url: String,
    /// Required. The entry below which everything is searched.
    pub base_dn: String,
    /// Required. Who reads.
    pub reader: LdapBind,
    /// Required. Who changes. Another distinguished name than the reader's.
    pub writer: LdapBind,
    /// Upgrade an `ldap://` connection to TLS before the bind. Default: false.
    #[serde(default)]
    pub starttls: bool,
    /// Send passwords in the clear to another machine. Default: false.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// How long connecting and binding may take, each. Default: 5000.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How long the target may stay silent during an operation. Default: 30000.
    #[serde(default = "default_operation_timeout_ms")]
    pub operation_timeout_ms: u64,
    /// Entries asked for at a time (RFC 2696), 1 to 1000. Default: 500.
    #[serde(default = "default_page_size")]
    pub page_size: u16,
    /// Which entries are accounts. Default: `(objectClass=person)`.
    #[serde(default = "default_account_filter")]
    pub account_filter: String,
    /// Which entries are entitlements. Default: groupOfNames, groupOfUniqueNames, group and posixGroup.
    #[serde(default = "default_group_filter")]
    pub group_filter: String,
    /// Attributes that name the members of a group: distinguished names, or uid values for memberUid.
    /// Default: `member`, `uniqueMember`, `memberUid`.
    #[serde(default = "default_member_attributes")]
    pub member_attributes: Vec<String>,
    /// The member put into a group that may not become empty when its last one is taken out. Never a real account.
    /// Default: none, and taking out the last member is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder_member: Option<String>,
    /// The attribute with an entry's stable id; where an entry has none, its normalised distinguished name is the id.
    /// Default: `entryUUID`.
    #[serde(default = "default_native_id_attribute")]
    pub native_id_attribute: String,
    /// Where the correlation key of an account's identity is; the first attribute with a value counts.
    /// Default: `mail`, `uid`.
    #[serde(default = "default_identity_attributes")]
    pub identity_attributes: Vec<String>,
    /// What an account or group is called; the first attribute with a value counts. Default: `displayName`, `cn`.
    #[serde(default = "default_display_name_attributes")]
    pub display_name_attributes: Vec<String>,
    /// Who answers for an account or group; the first attribute with a value counts.
    /// Default: `owner`, `managedBy`, `manager`.
    #[serde(default = "default_owner_attributes")]
    pub owner_attributes: Vec<String>,
    /// When an account was last used. Default: `authTimestamp`, `pwdLastSuccess`, `lastLogonTimestamp`.
    #[serde(default = "default_last_seen_attributes")]
    pub last_seen_attributes: Vec<String>,
    /// When the target will end an account. Default: `pwdEndTime`, `accountExpires`.
    #[serde(default = "default_expires_attributes")]
    pub expires_attributes: Vec<String>,
    /// Which accounts are disabled. Default: locked by ppolicy, by nsAccountLock, or by Active Directory.
    #[serde(default = "default_disabled_filter")]
    pub disabled_filter: String,
    /// Which groups are privileged. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged_group_filter: Option<String>,
    /// Which accounts are of another class than `workforce`. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub account_class_filters: BTreeMap<IdentityClass, String>,
    /// Set by [`SourceConfig::confine`], never by hand: the directory that all paths of this source lie below.
    /// Default: none, and any path may be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined_to: Option<PathBuf>,
}

fn default_lock_timeout_ms() -> u64 {
    10_000
}
fn default_connect_timeout_ms() -> u64 {
    5_000
}
fn default_operation_timeout_ms() -> u64 {
    30_000
}
fn default_page_size() -> u16 {
    500
}
fn default_account_filter() -> String {
    "(objectClass=person)".to_owned()
}
fn default_group_filter() -> String {
    "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=group)(objectClass=posixGroup))"
        .to_owned()
}
fn default_disabled_filter() -> String {
    "(|(pwdAccountLockedTime=000001010000Z)(nsAccountLock=TRUE)(userAccountControl:1.2.840.113556.1.4.803:=2))"
        .to_owned()
}
fn default_native_id_attribute() -> String {
    "entryUUID".to_owned()
}
fn default_member_attributes() -> Vec<String> {
    words(&["member", "uniqueMember", "memberUid"])
}
fn default_identity_attributes() -> Vec<String> {
    words(&["mail", "uid"])
}
fn default_display_name_attributes() -> Vec<String> {
    words(&["displayName", "cn"])
}
fn default_owner_attributes() -> Vec<String> {
    words(&["owner", "managedBy", "manager"])
}
fn default_last_seen_attributes() -> Vec<String> {
    words(&["authTimestamp", "pwdLastSuccess", "lastLogonTimestamp"])
}
fn default_expires_attributes() -> Vec<String> {
    words(&["pwdEndTime", "accountExpires"])
}
fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

impl SourceConfig {
    /// Checks everything that can be checked without the target.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the first wrong key.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Csv(config) => config.validate(),
            Self::Ldap(config) => config.validate(),
        }
    }

    /// The value of `kind`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Ldap(_) => "ldap",
        }
    }

    /// The reader's principal, as [`crate::Reader::principal`] tells it.
    #[must_use]
    pub fn reader_principal(&self) -> String {
        match self {
            Self::Csv(config) => config.reader_name(),
            Self::Ldap(config) => config.reader.dn.clone(),
        }
    }

    /// The writer's principal, as [`crate::Writer::principal`] tells it.
    #[must_use]
    pub fn writer_principal(&self) -> String {
        match self {
            Self::Csv(config) => config.writer_name(),
            Self::Ldap(config) => config.writer.dn.clone(),
        }
    }

    /// SHA-256 over the configuration as JSON with sorted keys and without spaces. Where a secret is kept is left out, so
    /// that moving the file is not a change of the source, and so is what the source is held to, which is the deployment's.
    #[must_use]
    pub fn config_hash(&self) -> Hash {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("confined_to");
        }
        for bind in ["reader", "writer"] {
            if let Some(object) = value
                .get_mut(bind)
                .and_then(serde_json::Value::as_object_mut)
            {
                object.remove("password_file");
            }
        }
        let mut canonical = String::new();
        write_canonical(&value, &mut canonical);
        Sha256::digest(canonical.as_bytes()).into()
    }
}

/// Keys sorted whatever the map type behind `serde_json` is.
fn write_canonical(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(object) => {
            let sorted: BTreeMap<&String, &serde_json::Value> = object.iter().collect();
            out.push('{');
            for (index, (key, inner)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(inner, out);
            }
            out.push('}');
        }
        serde_json::Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

impl CsvConfig {
    /// A source in `directory`, everything else by default.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            writer_directory: None,
            reader_principal: None,
            writer_principal: None,
            lock_timeout_ms: default_lock_timeout_ms(),
            confined_to: None,
        }
    }

    pub(crate) fn writer_path(&self) -> &Path {
        self.writer_directory.as_deref().unwrap_or(&self.directory)
    }

    pub(crate) fn reader_name(&self) -> String {
        self.reader_principal
            .clone()
            .unwrap_or_else(|| format!("csv-reader@{}", own_name(&self.directory)))
    }

    pub(crate) fn writer_name(&self) -> String {
        self.writer_principal
            .clone()
            .unwrap_or_else(|| format!("csv-writer@{}", own_name(&self.directory)))
    }

    pub(crate) fn lock_timeout(&self) -> Duration {
        Duration::from_millis(self.lock_timeout_ms)
    }

    fn validate(&self) -> Result<()> {
        if self.directory.as_os_str().is_empty() {
            return Err(ConnectorError::config("directory", "must not be empty"));
        }
        if self
            .writer_directory
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            return Err(ConnectorError::config(
                "writer_directory",
                "must not be empty when given",
            ));
        }
        let (reader, writer) = (self.reader_name(), self.writer_name());
        for (field, name) in [("reader_principal", &reader), ("writer_principal", &writer)] {
            if name.trim().is_empty() {
                return Err(ConnectorError::config(
                    field,
                    "must not be empty when given",
                ));
            }
            if let Some(reason) = crate::text::misleading(name) {
                return Err(ConnectorError::config(field, reason));
            }
        }
        if reader == writer {
            return Err(ConnectorError::config(
                "writer_principal",
                "must differ from the reader's: who acted may not be who confirms",
            ));
        }
        in_range("lock_timeout_ms", self.lock_timeout_ms, 1, 600_000)
    }
}

fn own_name(directory: &Path) -> String {
    directory.file_name().map_or_else(
        || "csv".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn in_range(field: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConnectorError::config(
        field,
        format!("must be from {least} to {most}, is {value}"),
    ))
}

impl LdapConfig {
    /// A source at `url`, everything else by default.
    #[must_use]
    pub fn new(
        url: impl Into<String>,
        base_dn: impl Into<String>,
        reader: LdapBind,
        writer: LdapBind,
    ) -> Self {
        Self {
            url: url.into(),
            base_dn: base_dn.into(),
            reader,
            writer,
            starttls: false,
            allow_plaintext: false,
            connect_timeout_ms: default_connect_timeout_ms(),
            operation_timeout_ms: default_operation_timeout_ms(),
            page_size: default_page_size(),
            account_filter: default_account_filter(),
            group_filter: default_group_filter(),
            member_attributes: default_member_attributes(),
            placeholder_member: None,
            native_id_attribute: default_native_id_attribute(),
            identity_attributes: default_identity_attributes(),
            display_name_attributes: default_display_name_attributes(),
            owner_attributes: default_owner_attributes(),
            last_seen_attributes: default_last_seen_attributes(),
            expires_attributes: default_expires_attributes(),
            disabled_filter: default_disabled_filter(),
            privileged_group_filter: None,
            account_class_filters: BTreeMap::new(),
            confined_to: None,
        }
    }

    fn validate(&self) -> Result<()> {
        self.validate_url()?;
        valid_dn("base_dn", &self.base_dn)?;
        let reader = valid_dn("reader.dn", &self.reader.dn)?;
        let writer = valid_dn("writer.dn", &self.writer.dn)?;
        if reader == writer {
            return Err(ConnectorError::config(
                "writer.dn",
                "must differ from reader.dn: who acted may not be who confirms",
            ));
        }
        if let Some(placeholder) = &self.placeholder_member {
            valid_dn("placeholder_member", placeholder)?;
        }
        in_range("page_size", u64::from(self.page_size), 1, 1_000)?;
        in_range("connect_timeout_ms", self.connect_timeout_ms, 1, 600_000)?;
        in_range(
            "operation_timeout_ms",
            self.operation_timeout_ms,
            1,
            3_600_000,
        )?;
        self.validate_filters()?;
        self.validate_attributes()
    }

    fn validate_url(&self) -> Result<()> {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", ""));
        let authority = rest.trim_end_matches('/');
        if !matches!(scheme, "ldap" | "ldaps")
            || authority.is_empty()
            || authority.contains(['/', '?', '@', ' '])
        {
            return Err(ConnectorError::config(
                "url",
                format!(
                    "must be ldap://host:port or ldaps://host:port, is {:?}",
                    self.url
                ),
            ));
        }
        let in_the_clear = scheme == "ldap" && !self.starttls && !self.allow_plaintext;
        if in_the_clear && !is_loopback(authority) {
            return Err(ConnectorError::config(
                "url",
                "sends passwords in the clear to another machine: use ldaps:// or starttls, or set allow_plaintext",
            ));
        }
        Ok(())
    }

    fn validate_filters(&self) -> Result<()> {
        let classes = self
            .account_class_filters
            .iter()
            .map(|(class, filter)| (format!("account_class_filters.{class:?}"), filter));
        let named = [
            ("account_filter".to_owned(), Some(&self.account_filter)),
            ("group_filter".to_owned(), Some(&self.group_filter)),
            ("disabled_filter".to_owned(), Some(&self.disabled_filter)),
            (
                "privileged_group_filter".to_owned(),
                self.privileged_group_filter.as_ref(),
            ),
        ];
        let named = named
            .into_iter()
            .filter_map(|(field, filter)| Some((field, filter?)));
        for (field, filter) in named.chain(classes) {
            if !filter.starts_with('(') || ldap3::parse_filter(filter).is_err() {
                return Err(ConnectorError::config(
                    field,
                    format!("is not an RFC 4515 filter in parentheses: {filter:?}"),
                ));
            }
        }
        Ok(())
    }

    fn validate_attributes(&self) -> Result<()> {
        if self.member_attributes.is_empty() {
            return Err(ConnectorError::config(
                "member_attributes",
                "must not be empty",
            ));
        }
        let lists = [
            ("member_attributes", self.member_attributes.as_slice()),
            (
                "native_id_attribute",
                std::slice::from_ref(&self.native_id_attribute),
            ),
            ("identity_attributes", &self.identity_attributes),
            ("display_name_attributes", &self.display_name_attributes),
            ("owner_attributes", &self.owner_attributes),
            ("last_seen_attributes", &self.last_seen_attributes),
            ("expires_attributes", &self.expires_attributes),
        ];
        for (field, names) in lists {
            for name in names {
                let valid = !name.is_empty()
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
                if !valid {
                    return Err(ConnectorError::config(
                        field,
                        format!("{name:?} is not an attribute name"),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The normalised form of a distinguished name that must not be empty.
fn valid_dn(field: &str, text: &str) -> Result<String> {
    match dn::normalize(text) {
        Ok(normal) if normal.is_empty() => Err(ConnectorError::config(field, "must not be empty")),
        Ok(normal) => Ok(normal),
        Err(reason) => Err(ConnectorError::config(field, format!("{reason}: {text:?}"))),
    }
}

/// Only literal addresses and `localhost` count: a name that happens to resolve to this machine may not tomorrow.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
