//! Taking members out of groups of a real OpenLDAP server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use counterfoil_connectors::testing::Slapd;
use counterfoil_connectors::{ConnectorError, LdapConfig, Reader, RevokeRequest, WriteOutcome};
use support::ldif::{options, reader, source, start, writer};
use support::{Everything, order, read_all, read_clean};

/// The order to take an account out of a group, both named as people name them.
async fn named(config: &LdapConfig, account: &str, group: &str) -> RevokeRequest {
    let all = read_clean(&source(config)).await;
    assert!(all.holds(account, group), "{account} in {group}");
    order(
        &all.account(account).native_id,
        &all.entitlement(group).native_id,
    )
}

async fn everything(config: &LdapConfig) -> Everything {
    read_all(reader(config).as_mut()).await.0
}

fn is_applied(outcome: WriteOutcome) -> bool {
    matches!(outcome, WriteOutcome::Applied { .. })
}

#[tokio::test]
async fn every_kind_of_membership_is_revoked_and_the_reader_no_longer_sees_it() {
    let slapd = start(&options());
    let config = slapd.config();
    let mut writer = writer(&config);
    let mut left = read_clean(&source(&config)).await.grants.len();
    for (account, group) in [
        ("Amy Wong", "crew"),
        ("Robot", "unique"),
        ("Doe, Jane", "posix"),
        ("Robot", "ad"),
        ("Doe, Jane", "all"),
    ] {
        let request = named(&config, account, group).await;
        let state = writer.grant_state(&request.grant()).await.unwrap();
        match writer.revoke(&request).await.unwrap() {
            WriteOutcome::Applied { before_hash, .. } => assert_eq!(Some(before_hash), state),
            WriteOutcome::AlreadyAbsent => panic!("{account} in {group}"),
        }
        assert!(!writer.read_grant(&request.grant()).await.unwrap());
        let all = read_clean(&source(&config)).await;
        assert!(!all.holds(account, group), "{account} in {group}");
        left -= 1;
        assert_eq!(all.grants.len(), left);
        assert_eq!(
            writer.revoke(&request).await.unwrap(),
            WriteOutcome::AlreadyAbsent
        );
    }
}

#[tokio::test]
async fn names_full_of_special_characters_hit_only_themselves() {
    let slapd = start(&options());
    let config = slapd.config();
    let request = named(&config, "Star (*) \\ Sky", "crew").await;
    assert!(is_applied(writer(&config).revoke(&request).await.unwrap()));
    let all = read_clean(&source(&config)).await;
    assert!(all.holds("Amy Wong", "crew"));
    assert_eq!(all.grants.len(), 8);
}

#[tokio::test]
async fn entries_without_an_id_are_revoked_by_their_name() {
    let slapd = start(&options().access("access to attrs=entryUUID by * none"));
    let mut config = slapd.config();
    let request = named(&config, "Amy Wong", "crew").await;
    assert!(
        request
            .account_native_id
            .starts_with("cn=amy wong+sn=kroker,")
    );
    config.member_attributes = vec!["member".to_owned()];
    assert!(is_applied(writer(&config).revoke(&request).await.unwrap()));
    assert!(!everything(&config).await.holds("Amy Wong", "crew"));
}

#[tokio::test]
async fn the_last_member_is_refused_unless_a_placeholder_may_take_its_place() {
    let slapd = start(&options());
    let mut config = slapd.config();
    let request = named(&config, "Robot", "last").await;
    let error = writer(&config).revoke(&request).await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::Refused { code: Some(65), .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("configure placeholder_member"),
        "{error}"
    );
    assert!(everything(&config).await.holds("Robot", "last"));

    config.placeholder_member = Some("cn=placeholder,dc=example,dc=com".to_owned());
    assert!(is_applied(writer(&config).revoke(&request).await.unwrap()));
    // The placeholder is no grant, no error, and not counted.
    let all = read_clean(&source(&config)).await;
    assert!(!all.holds("Robot", "last"));
    assert_eq!(all.grants.len(), 8);
}

