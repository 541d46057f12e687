//! What the time of a refusal tells: calls for what is another tenant's and for what nobody has, in pairs, turn by turn.
//!
//! A ratio of 1 says nothing about what is there. How far it may be off is seen in the figure of `nothing`, which compares
//! two names that nobody has.

use anyhow::ensure;
use counterfoil::{client::Clients, quickstart};
use counterfoil_proto::{
    authority::{GetPrincipalRequest, GetTenantRequest},
    inventory::GetSourceRequest,
    ledger::GetCheckpointRequest,
};
use counterfoil_tests::{governance::Governance, small};
use tonic::{Code, Status};

use crate::{
    cycle,
    figures::{print, timed},
};

/// Calls of each of the two in one sample.
const CALLS: usize = 250;
/// Whose resources are asked for, and who asks; each with its source.
const TENANTS: [(&str, &str); 2] = [("there", "payroll"), ("here", "wiki")];

/// An rpc that reads one thing by its name.
#[derive(Debug, Clone, Copy)]
enum Reads {
    Tenant,
    Principal,
    Source,
    Checkpoint,
}

/// A figure, an rpc, the name of what is another's, and one of as many letters that nobody has.
const PAIRS: [(&str, Reads, &str, &str); 7] = [
    ("nothing", Reads::Tenant, "tenants/nobod", "tenants/absnt"),
    ("tenant", Reads::Tenant, "tenants/there", "tenants/nobod"),
    (
        "principal",
        Reads::Principal,
        "tenants/there/principals/director",
        "tenants/there/principals/nonesuch",
    ),
    (
        "principal_of_no_tenant",
        Reads::Principal,
        "tenants/there/principals/director",
        "tenants/nobod/principals/director",
    ),
    (
        "id_of_another_as_own",
        Reads::Source,
        "tenants/here/sources/payroll",
        "tenants/here/sources/nothing",
    ),
    (
        "source",
        Reads::Source,
        "tenants/there/sources/payroll",
        "tenants/there/sources/nothing",
    ),
    ("log", Reads::Checkpoint, "tenants/there", "tenants/nobod"),
];

/// Measures each pair `samples` times.
pub(crate) async fn run(samples: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let suite = cycle::start(&folder.path().join("data")).await?;
    let admin = Clients::open(&suite.endpoints, &suite.endpoints.token()?)?;
    let mut callers = Vec::new();
    for (tenant, source) in TENANTS {
        let estate = folder.path().join(tenant);
        let governance = Governance::new(tenant, tenant)?;
        small::write(&estate, governance, &[source])?;
        let home = folder.path().join(format!("home-{tenant}"));
        callers.push(quickstart::prepare(&admin, &estate, &home).await?);
    }
    let caller = &callers[1];
    for (metric, reads, foreign, missing) in PAIRS {
        let (mut ratios, mut microseconds) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            let (foreign, missing) = sample(caller, reads, foreign, missing).await?;
            ratios.push(foreign / missing);
            microseconds.push(foreign * 1e6);
        }
        print(
            "isolation",
            &format!("{metric}_over_missing"),
            "ratio",
            ratios,
        );
        print("isolation", metric, "us", microseconds);
    }
    suite.stop().await
}

/// Medians of both, in seconds. Which comes first changes with every call.
async fn sample(
    caller: &Clients,
    reads: Reads,
    foreign: &str,
    missing: &str,
) -> anyhow::Result<(f64, f64)> {
    let (mut of_foreign, mut of_missing) = (Vec::new(), Vec::new());
    for turn in 0..CALLS {
        if turn % 2 == 0 {
            of_foreign.push(refused(caller, reads, foreign).await?);
            of_missing.push(refused(caller, reads, missing).await?);
        } else {
            of_missing.push(refused(caller, reads, missing).await?);
            of_foreign.push(refused(caller, reads, foreign).await?);
        }
    }
    Ok((median(of_foreign), median(of_missing)))
}

/// Seconds to the refusal.
async fn refused(caller: &Clients, reads: Reads, name: &str) -> anyhow::Result<f64> {
    let (seconds, answer) = timed(async { ask(caller, reads, name.to_owned()).await }).await?;
    let refused = answer
        .as_ref()
        .is_err_and(|status| status.code() == Code::NotFound);
    ensure!(refused, "{name}: {answer:?}");
    Ok(seconds)
}

async fn ask(caller: &Clients, reads: Reads, name: String) -> anyhow::Result<Result<(), Status>> {
    Ok(match reads {
        Reads::Tenant => {
            let request = GetTenantRequest { name };
            caller.tenants()?.get_tenant(request).await.map(drop)
        }
        Reads::Principal => {
            let request = GetPrincipalRequest { name };
            caller.principals()?.get_principal(request).await.map(drop)
        }
        Reads::Source => {
            let request = GetSourceRequest { name };
            caller.sources()?.get_source(request).await.map(drop)
        }
        Reads::Checkpoint => {
            let request = GetCheckpointRequest { tenant: name };
            caller.ledger()?.get_checkpoint(request).await.map(drop)
        }
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
