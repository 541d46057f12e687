//! A provider with Otto, who acts for acme, as authority would say of them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use counterfoil_chassis::{
    ApiError, Caller, Outbox, TestClock,
    names::PrincipalName,
    operators::{self, Named, OperatorSource, Operators, Resolved},
    tenants::record_log_origin,
    testing::TestDatabase,
};
use counterfoil_evidence::{
    catalogue::{Payload, decode_payload},
    record::{decode_record, record_hash},
    v1::{OperatorAccessUsed, OperatorLogCrossLinked, Record},
};
use http::{HeaderMap, HeaderValue};
use sqlx::Row;

use super::outbox;

pub(crate) const METHOD: &str = "/counterfoil.inventory.v1.SourceService/StartSync";

/// Otto of the provider acts for acme until the end of time, and lacks what he is said to.
pub(crate) struct Otto {
    pub(crate) until_ms: i64,
    pub(crate) lacks: AtomicBool,
}

#[async_trait]
impl OperatorSource for Otto {
    async fn resolve(
        &self,
        operator: &PrincipalName,
        customer: &str,
    ) -> Result<Option<Resolved>, ApiError> {
        let acts = operator.to_string() == "tenants/msp/principals/otto" && customer == "acme";
        let lacks = self.lacks.load(Ordering::SeqCst);
        Ok(acts.then(|| Resolved {
            principal: "otto-msp".into(),
            roles: vec!["operator".into()],
            engagement: "engagements/e1".into(),
            assignment_hash: vec![9; 32],
            refusal: if lacks { "COMPETENCY_MISSING" } else { "" }.into(),
            until_ms: self.until_ms,
            asked_at_ms: 1_000,
            role_permissions: Vec::new(),
        }))
    }
}

pub(crate) struct World {
    pub(crate) operators: Operators,
    pub(crate) outbox: Outbox,
    pub(crate) otto: Arc<Otto>,
    pub(crate) clock: TestClock,
    _folder: tempfile::TempDir,
}

pub(crate) async fn world(db: &TestDatabase) -> World {
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(db, folder.path()).await;
    let mut tx = db.write_tx("msp").await.unwrap();
    record_log_origin(&mut tx, "counterfoil.local/t/msp")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let clock = TestClock::new(1_000);
    let otto = Arc::new(Otto {
        until_ms: 5_000,
        lacks: AtomicBool::new(false),
    });
    let source = Arc::clone(&otto) as Arc<dyn OperatorSource>;
    World {
        operators: Operators::new(source, outbox.clone(), clock.clock(), None),
        outbox,
        otto,
        clock,
        _folder: folder,
    }
}

pub(crate) fn headers(ticket: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("counterfoil-tenant", HeaderValue::from_static("acme"));
    if !ticket.is_empty() {
        headers.insert("counterfoil-ticket", HeaderValue::from_static(ticket));
    }
    headers
}

impl World {
    /// A call of Otto for acme: from the header to the record.
    pub(crate) async fn call(&self, ticket: &'static str) -> Result<Caller, ApiError> {
        let home = Caller::of_tenant("msp", "otto", ["operator"]);
        let headers = headers(ticket);
        let operators = Some(&self.operators);
        let caller = operators::select(operators, home, &Named::of(&headers)).await?;
        let now_ms = self.clock.now_ms();
        operators::require_qualified(&caller, "syncs.start", now_ms)?;
        operators::enter(operators, &caller, METHOD, "syncs.start", &headers).await?;
        Ok(caller)
    }
}

impl World {
    /// An access that somebody of another provider had, put where the job finds it.
    pub(crate) async fn forge_access_of(&self, operator: &str) {
        let mut tx = self.outbox.db().write_tx("acme").await.unwrap();
        sqlx::query(
            "INSERT INTO operator_accesses (tenant, access_id, operator, method, record_hash) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind("acme")
        .bind(vec![0_u8; 16])
        .bind(operator)
        .bind(METHOD)
        .bind(vec![1_u8; 32])
        .execute(tx.conn())
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }
}

/// The records of a tenant in the outbox.
async fn records(outbox: &Outbox, tenant: &str) -> Vec<(Record, Payload, [u8; 32])> {
    let sql = "SELECT record FROM outbox_records WHERE tenant = $1 ORDER BY seq";
    let mut tx = outbox.db().write_tx(tenant).await.unwrap();
    let rows = sqlx::query(sql)
        .bind(tenant)
        .fetch_all(tx.conn())
        .await
        .unwrap();
    let read = |bytes: Vec<u8>| {
        let record = decode_record(&bytes).unwrap();
        let payload = decode_payload(&record.r#type, &record.payload);
        let payload = payload.unwrap().unwrap();
        (record, payload, record_hash(&bytes))
    };
    rows.iter().map(|row| read(row.get("record"))).collect()
}

pub(crate) async fn used(outbox: &Outbox) -> Vec<(Record, OperatorAccessUsed, [u8; 32])> {
    let all = records(outbox, "acme").await.into_iter();
    all.filter_map(|(record, payload, hash)| match payload {
        Payload::OperatorAccessUsed(used) => Some((record, used, hash)),
        _ => None,
    })
    .collect()
}

pub(crate) async fn links(outbox: &Outbox) -> Vec<(Record, OperatorLogCrossLinked)> {
    let all = records(outbox, "msp").await.into_iter();
    all.filter_map(|(record, payload, _)| match payload {
        Payload::OperatorLogCrossLinked(link) => Some((record, link)),
        _ => None,
    })
    .collect()
}

pub(crate) async fn forget_marks(outbox: &Outbox) {
    let mut tx = outbox.db().write_tx("acme").await.unwrap();
    sqlx::query("UPDATE operator_accesses SET mirrored_at_ms = NULL WHERE tenant = $1")
        .bind("acme")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}
