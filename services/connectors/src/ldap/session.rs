//! A bound connection to a directory server, and searching over it page by page.
//!
//! A session belongs to one principal. Nothing is sent after an operation timed out or the connection died: the session is
//! thrown away and the next operation opens another one.

use std::fs;
use std::time::Duration;

use ldap3::controls::{MakeCritical, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchStream};

use crate::config::{LdapBind, LdapConfig};
use crate::error::{ConnectorError, Result};
use crate::ldap::entry::{Entry, Found, page_cookie};

const ASSERTION: &str = "1.3.6.1.1.12";
const POST_READ: &str = "1.3.6.1.1.13.2";

/// Result codes of RFC 4511, appendix A, that are told apart.
pub(crate) mod code {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const OPERATIONS_ERROR: u32 = 1;
    pub(crate) const TIME_LIMIT_EXCEEDED: u32 = 3;
    pub(crate) const AUTH_METHOD_NOT_SUPPORTED: u32 = 7;
    pub(crate) const STRONGER_AUTH_REQUIRED: u32 = 8;
    pub(crate) const REFERRAL: u32 = 10;
    pub(crate) const CONFIDENTIALITY_REQUIRED: u32 = 13;
    pub(crate) const NO_SUCH_ATTRIBUTE: u32 = 16;
    pub(crate) const NO_SUCH_OBJECT: u32 = 32;
    pub(crate) const INAPPROPRIATE_AUTH: u32 = 48;
    pub(crate) const INVALID_CREDENTIALS: u32 = 49;
    pub(crate) const INSUFFICIENT_ACCESS: u32 = 50;
    pub(crate) const BUSY: u32 = 51;
    pub(crate) const UNAVAILABLE: u32 = 52;
    pub(crate) const OBJECT_CLASS_VIOLATION: u32 = 65;
    pub(crate) const OTHER: u32 = 80;
    pub(crate) const ASSERTION_FAILED: u32 = 122;
}

