//! Which permission a method needs, and which roles hold it.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

use super::{Caller, Role};

/// The table in git; its head says how to read it.
const TABLE: &str = include_str!("../permissions.txt");

/// Why the permissions of the API do not hold together. The server does not start then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermissionError {
    /// The descriptor set does not decode.
    #[error("descriptor set: {0}")]
    Descriptors(String),
    /// A method has no permission option.
    #[error("method {0} states no permission")]
    Method(String),
    /// A method needs a permission that nobody could hold.
    #[error("method {0} needs permission {1}, which permissions.txt does not name")]
    Unknown(String, String),
    /// A line of the table is malformed.
    #[error("permissions.txt line {0}: {1}")]
    Line(usize, String),
}

/// Methods, permissions and roles.
#[derive(Debug, Clone)]
pub struct PermissionTable {
    /// "/counterfoil.ledger.v1.LedgerService/AppendBatch" to "logs.append".
    methods: HashMap<String, String>,
    roles: BTreeMap<String, Vec<Role>>,
}

impl PermissionTable {
    /// The table of the whole API.
    ///
    /// # Errors
    /// When a method has no permission, or one that the table does not name.
    pub fn of_api() -> Result<Self, PermissionError> {
        Self::new(counterfoil_proto::DESCRIPTOR_SET, TABLE)
    }

    fn new(descriptors: &[u8], table: &str) -> Result<Self, PermissionError> {
        let roles = read_table(table)?;
        let failed = |error: String| PermissionError::Descriptors(error);
        let pool = DescriptorPool::decode(descriptors).map_err(|e| failed(e.to_string()))?;
        let mut methods = HashMap::new();
        for service in pool.services() {
            for method in service.methods() {
                let name = format!("/{}/{}", service.full_name(), method.name());
                let permission = permission_of(&pool, &method)
                    .ok_or_else(|| PermissionError::Method(name.clone()))?;
                if !roles.contains_key(&permission) {
                    return Err(PermissionError::Unknown(name, permission));
                }
                methods.insert(name, permission);
            }
        }
        Ok(Self { methods, roles })
    }

    /// The permission that a method needs, by its path. `None`: no such method.
    #[must_use]
    pub fn of_method(&self, path: &str) -> Option<&str> {
        self.methods.get(path).map(String::as_str)
    }

    /// Whether one of the caller's roles holds the permission, its tenant's policy leaves it to that role, and the credential
    /// covers it.
    #[must_use]
    pub fn allows(&self, caller: &Caller, permission: &str) -> bool {
        let mut roles = caller.roles().iter();
        let has = |role: &Role| self.holds(*role, permission) && caller.keeps(*role, permission);
        caller.covers(permission) && roles.any(has)
    }

    /// Whether there is such a permission.
    #[must_use]
    pub fn knows(&self, permission: &str) -> bool {
        self.roles.contains_key(permission)
    }

    /// Whether a role holds the permission.
    #[must_use]
    pub fn holds(&self, role: Role, permission: &str) -> bool {
        self.roles
            .get(permission)
            .is_some_and(|holders| holders.contains(&role))
    }

    /// All permissions that a role holds, ascending.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &str> {
        let held = self
            .roles
            .iter()
            .filter(move |(_, holders)| holders.contains(&role));
        held.map(|(permission, _)| permission.as_str())
    }

    /// All methods with their permissions and the roles that hold them, for tests.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, &[Role])> {
        self.methods.iter().map(|(method, permission)| {
            let roles = self.roles.get(permission).map_or(&[][..], Vec::as_slice);
            (method.as_str(), permission.as_str(), roles)
        })
    }
}

