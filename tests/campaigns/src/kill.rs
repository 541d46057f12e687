//! Processes that are killed while they write: the ledger on SQLite, PostgreSQL under the ledger.

use std::time::Duration;

use crate::dice::Dice;
use crate::figures::Figures;
use crate::history::History;
use crate::place::Place;
use crate::postgres::Cluster;
use crate::process::Victim;

/// Kills of the same logs, before new ones are made: they grow, and all of them is read after each kill.
const KILLS_OF_A_WORLD: usize = 20;

/// The longest from the first receipt to the kill, in milliseconds.
const WRITING_MS_MAX: u64 = 150;

/// The longest from the start to a kill that does not wait for a receipt, in milliseconds.
const STARTING_MS_MAX: u64 = 120;

/// `kill -9` of the process that writes all logs, at random moments: while it starts, while it writes, while it publishes.
pub(crate) async fn processes(episodes: usize, seed: u64, logs: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::new("kill", "sqlite", seed);
    let mut dice = Dice::new(seed);
    while figures.episode < episodes {
        let folder = tempfile::tempdir()?;
        let place = Place::sqlite(folder.path());
        let mut history = History::new(logs);
        for number in 1..=KILLS_OF_A_WORLD.min(episodes - figures.episode) {
            figures.episode += 1;
            let mut victim = Victim::start(&place, &history.positions()?, dice.next())?;
            if dice.one_in(4) {
                victim.listen(dice.less_than_ms(STARTING_MS_MAX), |_| false)?;
            } else {
                victim.wait_for_receipt()?;
                victim.listen(dice.less_than_ms(WRITING_MS_MAX), |_| false)?;
            }
            history.take(victim.kill()?, &mut figures);
            // Sometimes the next process meets what the last one left, and nobody has looked at it in between.
            let is_last = number == KILLS_OF_A_WORLD || figures.episode == episodes;
            if is_last || !dice.one_in(3) {
                history.check(&place, &mut figures).await?;
            }
        }
        keep_if_wrong(folder, &figures);
    }
    Ok(figures)
}

/// `pg_ctl -m immediate` of the database server, at random moments. The process that writes is killed with it, or goes on when the server
/// is back.
pub(crate) async fn servers(episodes: usize, seed: u64, logs: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::new("kill", "postgresql", seed);
    let mut dice = Dice::new(seed);
    let cluster = Cluster::start()?;
    while figures.episode < episodes {
        let folder = tempfile::tempdir()?;
        let name = format!("world{}", figures.episode);
        let place = Place {
            url: cluster.create_database(&name, "template0")?,
            folder: folder.path().to_owned(),
        };
        let mut history = History::new(logs);
        for _ in 0..KILLS_OF_A_WORLD.min(episodes - figures.episode) {
            figures.episode += 1;
            let mut victim = Victim::start(&place, &history.positions()?, dice.next())?;
            if dice.one_in(4) {
                victim.listen(dice.less_than_ms(STARTING_MS_MAX), |_| false)?;
            } else {
                victim.wait_for_receipt()?;
                victim.listen(dice.less_than_ms(WRITING_MS_MAX), |_| false)?;
            }
            cluster.stop_immediately()?;
            let said = if dice.one_in(2) {
                let said = victim.kill()?;
                cluster.start_again()?;
                said
            } else {
                victim.listen(Duration::ZERO, |_| false)?;
                cluster.start_again()?;
                figures.count("went_on");
                victim.wait_for_receipt()?;
                victim.kill()?
            };
            history.take(said, &mut figures);
            history.check(&place, &mut figures).await?;
        }
        cluster.drop_database(&name)?;
        keep_if_wrong(folder, &figures);
    }
    Ok(figures)
}

/// Leaves the folder for whoever looks into it.
pub(crate) fn keep_if_wrong(folder: tempfile::TempDir, figures: &Figures) {
    if figures.violations() > 0 {
        let _ = folder.keep();
    }
}
