//! The whole suite in this process, with two tenants that are governed whole: an attacker and a victim.

use std::path::PathBuf;

use counterfoil::{
    client::Clients,
    quickstart,
    up::{Options, Suite},
};
use counterfoil_chassis::{Clock, testing::postgres};
use counterfoil_proto::authority::{
    Autonomy, EndPrincipalRequest, IssueTokenRequest, IssueTokenResponse, LinkLoginRequest,
    ListDecisionRightsRequest, RevokeTokenRequest,
};
use prost_reflect::DynamicMessage;
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use crate::{
    agents,
    api::{self, Rpc},
    digest::{self, Databases},
    estate, partner,
    provider::{OWN, Provider, SHARED},
    synth,
    wire::{self, Answer, Headers},
    world::World,
};

/// Whose callers try to get in.
pub const ATTACKER: &str = "mallory-corp";
/// Whose data it is.
pub const VICTIM: &str = "victim-corp";

/// What a test cannot ask for well: the request would need a producer's key.
const REFUSED_ANYWAY: [&str; 4] = ["RegisterProducer", "Append", "AppendBatch", "AppendStream"];

/// Two tenants and their callers.
pub struct Governed {
    pub rpcs: Vec<Rpc>,
    pub attacker: World,
    pub victim: World,
    pub databases: Databases,
    /// Of the PostgreSQL; `None` on SQLite.
    pub database_url: Option<String>,
    /// The one that speaks for both tenants, and the attacker's own.
    pub providers: [Provider; 2],
    suite: Suite,
    channels: std::collections::BTreeMap<String, Channel>,
    pub folder: TempDir,
    soon: i64,
}

impl Governed {
    pub async fn on_sqlite() -> Self {
        Self::start(None).await
    }

    /// On a PostgreSQL with the roles of `deploy/postgres/roles.sql`.
    pub async fn on_postgres() -> Self {
        Self::on_postgres_as(["counterfoil_app", "counterfoil_owner"].map(str::to_owned)).await
    }

    /// The same, as these two roles: whom services work as, and who owns their tables. A password may follow after a colon.
    pub async fn on_postgres_as(roles: [String; 2]) -> Self {
        let url = postgres::create_database().await;
        let superuser = postgres::as_superuser(&url);
        digest::run(&superuser, include_str!("../../deploy/postgres/roles.sql")).await;
        Self::start(Some((url, roles))).await
    }