#[tokio::test]
async fn a_writer_without_the_right_is_refused_with_the_servers_code() {
    let slapd = start(&options());
    let mut config = slapd.config();
    let request = named(&config, "Amy Wong", "crew").await;
    let reader = config.reader.clone();
    config.reader = config.writer.clone();
    config.writer = reader;
    let error = writer(&config).revoke(&request).await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::Refused { code: Some(50), .. }),
        "{error}"
    );

    std::fs::write(&config.writer.password_file, "wrong").unwrap();
    let error = writer(&config).revoke(&request).await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::Refused { code: Some(49), .. }),
        "{error}"
    );
    assert!(everything(&slapd.config()).await.accounts.is_empty());
}

#[tokio::test]
async fn what_the_writer_cannot_see_is_refused_and_never_taken_for_absent() {
    let slapd = start(&options());
    let config = slapd.config();
    let request = named(&config, "Amy Wong", "crew").await;
    let unknown = "00000000-0000-0000-0000-000000000000";
    for request in [
        order(unknown, &request.entitlement_native_id),
        order(&request.account_native_id, unknown),
        order("*", &request.entitlement_native_id),
        order(&request.account_native_id, "*)(objectClass=*"),
    ] {
        let error = writer(&config).revoke(&request).await.unwrap_err();
        assert!(matches!(error, ConnectorError::Refused { .. }), "{error}");
        assert!(writer(&config).read_grant(&request.grant()).await.is_err());
    }
    assert!(everything(&config).await.holds("Amy Wong", "crew"));
}

#[tokio::test]
async fn an_order_for_something_that_has_changed_is_refused() {
    let slapd = start(&options());
    let config = slapd.config();
    let mut request = named(&config, "Amy Wong", "crew").await;
    request.expected_before = Some([1; 32]);
    let mut writer = writer(&config);
    let error = writer.revoke(&request).await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::Refused { code: None, .. }),
        "{error}"
    );
    request.expected_before = writer.grant_state(&request.grant()).await.unwrap();
    assert!(is_applied(writer.revoke(&request).await.unwrap()));
}

#[tokio::test]
async fn many_are_revoked_over_one_connection_and_one_failure_stops_no_other() {
    let slapd = start(&options());
    let config = slapd.config();
    let orders = [
        named(&config, "Amy Wong", "crew").await,
        named(&config, "Robot", "last").await,
        named(&config, "Doe, Jane", "unique").await,
    ];
    let results = writer(&config).revoke_many(&orders).await;
    assert!(is_applied(*results[0].as_ref().unwrap()));
    assert!(matches!(results[1], Err(ConnectorError::Refused { .. })));
    assert!(is_applied(*results[2].as_ref().unwrap()));
}

#[tokio::test]
async fn a_connection_that_died_between_two_orders_is_replaced() {
    let slapd = start(&options());
    let proxy = Proxy::start(&slapd, Lost::Nothing);
    let mut config = slapd.config();
    config.url = proxy.url.clone();
    let orders = [
        named(&config, "Amy Wong", "crew").await,
        named(&config, "Robot", "ad").await,
    ];
    let mut writer = writer(&config);
    assert!(is_applied(writer.revoke(&orders[0]).await.unwrap()));
    proxy.drop_connections();
    assert!(is_applied(writer.revoke(&orders[1]).await.unwrap()));
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_not_attempted() {
    let mut slapd = start(&options());
    let config = slapd.config();
    let request = named(&config, "Amy Wong", "crew").await;
    slapd.kill().unwrap();
    let error = writer(&config).revoke(&request).await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::NotAttempted { .. }),
        "{error}"
    );
}

