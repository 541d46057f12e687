//! The rpcs of the descriptor set: where each is served, what it needs, and what its comments say of its fields.

use counterfoil::client::SERVICES;
use counterfoil_chassis::{
    Role,
    auth::{Caller, PermissionTable},
};
use prost_reflect::{DescriptorPool, FieldDescriptor, MethodDescriptor};

/// One rpc of one service. What every service has is there once a service.
#[derive(Debug, Clone)]
pub struct Rpc {
    /// "inventory".
    pub service: &'static str,
    /// "/counterfoil.inventory.v1.SourceService/GetSource".
    pub path: String,
    /// Its descriptor.
    pub method: MethodDescriptor,
    /// "sources.get".
    pub permission: String,
}

/// All rpcs. Fails for one without a permission or without a service.
pub fn all() -> Vec<Rpc> {
    let table = table();
    let pool = DescriptorPool::decode(counterfoil_proto::DESCRIPTOR_SET).unwrap();
    let mut all = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let permission = table.of_method(&path).expect("every rpc has a permission");
            for host in hosts(service.full_name()) {
                all.push(Rpc {
                    service: host,
                    path: path.clone(),
                    method: method.clone(),
                    permission: permission.to_owned(),
                });
            }
        }
    }
    all
}

/// The permission table of the suite.
pub fn table() -> PermissionTable {
    PermissionTable::of_api().unwrap()
}

/// The services that serve a gRPC service: its package's, or all for the common ones.
fn hosts(full_name: &str) -> Vec<&'static str> {
    let package = full_name.split('.').nth(1).unwrap_or_default();
    let own: Vec<&'static str> = SERVICES
        .into_iter()
        .filter(|name| *name == package)
        .collect();
    match (package, own.is_empty()) {
        ("type", _) => SERVICES.to_vec(),
        (_, false) => own,
        _ => panic!("no service serves {full_name}"),
    }
}

impl Rpc {
    /// "inventory SourceService/GetSource".
    pub fn name(&self) -> String {
        let short = self.path.rsplit('.').next().unwrap_or_default();
        format!("{} {short}", self.service)
    }

    /// Whether it changes nothing.
    pub fn reads(&self) -> bool {
        const VERBS: [&str; 9] = [
            "Get", "List", "BatchGet", "Stream", "Watch", "Check", "Prove", "Export", "Explain",
        ];
        let name = self.method.name();
        name == "IntrospectToken" || VERBS.iter().any(|verb| name.starts_with(verb))
    }

    /// Whether one of the roles holds its permission.
    pub fn allows(&self, table: &PermissionTable, roles: &[Role]) -> bool {
        let caller = Caller::of_deployment("tests/authz", roles);
        table.allows(&caller, &self.permission)
    }
}

/// The comment above a field.
pub fn comment(field: &FieldDescriptor) -> String {
    let file = field.parent_file();
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let place = info.and_then(|info| {
        info.location
            .iter()
            .find(|place| place.path == field.path())
    });
    place
        .map(|place| place.leading_comments().to_owned())
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
