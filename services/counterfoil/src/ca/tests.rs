//! What the authority writes is what services take, and a root is replaced without a gap.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use counterfoil_chassis::{
    TestClock,
    config::TlsConfig,
    tls::{Leaf, Tls, certificates},
};

use super::*;

const NOW_MS: i64 = 1_795_262_400_000;
const DEPLOYMENT: &str = "counterfoil.test";

struct World {
    folder: tempfile::TempDir,
    clock: TestClock,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: TestClock::new(NOW_MS),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn authority(&self) -> Authority {
        let folder = self.path("ca");
        let clock = self.clock.clock();
        Authority::open(&folder, clock.clone())
            .or_else(|_| Authority::init(&folder, DEPLOYMENT, clock))
            .unwrap()
    }

    fn issue(&self, service: &str) -> PathBuf {
        let out = self.path(service);
        let wanted = Wanted {
            holder: Holder::Service,
            name: service.to_owned(),
            dns: vec!["localhost".into()],
            days: LEAF_DAYS,
        };
        self.authority().issue(&wanted, &out).unwrap();
        out
    }

    fn load(&self, service: &str) -> Arc<Tls> {
        let folder = self.path(service);
        let config = TlsConfig {
            certificate_file: folder.join(format!("{service}.crt")),
            key_file: folder.join(format!("{service}.key")),
            trust_bundle_file: folder.join("trust.crt"),
            reload_interval_ms: 10_000,
        };
        Tls::load(&config, DEPLOYMENT, service, self.clock.clock()).unwrap()
    }

    fn trusted(&self) -> usize {
        let path = self.authority().trust_bundle();
        certificates(&path, &fs::read(&path).unwrap())
            .unwrap()
            .len()
    }
}

#[test]
fn what_is_issued_is_what_a_service_takes_and_its_keys_are_its_owners() {
    let world = World::new();
    let out = world.issue("ledger");
    world.load("ledger");
    let path = out.join("ledger.crt");
    let leaf = &certificates(&path, &fs::read(&path).unwrap()).unwrap()[0];
    let leaf = Leaf::read(leaf, DEPLOYMENT).unwrap();
    assert_eq!(
        leaf.id.to_string(),
        "spiffe://counterfoil.test/services/ledger"
    );
    assert_eq!(
        leaf.ends_ms - NOW_MS,
        LEAF_DAYS * DAY_SECONDS * 1_000 + 1_000
    );
    for key in [out.join("ledger.key"), world.path("ca/root.pem")] {
        let mode = fs::metadata(key).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}

#[test]
fn a_second_authority_a_long_life_and_odd_names_are_refused() {
    let world = World::new();
    let authority = world.authority();
    let clock = world.clock.clock();
    assert!(Authority::init(&world.path("ca"), DEPLOYMENT, clock.clone()).is_err());
    assert!(Authority::init(&world.path("other"), "Not a domain", clock.clone()).is_err());
    assert!(Authority::open(&world.path("nowhere"), clock).is_err());
    let wanted = |name: &str, days| Wanted {
        holder: Holder::Client,
        name: name.to_owned(),
        dns: Vec::new(),
        days,
    };
    for (name, days) in [("ci", 91), ("ci", 0), ("CI", 30), ("a/b", 30), ("", 30)] {
        assert!(
            authority
                .issue(&wanted(name, days), &world.path("out"))
                .is_err()
        );
    }
    authority
        .issue(&wanted("ci", 90), &world.path("out"))
        .unwrap();
}

#[test]
fn a_root_is_replaced_in_three_steps_and_everybody_trusts_everybody_throughout() {
    let world = World::new();
    world.issue("ledger");
    let first = fs::read(world.path("ca/root.pem")).unwrap();
    assert_eq!(
        (world.authority().rotate().unwrap(), world.trusted()),
        (Rotated::Prepared, 2)
    );
    // Issued by the first root, with a bundle that has both.
    world.issue("inventory");
    assert_eq!(fs::read(world.path("ca/root.pem")).unwrap(), first);
    assert_eq!(
        (world.authority().rotate().unwrap(), world.trusted()),
        (Rotated::Switched, 2)
    );
    assert_ne!(fs::read(world.path("ca/root.pem")).unwrap(), first);
    world.issue("authority");
    for service in ["ledger", "inventory", "authority"] {
        world.load(service);
    }
    assert_eq!(
        (world.authority().rotate().unwrap(), world.trusted()),
        (Rotated::Finished, 1)
    );
    let mode = fs::metadata(world.path("ca/root.pem"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(
        (world.authority().rotate().unwrap(), world.trusted()),
        (Rotated::Prepared, 2)
    );
}
