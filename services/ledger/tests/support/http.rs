//! Plain HTTP requests to the service, each with a connection of its own.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::Ledger;

/// Head without its date and request id, and body.
#[allow(dead_code, reason = "not every test file asks for both")]
pub(crate) async fn http(ledger: &Ledger, path: &str, token: Option<&str>) -> (String, Vec<u8>) {
    http_with(ledger, path, token, "").await
}

/// The same, with more headers, each ended by its line feed.
pub(crate) async fn http_with(
    ledger: &Ledger,
    path: &str,
    token: Option<&str>,
    headers: &str,
) -> (String, Vec<u8>) {
    let mut stream = tokio::net::TcpStream::connect(ledger.running.address())
        .await
        .unwrap();
    let authorization = token.map_or_else(String::new, |token| {
        format!("authorization: Bearer {token}\r\n")
    });
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{authorization}{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let lines: Vec<&str> = head
        .lines()
        .filter(|line| !line.starts_with("date:") && !line.starts_with("x-request-id:"))
        .collect();
    (lines.join("\n"), answer[end + 4..].to_vec())
}
