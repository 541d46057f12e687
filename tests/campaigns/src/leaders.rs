//! Two processes that both take themselves for the writer of the same logs, and send the same records. One of them is stopped in the middle
//! of whatever it does and goes on later, as after a failover that was none; on PostgreSQL sessions are cut meanwhile.

use std::time::Duration;

use crate::dice::Dice;
use crate::figures::Figures;
use crate::history::History;
use crate::kill::keep_if_wrong;
use crate::place::Place;
use crate::postgres::Cluster;
use crate::process::Victim;

/// Episodes of the same logs and processes.
const EPISODES_OF_A_WORLD: usize = 10;

/// The longest from both writing to the stop, in milliseconds.
const WRITING_MS_MAX: u64 = 80;

/// The longest that a process is stopped, in milliseconds.
const STOPPED_MS_MAX: u64 = 250;

/// How often, and how long apart, the copies are looked at after it goes on.
const LOOKS: usize = 20;
const LOOK: Duration = Duration::from_millis(2);

/// How the two are told apart by the database server.
const NAMES: [&str; 2] = ["first", "second"];

/// Lets two processes write, and stops one of them now and then.
pub(crate) async fn run(
    episodes: usize,
    seed: u64,
    logs: usize,
    server: Option<Cluster>,
) -> anyhow::Result<Figures> {
    let variant = server.as_ref().map_or("sqlite", |_| "postgresql");
    let mut figures = Figures::new("leaders", variant, seed);
    let mut dice = Dice::new(seed);
    while figures.episode < episodes {
        let folder = tempfile::tempdir()?;
        let database = format!("world{}", figures.episode);
        let mut place = Place::sqlite(folder.path());
        if let Some(server) = &server {
            place.url = server.create_database(&database, "template0")?;
        }
        let mut history = History::new(logs);
        let positions = history.positions()?;
        let mut start = |name: &str| {
            let mut place = place.clone();
            if server.is_some() {
                place.url = format!("{}&application_name={name}", place.url);
            }
            Victim::start(&place, &positions, dice.next())
        };
        let mut both = [start(NAMES[0])?, start(NAMES[1])?];
        for _ in 0..EPISODES_OF_A_WORLD.min(episodes - figures.episode) {
            figures.episode += 1;
            let of = server.as_ref().map(|server| (server, database.as_str()));
            episode(&place, logs, &mut both, of, &mut dice, &mut figures).await?;
        }
        for victim in both {
            history.take(victim.stop()?, &mut figures);
        }
        history.check(&place, &mut figures).await?;
        if let Some(server) = &server {
            server.drop_database(&database)?;
        }
        keep_if_wrong(folder, &figures);
    }
    Ok(figures)
}

async fn episode(
    place: &Place,
    logs: usize,
    both: &mut [Victim; 2],
    server: Option<(&Cluster, &str)>,
    dice: &mut Dice,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    for victim in both.iter_mut() {
        victim.wait_for_receipt()?;
    }
    let stopped = usize::from(dice.one_in(2));
    both[stopped].listen(dice.less_than_ms(WRITING_MS_MAX), |_| false)?;
    both[stopped].signal("STOP")?;
    let time = dice.less_than_ms(STOPPED_MS_MAX);
    both[1 - stopped].listen(time / 2, |_| false)?;
    if let Some((server, database)) = server
        && !dice.one_in(4)
    {
        // Mostly those of the stopped one: what it holds would keep the other one waiting.
        let whose = match dice.below(4) {
            0 => None,
            1 => Some(NAMES[1 - stopped]),
            _ => Some(NAMES[stopped]),
        };
        server.cut(database, whose).await?;
        figures.count("cut");
    }
    let went_on = both[1 - stopped].listen(time / 2, |line| {
        matches!(line, crate::victim::Line::Receipt { .. })
    })?;
    if went_on {
        figures.count("taken_over");
    }
    let mut seen = sizes(place, logs)?;
    both[stopped].signal("CONT")?;
    for _ in 0..LOOKS {
        // Also takes what it said before it was stopped.
        both[stopped].listen(LOOK, |_| false)?;
        let now = sizes(place, logs)?;
        for (log, (before, now)) in seen.iter().zip(&now).enumerate() {
            if now < before {
                let what = format!("log {log}: the copy fell back from {before} to {now}");
                figures.wrong("unclean", what);
            }
        }
        seen = now;
    }
    for victim in both.iter_mut() {
        victim.wait_for_receipt()?;
    }
    Ok(())
}

/// The sizes of the published copies, as anybody sees them.
fn sizes(place: &Place, logs: usize) -> anyhow::Result<Vec<u64>> {
    (0..logs)
        .map(|log| {
            let note = place.published(log)?.unwrap_or_default();
            Ok(note.lines().nth(1).map_or(Ok(0), str::parse)?)
        })
        .collect()
}
