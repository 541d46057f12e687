//! All that the services log, while somebody listens.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use tracing_subscriber::{
    Layer as _, Registry, filter::LevelFilter, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

type Switch = reload::Handle<LevelFilter, Registry>;

/// What was logged so far, and what switches it off again.
#[derive(Debug)]
pub struct Listening {
    kept: Kept,
    switch: Switch,
}

/// Lines in memory.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listening {
    /// Keeps whatever is logged at this level or above from now on, of all crates. One at a time.
    pub fn begin(level: LevelFilter) -> Self {
        static STARTED: OnceLock<(Kept, Switch)> = OnceLock::new();
        let (kept, switch) = STARTED.get_or_init(|| {
            let kept = Kept::default();
            let (filter, switch) = reload::Layer::new(LevelFilter::OFF);
            let writer = kept.clone();
            let lines = fmt::layer()
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .with_filter(filter);
            tracing_subscriber::registry().with(lines).init();
            (kept, switch)
        });
        kept.0.lock().unwrap().clear();
        switch.reload(level).unwrap();
        Self {
            kept: kept.clone(),
            switch: switch.clone(),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.kept.0.lock().unwrap().clone()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.switch.reload(LevelFilter::OFF).unwrap();
        self.kept.0.lock().unwrap().clear();
    }
}
