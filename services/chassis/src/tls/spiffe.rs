//! SPIFFE ids: `spiffe://{deployment}/services/{service}` and `spiffe://{deployment}/clients/{client}`.

use std::fmt;

/// Longest name of a service or client.
const NAME_CHARS_MAX: usize = 63;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A service of the deployment: the certificate alone says who calls.
    Service,
    /// A machine of a customer: it says nothing about who calls, but a token may be bound to it.
    Client,
}

impl Holder {
    /// First segment of the path.
    const fn segment(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Client => "clients",
        }
    }
}

/// Name of a certificate's holder. Read strictly: one spelling an id, so that ids are compared as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    trust_domain: String,
    holder: Holder,
    name: String,
}

impl SpiffeId {
    /// The id of a holder in a deployment. `None`: the name or the deployment cannot be part of one.
    #[must_use]
    pub fn new(deployment: &str, holder: Holder, name: &str) -> Option<Self> {
        Self::parse(&format!(
            "spiffe://{deployment}/{}/{name}",
            holder.segment()
        ))
    }

    /// Reads an id. `None`: it is none of ours.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("spiffe://")?;
        let (trust_domain, path) = rest.split_once('/')?;
        let (segment, name) = path.split_once('/')?;
        let holder = [Holder::Service, Holder::Client]
            .into_iter()
            .find(|holder| holder.segment() == segment)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_domain = !trust_domain.is_empty()
            && trust_domain.len() <= 255
            && trust_domain.bytes().all(|byte| plain(byte) || byte == b'.');
        let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
            && !name.starts_with('-')
            && name.bytes().all(plain);
        (is_domain && is_name).then(|| Self {
            trust_domain: trust_domain.to_owned(),
            holder,
            name: name.to_owned(),
        })
    }

    /// The deployment.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// What the certificate is for.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// The bare name of the service or client.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How callers and records name a service: "services/{service}".
    #[must_use]
    pub fn principal(&self) -> String {
        format!("{}/{}", self.holder.segment(), self.name)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.principal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_is_written() {
        let id = SpiffeId::new("counterfoil.example", Holder::Service, "ledger").unwrap();
        assert_eq!(
            id.to_string(),
            "spiffe://counterfoil.example/services/ledger"
        );
        assert_eq!(SpiffeId::parse(&id.to_string()), Some(id.clone()));
        assert_eq!(id.principal(), "services/ledger");
    }

    #[test]
    fn what_has_two_spellings_or_another_shape_is_no_id() {
        for uri in [
            "",
            "https://counterfoil.example/services/ledger",
            "spiffe://counterfoil.example/services/",
            "spiffe://counterfoil.example/services/ledger/",
            "spiffe://counterfoil.example/services/ledger/x",
            "spiffe://counterfoil.example/services/Ledger",
            "spiffe://counterfoil.example/services/l%65dger",
            "spiffe://counterfoil.example/services/ledger?x",
            "spiffe://counterfoil.example/services/ledger#x",
            "spiffe://counterfoil.example/services/..",
            "spiffe://counterfoil.example:443/services/ledger",
            "spiffe://x@counterfoil.example/services/ledger",
            "spiffe://Counterfoil.example/services/ledger",
            "spiffe:///services/ledger",
            "spiffe://counterfoil.example/operators/admin",
            "spiffe://counterfoil.example//services/ledger",
        ] {
            assert_eq!(SpiffeId::parse(uri), None, "{uri}");
        }
    }
}