fn permission_of(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<String> {
    let extension = pool.get_extension_by_name("counterfoil.type.v1.permission")?;
    let options = method.options();
    match options.get_extension(&extension).as_ref() {
        Value::String(permission) if !permission.is_empty() => Some(permission.clone()),
        _ => None,
    }
}

fn read_table(text: &str) -> Result<BTreeMap<String, Vec<Role>>, PermissionError> {
    let mut table = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        let Some(permission) = words.next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let refused = |reason: String| PermissionError::Line(number, reason);
        let roles: Vec<Role> = words
            .map(|word| {
                Role::named(word).ok_or_else(|| refused(format!("no role is called {word}")))
            })
            .collect::<Result<_, _>>()?;
        if roles.is_empty() {
            return Err(refused("names no role".into()));
        }
        if table.insert(permission.to_owned(), roles).is_some() {
            return Err(refused(format!("{permission} stands twice")));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_has_a_permission_and_every_row_is_needed() {
        let table = PermissionTable::of_api().unwrap();
        let methods = table.rows().map(|(_, permission, _)| permission);
        // One is of a path of plain HTTP, and of no method.
        let needed: BTreeSet<&str> = methods.chain(["metrics.read"]).collect();
        let named: BTreeSet<&str> = table.roles.keys().map(String::as_str).collect();
        assert_eq!(needed, named);
    }

    #[test]
    fn a_method_without_a_row_keeps_the_server_from_starting() {
        let shorter: String = TABLE
            .lines()
            .filter(|line| !line.starts_with("logs.append"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let error = PermissionTable::new(counterfoil_proto::DESCRIPTOR_SET, &shorter).unwrap_err();
        assert!(
            matches!(error, PermissionError::Unknown(_, permission) if permission == "logs.append")
        );
    }

    #[test]
    fn only_services_append_to_a_log() {
        let table = PermissionTable::of_api().unwrap();
        let method = "/counterfoil.ledger.v1.LedgerService/AppendBatch";
        assert_eq!(table.of_method(method), Some("logs.append"));
        for role in Role::ALL {
            let caller = Caller::of_deployment("x", [role]);
            assert_eq!(table.allows(&caller, "logs.append"), role == Role::Service);
        }
        let caller = Caller::of_deployment("x", Role::ALL);
        assert!(!table.allows(&caller, "no.such"));
        assert_eq!(
            table.of_method("/counterfoil.ledger.v1.LedgerService/Drop"),
            None
        );
    }

    #[test]
    fn a_policy_takes_from_a_role_and_leaves_the_others_alone() {
        let table = PermissionTable::of_api().unwrap();
        let kept = vec!["logs.read".to_owned(), "logs.append".to_owned()];
        let narrowed = |roles: &[&'static str]| {
            Caller::of_tenant("acme", "ann", roles.iter().copied())
                .narrowed_to([("auditor", kept.clone()), ("no-role", Vec::new())])
        };
        let auditor = narrowed(&["auditor"]);
        assert!(table.allows(&auditor, "logs.read"));
        assert!(!table.allows(&auditor, "evidence.export"));
        // Never more than the table gives.
        assert!(!table.allows(&auditor, "logs.append"));
        // Who administers as well still exports, by that role.
        assert!(table.allows(&narrowed(&["auditor", "administrator"]), "evidence.export"));
        let nothing =
            Caller::of_tenant("acme", "ann", ["auditor"]).narrowed_to([("auditor", Vec::new())]);
        assert!(!table.allows(&nothing, "logs.read"));
    }

    #[test]
    fn scopes_narrow_what_the_roles_hold_and_never_widen_it() {
        let table = PermissionTable::of_api().unwrap();
        let scopes = vec!["logs.read".to_owned(), "logs.append".to_owned()];
        let auditor = Caller::of_tenant("acme", "p1", ["auditor"]);
        assert!(table.allows(&auditor, "evidence.export"));
        let limited = auditor.limited_to(scopes);
        assert!(table.allows(&limited, "logs.read"));
        assert!(!table.allows(&limited, "evidence.export"));
        assert!(!table.allows(&limited, "logs.append"));
        assert!(table.knows("logs.read") && !table.knows("logs.*"));
    }

    #[test]
    fn a_malformed_row_is_refused_with_its_line() {
        let refused = |text| matches!(read_table(text), Err(PermissionError::Line(2, _)));
        assert!(refused("a.b service\nc.d root"));
        assert!(refused("a.b service\nc.d"));
        assert!(refused("a.b service\na.b auditor"));
    }
}