/// A bound connection.
pub(crate) struct Session {
    ldap: Ldap,
    principal: String,
    target: String,
    timeout: Duration,
    /// The server honours the assertion control, RFC 4528.
    pub(crate) has_assertion: bool,
    /// The server answers the post-read control, RFC 4527.
    pub(crate) has_post_read: bool,
    /// What the server calls itself, if it tells.
    pub(crate) vendor: Option<String>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Session");
        shown
            .field("principal", &self.principal)
            .field("target", &self.target);
        shown.finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, binds, and asks what the server can do.
    pub(crate) async fn open(config: &LdapConfig, bind: &LdapBind) -> Result<Self> {
        let password = password(bind)?;
        let timeout = Duration::from_millis(config.connect_timeout_ms);
        let unreachable = |reason: String| ConnectorError::Unreachable {
            target: config.url.clone(),
            reason,
        };
        let settings = LdapConnSettings::new()
            .set_conn_timeout(timeout)
            .set_starttls(config.starttls);
        let connecting =
            tokio::time::timeout(timeout, LdapConnAsync::with_settings(settings, &config.url));
        let (connection, mut ldap) = connecting
            .await
            .map_err(|_| unreachable(format!("no connection within {} ms", timeout.as_millis())))?
            .map_err(|error| unreachable(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "LDAP connection ended");
            }
        });
        let bound = ldap
            .with_timeout(timeout)
            .simple_bind(&bind.dn, &password)
            .await;
        let result = bound.map_err(|error| unreachable(format!("bind: {error}")))?;
        if result.rc != code::SUCCESS {
            return Err(search_failed(&bind.dn, &config.url, "bind", &result));
        }
        let mut session = Self {
            ldap,
            principal: bind.dn.clone(),
            target: config.url.clone(),
            timeout: Duration::from_millis(config.operation_timeout_ms),
            has_assertion: false,
            has_post_read: false,
            vendor: None,
        };
        session.ask_features().await?;
        Ok(session)
    }

    async fn ask_features(&mut self) -> Result<()> {
        let attributes = ["supportedControl", "vendorName", "vendorVersion"];
        // A server may hide its root entry; then we do without what it could have offered.
        let root = self
            .lookup("", "(objectClass=*)", &attributes)
            .await?
            .unwrap_or_default();
        let offers = |oid: &str| root.texts("supportedControl").any(|offered| offered == oid);
        self.has_assertion = offers(ASSERTION);
        self.has_post_read = offers(POST_READ);
        let vendor: Vec<&str> = root
            .texts("vendorName")
            .chain(root.texts("vendorVersion"))
            .collect();
        self.vendor = (!vendor.is_empty()).then(|| vendor.join(" "));
        Ok(())
    }

    /// The handle for an operation that changes something, with the time limit set.
    pub(crate) fn operation(&mut self) -> &mut Ldap {
        self.ldap.with_timeout(self.timeout)
    }

    /// One entry by its name, `None` when it is not there, hidden, or outside the filter.
    pub(crate) async fn lookup(
        &mut self,
        dn: &str,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Option<Entry>> {
        let mut found = self.find(dn, Scope::Base, filter, attributes).await?;
        Ok(found.pop())
    }

    /// A handful of entries. More than fit into one answer are an error of the server's making.
    pub(crate) async fn find(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Vec<Entry>> {
        let target = self.target.clone();
        let lost = |error: LdapError| ConnectorError::Unreachable {
            target: target.clone(),
            reason: error.to_string(),
        };
        let searched = self
            .operation()
            .search(base, scope, filter, attributes)
            .await;
        let ldap3::SearchResult(found, result) = searched.map_err(lost)?;
        if result.rc == code::NO_SUCH_OBJECT {
            return Ok(Vec::new());
        }
        if result.rc != code::SUCCESS {
            return Err(search_failed(&self.principal, &self.target, base, &result));
        }
        let entries = found
            .into_iter()
            .filter_map(|item| match Found::from_wire(item) {
                Some(Found::Entry(entry)) => Some(entry),
                _ => None,
            });
        Ok(entries.collect())
    }

    /// Starts a search of a whole subtree.
    pub(crate) fn pages<'s>(
        &'s mut self,
        base: &str,
        filter: &str,
        attributes: &[String],
        page_size: u16,
    ) -> Pages<'s> {
        Pages {
            session: self,
            base: base.to_owned(),
            filter: filter.to_owned(),
            attributes: attributes.to_vec(),
            page_size: i32::from(page_size),
            cookie: Some(Vec::new()),
            stream: None,
        }
    }

    /// Says good-bye. Whether it is heard does not matter.
    pub(crate) async fn close(mut self) {
        if let Err(error) = self.operation().unbind().await {
            tracing::debug!(%error, "LDAP unbind");
        }
    }
}

/// A search that asks for the next page when the last one has been taken, so that no more than a page is ever on its way.
pub(crate) struct Pages<'s> {
    session: &'s mut Session,
    base: String,
    filter: String,
    attributes: Vec<String>,
    page_size: i32,
    /// Asks for the next page; `None` after the last.
    cookie: Option<Vec<u8>>,
    stream: Option<SearchStream<'static, String, Vec<String>>>,
}

