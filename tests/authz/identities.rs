//! Who calls: everyone who must not get what is asked for. One line an identity.

use counterfoil_chassis::{Clock, Role};

use crate::{
    provider::{SHARED, Says},
    suite::Governed,
    wire::Headers,
};

/// What the services should take a caller for.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    /// Nobody they know.
    Nobody,
    /// A principal of the attacker's tenant with these roles.
    Attacker(&'static [Role]),
    /// A principal of the victim's own tenant with these roles.
    Victim(&'static [Role]),
    /// Someone of the deployment with these roles.
    Deployment(&'static [Role]),
    /// Somebody of a provider who names a tenant that they do not act for: there is none for them.
    Outsider,
    /// An AI agent of the attacker's tenant with these roles, and a mandate to observe.
    AttackerAgent(&'static [Role]),
    /// The same of the victim's own tenant.
    VictimAgent(&'static [Role]),
    /// Somebody of the victim's own provider with these roles, who lacks what the engagement asks for.
    Unqualified(&'static [Role]),
}

impl Who {
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Nobody | Self::Outsider => &[],
            Self::Attacker(roles)
            | Self::Victim(roles)
            | Self::AttackerAgent(roles)
            | Self::VictimAgent(roles)
            | Self::Deployment(roles)
            | Self::Unqualified(roles) => roles,
        }
    }
}

/// A caller.
#[derive(Debug, Clone)]
pub struct Identity {
    pub name: &'static str,
    pub who: Who,
    pub headers: Headers,
}

/// The tokens that identities are made of.
struct Cast {
    attacker: [String; 5],
    victim: [String; 4],
    /// Somebody of the attacker's provider.
    hired: String,
    /// Somebody of the victim's provider who has shown nothing.
    novice: String,
    /// The provider's own administrator, of the victim.
    manager: String,
    /// The ids of the attacker and the victim.
    tenants: [String; 2],
    ended: String,
    revoked: String,
    expired: String,
    services: [String; 4],
    admin: String,
    /// The attacker's, the victim's, and the victim's afterwards.
    urgent: [String; 3],
    /// The attacker's and the victim's, which observe, and then those without a mandate.
    agents: [String; 4],
    logins: Logins,
}

/// The tokens of identity providers.
struct Logins {
    own: String,
    claimed_tenant: String,
    other_issuer: String,
    other_key: String,
    audience: String,
    algorithm: String,
    unsigned: String,
    expired: String,
    unlinked: String,
}

const ALL: &[Role] = &[
    Role::TenantAdministrator,
    Role::Reviewer,
    Role::Operator,
    Role::Auditor,
];

type Row = (&'static str, Who, fn(&Cast) -> Headers);

/// The table: a name, what the services should take it for, and what it sends.
const IDENTITIES: &[Row] = &[
    ("no token", Who::Nobody, |_| vec![]),
    ("an empty token", Who::Nobody, |_| raw("")),
    ("garbage", Who::Nobody, |_| bearer("garbage")),
    ("a malformed checksum", Who::Nobody, |cast| {
        bearer(&flipped(&cast.victim[0]))
    }),
    ("a known id with another secret", Who::Nobody, |cast| {
        bearer(&forged(&cast.victim[0]))
    }),
    ("an expired token", Who::Nobody, |cast| {
        bearer(&cast.expired)
    }),
    ("a revoked token", Who::Nobody, |cast| bearer(&cast.revoked)),
    ("a principal that has ended", Who::Nobody, |cast| {
        bearer(&cast.ended)
    }),
    ("a token without its scheme", Who::Nobody, |cast| {
        raw(&cast.victim[0])
    }),
    ("a token under another scheme", Who::Nobody, |cast| {
        raw(&format!("Basic {}", cast.victim[0]))
    }),
    ("a token in another header", Who::Nobody, |cast| {
        vec![("x-authorization", format!("Bearer {}", cast.victim[0]))]
    }),
    ("a token as a cookie", Who::Nobody, |cast| {
        vec![("cookie", format!("authorization=Bearer {}", cast.victim[0]))]
    }),
    ("two tokens, the victim's last", Who::Nobody, |cast| {
        [bearer(&cast.attacker[0]), bearer(&cast.victim[0])].concat()
    }),
    ("two tokens, the victim's first", Who::Nobody, |cast| {
        [bearer(&cast.victim[0]), bearer(&cast.attacker[0])].concat()
    }),
    ("two tokens in one header", Who::Nobody, |cast| {
        raw(&format!(
            "Bearer {}, Bearer {}",
            cast.attacker[0], cast.victim[0]
        ))
    }),
    ("a JWT for another audience", Who::Nobody, |cast| {
        bearer(&cast.logins.audience)
    }),
    ("a JWT with another algorithm", Who::Nobody, |cast| {
        bearer(&cast.logins.algorithm)
    }),
    ("a JWT without a signature", Who::Nobody, |cast| {
        bearer(&cast.logins.unsigned)
    }),
    ("a JWT that has expired", Who::Nobody, |cast| {
        bearer(&cast.logins.expired)
    }),
    ("a JWT signed by another issuer", Who::Nobody, |cast| {
        bearer(&cast.logins.other_key)
    }),
    (
        "a JWT of an issuer of another tenant",
        Who::Nobody,
        |cast| bearer(&cast.logins.other_issuer),
    ),
    (
        "another tenant's subject that claims this one",
        Who::Nobody,
        |cast| bearer(&cast.logins.claimed_tenant),
    ),
    ("a subject that nobody linked", Who::Nobody, |cast| {
        bearer(&cast.logins.unlinked)
    }),
    (
        "another tenant's login with every role",
        Who::Attacker(ALL),
        |cast| bearer(&cast.logins.own),
    ),
    (
        "another tenant's administrator",
        Who::Attacker(&[Role::TenantAdministrator]),
        |cast| bearer(&cast.attacker[1]),
    ),
    (
        "another tenant's auditor",
        Who::Attacker(&[Role::Auditor]),
        |cast| bearer(&cast.attacker[2]),
    ),
    (
        "another tenant's reviewer",
        Who::Attacker(&[Role::Reviewer]),
        |cast| bearer(&cast.attacker[3]),
    ),
    (
        "another tenant's operator",
        Who::Attacker(&[Role::Operator]),
        |cast| bearer(&cast.attacker[4]),
    ),
    (
        "another tenant's operator of a provider",
        Who::Attacker(&[Role::Operator]),
        |cast| acting(&cast.hired, &[&cast.tenants[0]]),
    ),
    (
        "another tenant's operator of a provider, who names this one",
        Who::Outsider,
        |cast| acting(&cast.hired, &[&cast.tenants[1]]),
    ),
    (
        "an operator of a provider, who names two tenants",
        Who::Outsider,
        |cast| acting(&cast.hired, &[&cast.tenants[0], &cast.tenants[1]]),
    ),
    (
        "an operator of a provider, who names what is no tenant",
        Who::Outsider,
        |cast| acting(&cast.hired, &[&format!("tenants/{}", cast.tenants[1])]),
    ),
    (
        "an operator of a provider, who names nobody's tenant",
        Who::Outsider,
        |cast| acting(&cast.hired, &["nowhere-org"]),
    ),
    (
        "its provider's administrator, who is not assigned",
        Who::Outsider,
        |cast| acting(&cast.manager, &[&cast.tenants[1]]),
    ),
    (
        "its provider's operator without evidence",
        Who::Unqualified(&[Role::Operator]),
        |cast| acting(&cast.novice, &[&cast.tenants[1]]),
    ),
    (
        "another tenant's holder of every role",
        Who::Attacker(ALL),
        |cast| bearer(&cast.attacker[0]),
    ),
    (
        "another tenant's reviewer in an emergency",
        Who::Attacker(&[Role::Reviewer, Role::Auditor]),
        |cast| bearer(&cast.urgent[0]),
    ),
    (
        "its own reviewer in an emergency",
        Who::Victim(&[Role::Reviewer, Role::Auditor]),
        |cast| bearer(&cast.urgent[1]),
    ),
    (
        "its own reviewer after an emergency",
        Who::Victim(&[Role::Reviewer]),
        |cast| bearer(&cast.urgent[2]),
    ),
    (
        "another tenant's agent, which observes",
        Who::AttackerAgent(ALL),
        |cast| bearer(&cast.agents[0]),
    ),
    (
        "its own agent, which observes",
        Who::VictimAgent(ALL),
        |cast| bearer(&cast.agents[1]),
    ),
    (
        "another tenant's agent without a mandate",
        Who::Attacker(&[]),
        |cast| bearer(&cast.agents[2]),
    ),
    (
        "its own agent without a mandate",
        Who::Victim(&[]),
        |cast| bearer(&cast.agents[3]),
    ),
    ("its own auditor", Who::Victim(&[Role::Auditor]), |cast| {
        bearer(&cast.victim[1])
    }),
    ("its own reviewer", Who::Victim(&[Role::Reviewer]), |cast| {
        bearer(&cast.victim[2])
    }),
    ("its own operator", Who::Victim(&[Role::Operator]), |cast| {
        bearer(&cast.victim[3])
    }),
    (
        "the service inventory",
        Who::Deployment(&[Role::Service]),
        |cast| bearer(&cast.services[0]),
    ),
    (
        "the service recertification",
        Who::Deployment(&[Role::Service]),
        |cast| bearer(&cast.services[1]),
    ),
    (
        "the service reconciliation",
        Who::Deployment(&[Role::Service]),
        |cast| bearer(&cast.services[2]),
    ),
    (
        "the service ledger",
        Who::Deployment(&[Role::Service]),
        |cast| bearer(&cast.services[3]),
    ),
    (
        "the deployment's administrator",
        Who::Deployment(&[Role::Administrator]),
        |cast| bearer(&cast.admin),
    ),
];

/// All callers, with the tokens they have.
pub async fn all(governed: &Governed) -> Vec<Identity> {
    let (attacker, victim) = (&governed.attacker, &governed.victim);
    let token = async |world, id: &str| governed.issue(world, id).await.token;
    let cast = Cast {
        attacker: [
            token(attacker, "everything").await,
            token(attacker, "administrator").await,
            token(attacker, "auditor").await,
            token(attacker, "reviewer").await,
            token(attacker, "operations").await,
        ],
        victim: [
            token(victim, "everything").await,
            token(victim, "auditor").await,
            token(victim, "reviewer").await,
            token(victim, "operations").await,
        ],
        hired: attacker.text("operator_token").unwrap().to_owned(),
        novice: victim.text("novice_token").unwrap().to_owned(),
        manager: victim.text("provider_token").unwrap().to_owned(),
        tenants: [&attacker.id, &victim.id].map(Clone::clone),
        ended: governed.ended(victim).await,
        revoked: governed.revoked(victim).await,
        expired: governed.expired(victim).await,
        services: ["inventory", "recertification", "reconciliation", "ledger"]
            .map(|service| governed.token(service)),
        admin: governed.token("admin"),
        urgent: [
            governed.in_emergency(attacker, "urgent").await,
            governed.in_emergency(victim, "urgent").await,
            governed.after_emergency(victim, "calm").await,
        ],
        agents: [
            governed.observing(attacker).await,
            governed.observing(victim).await,
            token(attacker, "drone").await,
            token(victim, "drone").await,
        ],
        logins: logins(governed).await,
    };
    let identity = |(name, who, headers): &Row| Identity {
        name,
        who: *who,
        headers: headers(&cast),
    };
    IDENTITIES.iter().map(identity).collect()
}

/// The attacker's subject and the victim's are linked in their own tenants.
async fn logins(governed: &Governed) -> Logins {
    governed
        .link(&governed.attacker, "everything", "mallory")
        .await;
    governed.link(&governed.victim, "everything", "vera").await;
    let (attacker, victim) = (&governed.attacker.id, &governed.victim.id);
    let [shared, own] = &governed.providers;
    let now = Clock::system().now_ms() / 1_000;
    let vera = || Says::well(victim, "vera");
    let audience = Says {
        audience: "somebody else",
        ..vera()
    };
    let expired = Says { ttl: -1, ..vera() };
    let good = shared.token(&vera(), now);
    let (message, _) = good.rsplit_once('.').unwrap();
    Logins {
        own: shared.token(&Says::well(attacker, "mallory"), now),
        claimed_tenant: shared.token(&Says::well(victim, "mallory"), now),
        other_issuer: own.token(&vera(), now),
        other_key: own.signed(SHARED, "EdDSA", &vera(), now),
        audience: shared.token(&audience, now),
        algorithm: shared.signed(SHARED, "none", &vera(), now),
        unsigned: format!("{message}."),
        expired: shared.token(&expired, now),
        unlinked: shared.token(&Says::well(victim, "nobody"), now),
    }
}

fn raw(value: &str) -> Headers {
    vec![("authorization", value.to_owned())]
}

fn bearer(token: &str) -> Headers {
    raw(&format!("Bearer {token}"))
}

/// The token of somebody of a provider, and the tenants that they name.
fn acting(token: &str, tenants: &[&str]) -> Headers {
    let names = tenants.iter();
    let named = names.map(|tenant| ("counterfoil-tenant", (*tenant).to_owned()));
    bearer(token).into_iter().chain(named).collect()
}

/// The token with its last digit changed.
fn flipped(token: &str) -> String {
    let (body, last) = token.split_at(token.len() - 1);
    format!("{body}{}", if last == "0" { "1" } else { "0" })
}

/// A well-formed token with the id of this one and a secret that nobody was given.
fn forged(token: &str) -> String {
    let id = token.split('_').nth(1).unwrap_or_default();
    let body = format!("cft_{id}_{}", "5e".repeat(32));
    let checksum = !body.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    format!("{body}{checksum:08x}")
}
