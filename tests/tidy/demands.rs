//! Every demand that the main job serves has a test that is named by its row, such as `a13_a_tenant_is_not_active_before_...`.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{none, rust};

/// The rows, as ARCHITECTURE.md names them. A test may be named by several: `e7_d21_...`.
const ROWS: [&str; 21] = [
    "a6", "a9", "a12", "a13", "a20", "a24", "a26", "a29", "a43", "c1", "c15", "c22", "c24", "c34",
    "d6", "d7", "d9", "d21", "e3", "e6", "e7",
];

/// The rows at the start of a function's name.
fn rows_of(name: &str) -> impl Iterator<Item = &str> {
    name.split('_').take_while(|part| {
        let number = part.strip_prefix(|letter: char| ('a'..='e').contains(&letter));
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    })
}

/// Names of all functions, with the file of each: a name that starts with a row is given to tests only.
fn functions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in rust() {
        let names = file.text.lines().filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split('(').next()
        });
        found.extend(names.map(|name| (name.to_owned(), file.path.clone())));
    }
    found
}

#[test]
fn every_demand_row_of_the_main_job_has_a_test() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, path) in functions() {
        for row in rows_of(&name) {
            places
                .entry(row.to_owned())
                .or_default()
                .insert(path.clone());
        }
    }
    let missing: Vec<String> = ROWS
        .iter()
        .filter(|row| !places.contains_key(**row))
        .map(|row| (*row).to_owned())
        .collect();
    none(&missing, "no test is named by these rows:");
}

#[test]
fn rows_are_read_from_the_start_of_a_name_only() {
    let rows = |name| rows_of(name).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows("e7_d21_every_decision"), ["e7", "d21"]);
    assert_eq!(rows("a13_a_tenant"), ["a13"]);
    assert!(rows("every_a13").is_empty());
}
