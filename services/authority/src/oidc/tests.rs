//! Keys that come, change and stay away, from a provider that the test holds in its hand.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use counterfoil_chassis::TestClock;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;

/// An identity provider: whoever asks it is told here, and gets an answer when the test gives one.
struct Provider {
    address: String,
    key: Ed25519KeyPair,
    asked: mpsc::UnboundedReceiver<tokio::net::TcpStream>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if tell.send(stream).is_err() {
                    return;
                }
            }
        });
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            address,
            key: Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap(),
            asked,
        }
    }

    /// Answers the next question with its key.
    async fn answer(&mut self) {
        let mut stream = self.asked.recv().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        let set =
            format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"known","x":"{x}"}}]}}"#);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}",
            set.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn token(&self, issuer: &str, key_id: &str, now_ms: i64) -> String {
        let now = now_ms / 1000;
        let header = format!(r#"{{"alg":"EdDSA","kid":"{key_id}"}}"#);
        let claims = format!(
            r#"{{"iss":"{issuer}","aud":"counterfoil","sub":"ada","iat":{now},"exp":{}}}"#,
            now + 60
        );
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

struct World {
    provider: Provider,
    issuers: Arc<Issuers>,
    time: TestClock,
}

impl World {
    async fn start() -> Self {
        let provider = Provider::start().await;
        let config = IssuerConfig {
            issuer: provider.address.clone(),
            audience: "counterfoil".into(),
            algorithms: vec![Algorithm::EdDsa],
            jwks_url: Some(format!("{}/jwks", provider.address)),
            jwks_file: None,
            trust_bundle_file: None,
            key_ids: vec![],
            tenants: vec!["acme".into()],
            tenant_claim: None,
            subject_claim: "sub".into(),
            leeway_seconds: 30,
            token_age_max_seconds: 3_600,
        };
        let time = TestClock::new(NOW_MS);
        let issuers = Issuers::new(&[config], time.clock()).unwrap();
        Self {
            provider,
            issuers: Arc::new(issuers),
            time,
        }
    }

    /// Its keys are read.
    async fn known() -> Self {
        let mut world = Self::start().await;
        let issuers = Arc::clone(&world.issuers);
        tokio::join!(issuers.run_once(), world.provider.answer());
        world
    }

    fn knows(&self, key_id: &str) -> bool {
        let issuer = &self.provider.address;
        let token = self.provider.token(issuer, key_id, self.time.now_ms());
        self.issuers.verify(&token).is_some()
    }
}

#[tokio::test]
async fn a_provider_that_hangs_keeps_nobody_waiting() {
    let mut world = World::known().await;
    assert!(world.knows("known"));
    world.time.advance_ms(FRESH_MS);
    let issuers = Arc::clone(&world.issuers);
    let reading = tokio::spawn(async move { issuers.run_once().await });
    // It was asked, and says nothing: whoever it vouched for comes in, and whoever it might vouch for does not wait.
    let _asked = world.provider.asked.recv().await.unwrap();
    assert!(world.knows("known"));
    assert!(!world.knows("made up"));
    reading.abort();
}

#[tokio::test]
async fn made_up_key_ids_cost_one_question_a_minute() {
    let mut world = World::known().await;
    let issuers = Arc::clone(&world.issuers);
    for _ in 0..3 {
        assert!(!world.knows("made up"));
        issuers.run_once().await;
    }
    assert!(world.provider.asked.try_recv().is_err(), "too soon");
    world.time.advance_ms(ASKED_EVERY_MS);
    assert!(!world.knows("made up"));
    tokio::join!(issuers.run_once(), world.provider.answer());
    for _ in 0..3 {
        assert!(!world.knows("made up"));
        issuers.run_once().await;
    }
    assert!(world.provider.asked.try_recv().is_err(), "once was enough");
    assert!(world.knows("known"));
}

#[tokio::test]
async fn keys_are_read_by_themselves_at_the_start_when_they_are_old_and_when_one_is_wanted() {
    let mut world = World::start().await;
    let end = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&world.issuers).run(end.clone()));
    world.provider.answer().await;
    // Read once it has arrived: the task has its turn.
    drop(world.issuers.issuers[0].turn.lock().await);
    assert!(world.knows("known"));
    world.time.advance_ms(ASKED_EVERY_MS);
    assert!(!world.knows("made up"));
    world.provider.answer().await;
    drop(world.issuers.issuers[0].turn.lock().await);
    world.time.advance_ms(FRESH_MS);
    world.provider.answer().await;
    end.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn keys_that_could_not_be_refreshed_for_a_day_count_no_longer() {
    let world = World::known().await;
    world.time.advance_ms(KEPT_MS - 1);
    assert!(world.knows("known"));
    world.time.advance_ms(1);
    assert!(!world.knows("known"));
}

#[tokio::test]
async fn an_issuer_whose_keys_cannot_be_had_looks_as_one_that_is_not_there() {
    let world = World::start().await;
    assert!(!world.knows("known"));
    let other = world.provider.token("https://nobody.test", "known", NOW_MS);
    assert_eq!(world.issuers.verify(&other), None);
}