    /// "SQLite" or "PostgreSQL".
    pub fn engine(&self) -> &'static str {
        if self.database_url.is_some() {
            "PostgreSQL"
        } else {
            "SQLite"
        }
    }

    async fn start(database: Option<(String, [String; 2])>) -> Self {
        let role = |at: usize| {
            let database = database.as_ref();
            database.map(|(url, roles)| postgres::as_role(url, &roles[at]))
        };
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let options = Options {
            data_dir: data_dir.clone(),
            database_url: role(0),
            migration_database_url: role(1),
            publish_url: None,
            any_port: true,
            deployment: None,
        };
        let providers = [Provider::new(SHARED), Provider::new(OWN)];
        let tenants: [&[&str]; 2] = [&[ATTACKER, VICTIM], &[ATTACKER]];
        let named: Vec<_> = providers.iter().zip(tenants).collect();
        Provider::announce(&data_dir, &named);
        let suite = Suite::start(&options).await.unwrap();
        let database_url = database.map(|(url, _)| url);
        let superuser = database_url.as_deref().map(postgres::as_superuser);
        let databases = Databases::open(&data_dir, superuser.as_deref()).await;
        let channels = suite.endpoints.services.iter().map(|(service, url)| {
            let channel = Channel::from_shared(url.clone()).unwrap().connect_lazy();
            (service.clone(), channel)
        });
        let mut governed = Self {
            rpcs: api::all(),
            attacker: World::new(ATTACKER, "canary-of-mallory"),
            victim: World::new(VICTIM, "canary-of-victim"),
            databases,
            database_url,
            providers,
            channels: channels.collect(),
            suite,
            folder,
            soon: Clock::system().now_ms() / 1_000 + 20 * 86_400,
        };
        let (attacker, victim) = (governed.attacker.clone(), governed.victim.clone());
        let (attacker, victim) = tokio::join!(governed.govern(attacker), governed.govern(victim));
        governed.attacker = attacker;
        governed.victim = victim;
        governed.databases.settled().await;
        governed
    }

    pub async fn stop(self) {
        drop(self.stop_and_keep().await);
    }

    /// Stops the services; their folder stays as long as the answer.
    pub async fn stop_and_keep(self) -> TempDir {
        self.databases.close().await;
        self.suite.stop().await.unwrap();
        self.folder
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Clients of the deployment's administrator.
    pub fn admin(&self) -> Clients {
        Clients::open(&self.suite.endpoints, &self.token("admin")).unwrap()
    }

    /// Clients of the tenant's accountable owner, who governs it once it is active.
    pub fn customer(&self, world: &World) -> Clients {
        let file = format!("{}/keys/tenant-{}.token", world.id, world.id);
        let token = std::fs::read_to_string(self.folder.path().join(file)).unwrap();
        Clients::open(&self.suite.endpoints, token.trim()).unwrap()
    }

    /// The token of a service, or of "admin".
    pub fn token(&self, file: &str) -> String {
        let path = self.data_dir().join("keys").join(format!("{file}.token"));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// A new token of a principal of `world`.
    pub async fn issue(&self, world: &World, id: &str) -> IssueTokenResponse {
        self.issue_for(world, id, 3_600).await
    }

    /// A token that lives for so long: one of an hour issues none that lives longer, and links no login.
    async fn issue_for(&self, world: &World, id: &str, ttl_seconds: i64) -> IssueTokenResponse {
        let request = IssueTokenRequest {
            principal: format!("{}/principals/{}-{id}", world.name(), world.id),
            ttl_seconds,
            ..IssueTokenRequest::default()
        };
        let answer = self
            .customer(world)
            .principals()
            .unwrap()
            .issue_token(request)
            .await;
        answer.unwrap().into_inner()
    }

    /// Links a subject of the shared provider to a principal of `world`.
    pub async fn link(&self, world: &World, id: &str, subject: &str) {
        let request = LinkLoginRequest {
            principal: format!("{}/principals/{}-{id}", world.name(), world.id),
            issuer: SHARED.to_owned(),
            subject: subject.to_owned(),
            request_id: String::new(),
        };
        let customer = self.customer(world);
        let mut credentials = customer.credentials().unwrap();
        credentials.link_login(request).await.unwrap();
    }

    /// A token of someone who has ended since.
    pub async fn ended(&self, world: &World) -> String {
        let token = self.issue(world, "leaver").await.token;
        let request = EndPrincipalRequest {
            name: format!("{}/principals/{}-leaver", world.name(), world.id),
            request_id: String::new(),
        };
        let mut principals = self.customer(world).principals().unwrap();
        principals.end_principal(request).await.unwrap();
        token
    }

    /// A token that was revoked.
    pub async fn revoked(&self, world: &World) -> String {
        let issued = self.issue(world, "lapsed").await;
        let request = RevokeTokenRequest {
            tenant: world.name(),
            token_id: issued.token_id,
        };
        let mut principals = self.customer(world).principals().unwrap();
        principals.revoke_token(request).await.unwrap();
        issued.token
    }

    /// A token whose time is over.
    pub async fn expired(&self, world: &World) -> String {
        let issued = self.issue(world, "lapsed").await;
        self.databases.expire_token(&issued.token_id).await;
        issued.token
    }

    /// Calls an rpc with these messages.
    pub async fn call(
        &self,
        rpc: &Rpc,
        headers: &Headers,
        messages: Vec<bytes::Bytes>,
    ) -> Option<Answer> {
        wire::call(&self.channels[rpc.service], &rpc.path, headers, messages).await
    }

    /// As [`Self::call`], for whatever comes at once: a stream that stays open is no hang.
    pub async fn ask(
        &self,
        rpc: &Rpc,
        headers: &Headers,
        messages: Vec<bytes::Bytes>,
    ) -> Option<Answer> {
        wire::ask(&self.channels[rpc.service], &rpc.path, headers, messages).await
    }

    /// As [`Self::ask`], with a body that need not be made of messages.
    pub async fn post(&self, rpc: &Rpc, headers: &Headers, body: bytes::Bytes) -> Option<Answer> {
        wire::post(&self.channels[rpc.service], &rpc.path, headers, body).await
    }

    /// A right that whoever presents this token holds.
    async fn own_right(&self, world: &World, token: &str) -> String {
        let clients = Clients::open(&self.suite.endpoints, token).unwrap();
        let request = ListDecisionRightsRequest {
            tenant: world.name(),
            page_size: 1_000,
            page_token: String::new(),
        };
        let mut rights = clients.rights().unwrap();
        let rights = rights
            .list_decision_rights(request)
            .await
            .unwrap()
            .into_inner();
        let mut rights = rights.decision_rights.into_iter();
        let own = rights.find(|right| right.grantee.ends_with("-everything"));
        own.unwrap().name
    }

    /// Makes a tenant whole: its governance cycle, then one call of every rpc by someone who may.
    async fn govern(&self, mut world: World) -> World {
        let directory = self.folder.path().join(format!("estate-{}", world.id));
        estate::write(&directory, &world.id, &world.canary).unwrap();
        quickstart::play(
            self.admin(),
            &directory,
            &self.folder.path().join(&world.id),
            true,
        )
        .await
        .unwrap();
        let token = self.issue_for(&world, "everything", 2 * 86_400).await.token;
        world.set_text("token", &token);
        world.set_text("own_right", &self.own_right(&world, &token).await);
        let spare = self.issue(&world, "spare").await;
        world.set_text("token_id", &spare.token_id);
        let files = directory.join(format!("{}-source", world.id));
        let config = serde_json::json!({ "kind": "csv", "directory": files });
        world.set_text("source_config", &config.to_string());
        let (admin, customer) = (self.admin(), self.customer(&world));
        let provider = partner::engage(&admin, &customer, &world, self.soon)
            .await
            .unwrap();
        world.set_text("provider_token", &provider.administrator);
        world.set_text("operator_token", &provider.operator);
        world.set_text("novice_token", &provider.novice);
        world.set_text("withdrawn", &provider.withdrawn);
        // The estate's own provider has another.
        world.learn_name(&provider.engagement);
        agents::create(&customer, &world).await;
        let mandate = self.mandated(&world, Autonomy::ExecuteBounded).await;
        world.learn_name(&mandate);
        let mut findings = Vec::new();
        // Names answered by one rpc are what the next one asks for.
        for _ in 0..3 {
            findings.clear();
            for rpc in self.rpcs.iter().filter(|rpc| rpc.reads()) {
                findings.extend(self.control(rpc, &mut world, &token).await);
            }
        }
        // What takes something away comes last: the others may need it.
        let last = ["Revoke", "Unlink", "EndEngagement", "UnassignOperator"];
        let ends = |rpc: &&Rpc| last.iter().any(|verb| rpc.method.name().starts_with(verb));
        // Nothing would go on in a tenant that leaves.
        let writes = || {
            let stays = |rpc: &&Rpc| rpc.method.name() != "BeginExit";
            self.rpcs.iter().filter(|rpc| !rpc.reads()).filter(stays)
        };
        for rpc in writes()
            .filter(|rpc| !ends(rpc))
            .chain(writes().filter(ends))
        {
            findings.extend(self.control(rpc, &mut world, &token).await);
        }
        assert!(
            findings.is_empty(),
            "requests that cannot be made, or name nothing real:\n  {}",
            findings.join("\n  ")
        );
        world
    }

    /// Calls an rpc as someone who may, to learn from the answer; what is found when that fails.
    async fn control(&self, rpc: &Rpc, world: &mut World, token: &str) -> Option<String> {
        let request = match synth::request(rpc, world, self.soon) {
            Ok(request) => request,
            Err(missing) => return Some(format!("{}: seed {}", rpc.name(), missing.join(", "))),
        };
        let answer = self.as_who_may(rpc, world, token, &request).await;
        let good = [Code::Ok, Code::FailedPrecondition, Code::AlreadyExists];
        if !good.contains(&answer.code) && !REFUSED_ANYWAY.contains(&rpc.method.name()) {
            return Some(format!(
                "{}: {:?} {} to {}",
                rpc.name(),
                answer.code,
                answer.message,
                serde_json::to_string(&request).unwrap()
            ));
        }
        for message in &answer.messages {
            let message = DynamicMessage::decode(rpc.method.output(), message.clone()).unwrap();
            world.learn(&rpc.name(), &message);
        }
        None
    }

    /// The first answer that is no lack of permission.
    pub async fn as_who_may(
        &self,
        rpc: &Rpc,
        world: &World,
        token: &str,
        request: &DynamicMessage,
    ) -> Answer {
        use prost::Message as _;
        let body = bytes::Bytes::from(request.encode_to_vec());
        let services = [
            "admin",
            "reconciliation",
            "recertification",
            "authority",
            "inventory",
        ];
        let deployment = services.iter().map(|service| self.token(service));
        let mut last = None;
        let bearer = |token: String| vec![("authorization", format!("Bearer {token}"))];
        let mut operator = bearer(world.text("operator_token").unwrap().to_owned());
        operator.push(("counterfoil-tenant", world.id.clone()));
        let provider = bearer(world.text("provider_token").unwrap().to_owned());
        let own = std::iter::once(token.to_owned()).chain(deployment);
        for headers in own.map(bearer).chain([provider, operator]) {
            let answer = self.call(rpc, &headers, vec![body.clone()]).await;
            let answer = answer.unwrap_or_else(|| panic!("{} does not end", rpc.name()));
            let refused = answer.code == Code::PermissionDenied;
            let by_role = answer.message.contains("does not hold the permission");
            if !refused || !(by_role || last.is_some()) {
                last = Some(answer);
            }
            if !refused {
                break;
            }
        }
        last.unwrap_or_else(|| panic!("nobody may call {}", rpc.name()))
    }

    /// The request to `rpc` in the name of `world`.
    pub fn request(&self, rpc: &Rpc, world: &World) -> DynamicMessage {
        synth::request(rpc, world, self.soon).unwrap()
    }
}