impl Pages<'_> {
    /// The next entry or referral, `None` at the end. An error means that the rest was not seen.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>> {
        loop {
            let Some(stream) = &mut self.stream else {
                let Some(cookie) = self.cookie.take() else {
                    return Ok(None);
                };
                self.start_page(cookie).await?;
                continue;
            };
            match stream.next().await {
                Ok(Some(item)) => {
                    if let Some(found) = Found::from_wire(item) {
                        return Ok(Some(found));
                    }
                }
                Ok(None) => self.end_page().await?,
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    async fn start_page(&mut self, cookie: Vec<u8>) -> Result<()> {
        let control = PagedResults {
            size: self.page_size,
            cookie,
        };
        let started = self
            .session
            .operation()
            .with_controls(control.critical())
            .streaming_search(
                &self.base,
                Scope::Subtree,
                &self.filter,
                self.attributes.clone(),
            )
            .await;
        match started {
            Ok(stream) => {
                self.stream = Some(stream);
                Ok(())
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    async fn end_page(&mut self) -> Result<()> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(());
        };
        let result = stream.finish().await;
        if result.rc != code::SUCCESS {
            let Session {
                principal, target, ..
            } = &*self.session;
            return Err(search_failed(principal, target, &self.base, &result));
        }
        self.cookie = page_cookie(&result.ctrls).filter(|cookie| !cookie.is_empty());
        Ok(())
    }

    fn lost(&self, error: &LdapError) -> ConnectorError {
        ConnectorError::Unreachable {
            target: self.session.target.clone(),
            reason: error.to_string(),
        }
    }
}

/// Whether a result code says that the principal may not.
fn is_denial(rc: u32) -> bool {
    matches!(
        rc,
        code::AUTH_METHOD_NOT_SUPPORTED
            | code::STRONGER_AUTH_REQUIRED
            | code::CONFIDENTIALITY_REQUIRED
            | code::INAPPROPRIATE_AUTH
            | code::INVALID_CREDENTIALS
            | code::INSUFFICIENT_ACCESS
    )
}

fn search_failed(principal: &str, target: &str, base: &str, result: &LdapResult) -> ConnectorError {
    let reason = describe(result);
    match result.rc {
        rc if is_denial(rc) => ConnectorError::AccessDenied {
            principal: principal.to_owned(),
            code: rc,
            reason,
        },
        // A server answers the same when the entry is missing and when it may not be seen.
        code::NO_SUCH_OBJECT => ConnectorError::AccessDenied {
            principal: principal.to_owned(),
            code: result.rc,
            reason: format!("{base:?} is not there, or this principal may not see it"),
        },
        code::BUSY | code::UNAVAILABLE => ConnectorError::Unreachable {
            target: target.to_owned(),
            reason,
        },
        rc => ConnectorError::unreadable(base, format!("{reason} (result code {rc})")),
    }
}

/// The server's answer in words.
pub(crate) fn describe(result: &LdapResult) -> String {
    let name = match result.rc {
        code::OPERATIONS_ERROR => "operations error",
        code::TIME_LIMIT_EXCEEDED => "time limit exceeded",
        4 => {
            "size limit exceeded, so not everything was sent; slapd wants size.prtotal=unlimited in the reader's limits"
        }
        code::STRONGER_AUTH_REQUIRED => "stronger authentication required",
        code::REFERRAL => "referral to another server, which is not followed",
        11 => "administrative limit exceeded, so not everything was sent",
        12 => "unavailable critical extension",
        code::CONFIDENTIALITY_REQUIRED => "confidentiality required",
        code::NO_SUCH_ATTRIBUTE => "no such attribute",
        19 => "constraint violation",
        code::NO_SUCH_OBJECT => "no such object",
        code::INAPPROPRIATE_AUTH => "inappropriate authentication",
        code::INVALID_CREDENTIALS => "invalid credentials",
        code::INSUFFICIENT_ACCESS => "insufficient access",
        code::BUSY => "busy",
        code::UNAVAILABLE => "unavailable",
        53 => "unwilling to perform",
        code::OBJECT_CLASS_VIOLATION => "object class violation",
        code::OTHER => "other error",
        code::ASSERTION_FAILED => "assertion failed",
        _ => "refused",
    };
    let mut words = name.to_owned();
    for detail in
        std::iter::once(result.text.as_str()).chain(result.refs.iter().map(String::as_str))
    {
        if !detail.is_empty() {
            words.push_str(": ");
            words.extend(
                detail
                    .chars()
                    .filter(|character| !character.is_control())
                    .take(300),
            );
        }
    }
    words
}

/// The password without its line end. An empty one would bind as nobody, and succeed (RFC 4513 5.1.2).
fn password(bind: &LdapBind) -> Result<String> {
    let wrong =
        |reason: String| ConnectorError::config(format!("password_file of {}", bind.dn), reason);
    let text = fs::read_to_string(&bind.password_file)
        .map_err(|error| wrong(format!("{}: {error}", bind.password_file.display())))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(wrong(format!("{} is empty", bind.password_file.display())));
    }
    Ok(password.to_owned())
}
