//! A few episodes of every campaign, by the very command that runs thousands of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::{Command, Stdio};

/// Runs a campaign and answers its figures.
fn run(campaign: &str, arguments: &[&str], episodes: u64) -> serde_json::Value {
    let figures = run_some(campaign, arguments, episodes);
    assert_eq!(figures["episodes"], episodes, "{figures}");
    figures
}

/// As [`run`], where the number of episodes is not exact.
fn run_some(campaign: &str, arguments: &[&str], episodes: u64) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_counterfoil-campaigns"))
        .arg(campaign)
        .args(["--episodes", &episodes.to_string()])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{campaign}: {said}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn nothing_is_lost_when_the_process_is_killed() {
    let figures = run("kill", &[], 12);
    assert!(figures["acknowledged"].as_u64() > Some(12), "{figures}");
}

#[test]
fn nothing_is_lost_when_the_database_server_loses_its_power() {
    let figures = run("kill-postgresql", &[], 3);
    assert!(figures["acknowledged"].as_u64() > Some(3), "{figures}");
}

#[test]
fn two_leaders_sign_one_history() {
    for arguments in [&[] as &[&str], &["--postgresql"]] {
        let figures = run("leaders", arguments, 6);
        assert!(figures["acknowledged"].as_u64() > Some(12), "{figures}");
    }
}

#[test]
fn an_old_backup_is_not_written() {
    for arguments in [
        &["--logs", "2"] as &[&str],
        &["--logs", "2", "--postgresql"],
    ] {
        let figures = run("restore", arguments, 2);
        assert!(figures["detected"].as_u64() >= Some(2), "{figures}");
    }
}

#[test]
fn no_bit_changes_unseen() {
    let figures = run("flips", &[], 60);
    let of = |name: &str| figures[name].as_u64().unwrap_or(0);
    assert_eq!(of("detected") + of("harmless"), 60, "{figures}");
    assert_eq!(of("detected").min(30), 30, "{figures}");
}

#[test]
fn a_system_call_that_fails_loses_nothing() {
    let figures = run_some("syscalls", &[], 12);
    // Not each that is chosen comes: a draft of a key has another name each time, so its calls are other calls.
    assert!(figures["struck"].as_u64() >= Some(6), "{figures}");
}
