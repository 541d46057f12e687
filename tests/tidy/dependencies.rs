//! Other people's crates: the rules of deny.toml that need no download, read from Cargo.lock on every run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use counterfoil_tests::repository::root;

fn table(path: &str) -> toml::Table {
    fs::read_to_string(root().join(path))
        .unwrap()
        .parse()
        .unwrap()
}

/// Every crate of Cargo.lock -> its versions, and where they come from.
fn locked() -> BTreeMap<String, Vec<(String, Option<String>)>> {
    let mut found: BTreeMap<String, Vec<(String, Option<String>)>> = BTreeMap::new();
    for package in table("Cargo.lock")["package"].as_array().unwrap() {
        let text = |key: &str| {
            package
                .get(key)
                .and_then(toml::Value::as_str)
                .map(str::to_owned)
        };
        found
            .entry(text("name").unwrap())
            .or_default()
            .push((text("version").unwrap(), text("source")));
    }
    assert!(found.len() > 100);
    found
}

#[test]
fn banned_crates_are_not_locked_and_single_ones_are_locked_once() {
    let locked = locked();
    let deny = table("deny.toml");
    let rules = deny["bans"]["deny"].as_array().unwrap();
    assert!(rules.len() > 5);
    for rule in rules {
        let name = rule["crate"].as_str().unwrap();
        let versions = locked.get(name).map_or(0, Vec::len);
        let once = rule
            .get("deny-multiple-versions")
            .and_then(toml::Value::as_bool)
            .unwrap_or(false);
        assert!(
            versions <= usize::from(once),
            "{name} is locked {versions} times"
        );
    }
}

#[test]
fn everything_comes_from_the_registry_or_from_here() {
    for (name, versions) in locked() {
        for (version, source) in versions {
            let from = source.unwrap_or_default();
            let ours = name == "counterfoil" || name.starts_with("counterfoil-");
            assert_eq!(
                from.starts_with("registry+"),
                !ours,
                "{name} {version} from {from:?}"
            );
        }
    }
}

#[test]
fn every_version_stands_in_the_root_manifest_only() {
    let workspace = table("Cargo.toml");
    let known: BTreeSet<&String> = workspace["workspace"]["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .collect();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let folder = member.as_str().unwrap();
        let manifest = table(&format!("{folder}/Cargo.toml"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, rule) in manifest
                .get(section)
                .and_then(toml::Value::as_table)
                .into_iter()
                .flatten()
            {
                let own = rule.get("path").and_then(toml::Value::as_str) == Some(".");
                let inherited = rule.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(
                    own || (inherited && known.contains(name)),
                    "{folder}: {name} = {rule}"
                );
            }
        }
    }
}
