//! The API, the permissions, the record types and the migrations: what must agree in two places does.

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_evidence::catalogue::RECORD_TYPES;
use counterfoil_evidence::engagement::{ALWAYS, ALWAYS_METHODS};
use counterfoil_evidence::replay::is_permission;
use counterfoil_proto::DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, Value};

use crate::files::{all, none};

/// Full name of every method -> its permission.
fn methods() -> BTreeMap<String, Option<String>> {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let option = pool
        .get_extension_by_name("counterfoil.type.v1.permission")
        .unwrap();
    let mut methods = BTreeMap::new();
    for service in pool.services() {
        for method in service.methods() {
            let options = method.options();
            let permission = options
                .has_extension(&option)
                .then(|| options.get_extension(&option).into_owned());
            let permission = permission.and_then(|value| match value {
                Value::String(text) if !text.is_empty() => Some(text),
                _ => None,
            });
            methods.insert(method.full_name().to_owned(), permission);
        }
    }
    assert!(methods.len() > 50, "only {} methods", methods.len());
    methods
}

/// First word of every row of the permission table.
fn rows() -> BTreeSet<String> {
    let path = "services/chassis/src/permissions.txt";
    let file = all()
        .into_iter()
        .find(|file| file.path == path)
        .unwrap_or_else(|| panic!("{path} is missing"));
    let lines = file.text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn every_method_states_a_permission() {
    let without: Vec<String> = methods()
        .into_iter()
        .filter(|(_, permission)| permission.is_none())
        .map(|(name, _)| name)
        .collect();
    none(
        &without,
        "methods without option (counterfoil.type.v1.permission):",
    );
}

#[test]
fn every_permission_has_a_row_and_every_row_a_method() {
    let mut used: BTreeSet<String> = methods().into_values().flatten().collect();
    // Of the route /metrics, which is no method.
    used.insert("metrics.read".to_owned());
    let rows = rows();
    let missing: Vec<String> = used.difference(&rows).cloned().collect();
    none(&missing, "permissions without a row in the table:");
    let unused: Vec<String> = rows.difference(&used).cloned().collect();
    none(&unused, "rows that no method uses:");
}

#[test]
fn the_verifier_takes_every_permission_for_one() {
    let strange: Vec<String> = rows()
        .into_iter()
        .filter(|permission| !is_permission(permission))
        .collect();
    none(&strange, "permissions that the verifier refuses as scopes:");
}

#[test]
fn the_methods_that_need_no_evidence_are_those_whose_permission_says_so() {
    let open: BTreeSet<(String, String)> = methods()
        .into_iter()
        .filter_map(|(name, permission)| Some((permission?, name)))
        .filter(|(permission, _)| ALWAYS.contains(&permission.as_str()))
        .map(|(permission, name)| {
            let (service, method) = name.rsplit_once('.').unwrap();
            (permission, format!("/{service}/{method}"))
        })
        .collect();
    let known = ALWAYS_METHODS.map(|(permission, path)| (permission.to_owned(), path.to_owned()));
    assert_eq!(open, BTreeSet::from(known));
}

/// A payload's comment opens with its number; messages inside payloads have none.
fn numbered_messages() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for file in all()
        .iter()
        .filter(|file| file.path.starts_with("proto/counterfoil/evidence/v1/"))
    {
        let mut number = None;
        for line in file.text.lines() {
            if let Some(comment) = line.strip_prefix("// ") {
                let first = comment.split(':').next().unwrap_or_default();
                let is_number = first
                    .strip_prefix('R')
                    .is_some_and(|digits| digits.parse::<u8>().is_ok());
                number = number.or_else(|| is_number.then(|| first.to_owned()));
            } else {
                if let (Some(number), Some(rest)) = (&number, line.strip_prefix("message ")) {
                    let name = rest.split(' ').next().unwrap_or_default();
                    found.insert((number.clone(), name.to_owned()));
                }
                number = None;
            }
        }
    }
    found
}

#[test]
fn the_catalogue_lists_every_record_type() {
    let listed: BTreeSet<(String, String)> = RECORD_TYPES
        .iter()
        .map(|known| (known.number.to_owned(), known.name.to_owned()))
        .collect();
    assert_eq!(
        listed.len(),
        RECORD_TYPES.len(),
        "a type stands twice in the catalogue"
    );
    assert_eq!(listed, numbered_messages());
}

#[test]
fn migrations_come_in_pairs_without_a_gap() {
    let mut folders: BTreeMap<String, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    let files = all();
    for file in files.iter().filter(|file| file.is("sql")) {
        let Some((owner, rest)) = file.path.split_once("/migrations/") else {
            continue;
        };
        let (engine, name) = rest
            .split_once('/')
            .unwrap_or_else(|| panic!("{} is of no engine", file.path));
        folders
            .entry(owner.to_owned())
            .or_default()
            .entry(engine)
            .or_default()
            .push(name.to_owned());
    }
    assert!(folders.len() >= 3, "{folders:?}");
    for (owner, engines) in folders {
        let names: Vec<&str> = engines.keys().copied().collect();
        assert_eq!(names, ["postgres", "sqlite"], "{owner}");
        assert_eq!(engines["postgres"], engines["sqlite"], "{owner}");
        for (index, name) in engines["sqlite"].iter().enumerate() {
            assert!(
                name.starts_with(&format!("{:04}_", index + 1)),
                "{owner}: {name}"
            );
        }
    }
}