/// The modify reaches the server and its answer never comes back: only a read can tell, and it does.
async fn answer_lost(lost: Lost) {
    let slapd = start(&options());
    let proxy = Proxy::start(&slapd, lost);
    let mut config = slapd.config();
    let request = named(&config, "Amy Wong", "crew").await;
    config.url = proxy.url.clone();
    config.operation_timeout_ms = 500;
    let mut writer = writer(&config);
    let error = writer.revoke(&request).await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
    assert!(!writer.read_grant(&request.grant()).await.unwrap());
    assert_eq!(
        writer.revoke(&request).await.unwrap(),
        WriteOutcome::AlreadyAbsent
    );
    assert!(!everything(&slapd.config()).await.holds("Amy Wong", "crew"));
}

#[tokio::test]
async fn a_connection_dropped_after_the_modify_is_ambiguous_and_a_read_settles_it() {
    answer_lost(Lost::ConnectionDropped).await;
}

#[tokio::test]
async fn a_timeout_after_the_modify_is_ambiguous_and_a_read_settles_it() {
    answer_lost(Lost::Silence).await;
}

#[tokio::test]
async fn a_target_that_says_nothing_while_it_is_read_is_not_attempted() {
    let slapd = start(&options());
    let mut config = slapd.config();
    let orders = [
        named(&config, "Amy Wong", "crew").await,
        named(&config, "Robot", "ad").await,
    ];
    config.operation_timeout_ms = 300;
    config.connect_timeout_ms = 300;
    let mut writer = writer(&config);
    assert!(is_applied(writer.revoke(&orders[0]).await.unwrap()));
    slapd.pause().unwrap();
    let error = writer.revoke(&orders[1]).await.unwrap_err();
    assert!(
        matches!(error, ConnectorError::NotAttempted { .. }),
        "{error}"
    );
    slapd.resume().unwrap();
    assert!(is_applied(writer.revoke(&orders[1]).await.unwrap()));
}

#[tokio::test]
async fn the_writer_is_not_the_reader() {
    let slapd = start(&options());
    let config = slapd.config();
    let (mut reader, mut writer) = (reader(&config), writer(&config));
    assert_ne!(reader.principal(), writer.principal());
    let report: &mut dyn Reader = reader.as_mut();
    assert_eq!(report.probe().await.unwrap().principal, config.reader.dn);
    assert_eq!(writer.probe().await.unwrap().principal, config.writer.dn);
}

/// Application tag 6, constructed: a modify request (RFC 4511 4.6).
const MODIFY_REQUEST: u8 = 0x66;

/// What happens to the answer of a modify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Nothing,
    Silence,
    ConnectionDropped,
}

/// Stands between client and server and passes everything on, but may lose what the server answers to a modify.
struct Proxy {
    url: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(slapd: &Slapd, lost: Lost) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ldap://{}", listener.local_addr().unwrap());
        let open = Arc::new(Mutex::new(Vec::new()));
        let (kept, address) = (open.clone(), slapd.address());
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(address).unwrap();
                kept.lock().unwrap().push(client.try_clone().unwrap());
                thread::spawn(move || relay(client, server, lost));
            }
        });
        Self { url, open }
    }

    fn drop_connections(&self) {
        for connection in self.open.lock().unwrap().drain(..) {
            // Those that ended by themselves are not connected any more.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn relay(mut client: TcpStream, mut server: TcpStream, lost: Lost) {
    let (back, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let modified = Arc::new(AtomicBool::new(false));
    let seen = modified.clone();
    thread::spawn(move || answer(from_server, back, &seen, lost));
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        // SEQUENCE, its length in one byte or more, messageID (02 01 xx), then the operation's tag.
        let length_bytes = if buffer[1] < 0x80 {
            1
        } else {
            1 + usize::from(buffer[1] & 0x7f)
        };
        if buffer[1 + length_bytes + 3] == MODIFY_REQUEST {
            modified.store(true, Ordering::SeqCst);
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn answer(mut server: TcpStream, mut client: TcpStream, modified: &AtomicBool, lost: Lost) {
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        match lost {
            Lost::ConnectionDropped if modified.load(Ordering::SeqCst) => break,
            Lost::Silence if modified.load(Ordering::SeqCst) => {}
            _ => {
                if client.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}
