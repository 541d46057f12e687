//! Drills: the database is replaced by an old backup, and the producers send what follows the backup. A log that was written since is not
//! written again before it is brought back: nothing is signed beside what was signed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::dice::Dice;
use crate::figures::Figures;
use crate::history::History;
use crate::kill::keep_if_wrong;
use crate::place::Place;
use crate::postgres::Cluster;
use crate::process::Victim;
use crate::records::{origin, tenant};
use crate::victim::Line;

/// The longest from the first receipt to the end of a process, in milliseconds.
const WRITING_MS_MAX: u64 = 250;

/// The longest until a log that must be refused is.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// What is left to remember how far the logs were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// The high-water files, and copies that may be behind.
    Marks,
    /// The copies; the high-water files were lost with the machine.
    Copies,
}

/// Replaces databases by their backups.
pub(crate) async fn run(
    episodes: usize,
    seed: u64,
    logs: usize,
    server: Option<Cluster>,
) -> anyhow::Result<Figures> {
    let variant = server.as_ref().map_or("sqlite", |_| "postgresql");
    let mut figures = Figures::new("restore", variant, seed);
    figures.may_refuse = true;
    let mut dice = Dice::new(seed);
    for episode in 1..=episodes {
        figures.episode = episode;
        let folder = tempfile::tempdir()?;
        let database = Database {
            server: server.as_ref(),
            name: format!("drill{episode}"),
        };
        let place = database.create(folder.path())?;
        let drill = Drill {
            place,
            database,
            history: History::new(logs),
        };
        drill.run(&mut dice, &mut figures).await?;
        keep_if_wrong(folder, &figures);
    }
    Ok(figures)
}

struct Drill<'a> {
    place: Place,
    database: Database<'a>,
    history: History,
}

impl Drill<'_> {
    async fn run(mut self, dice: &mut Dice, figures: &mut Figures) -> anyhow::Result<()> {
        let left = if dice.one_in(2) {
            Left::Marks
        } else {
            Left::Copies
        };
        self.write(dice, figures)?;
        self.history.check(&self.place, figures).await?;
        let then = self.history.positions()?;
        self.database.save(&self.place, "backup")?;
        let before = self.sizes().await?;
        // All of them: one that was not written since may go on from the backup, and then the original has lost that.
        let mut grown = Vec::new();
        while grown.len() < self.history.logs.len() {
            self.write(dice, figures)?;
            grown = self.grown_beyond(&before)?;
        }
        if left == Left::Copies {
            // The check publishes everything.
            self.history.check(&self.place, figures).await?;
            fs::remove_dir_all(self.place.marks())?;
        }
        self.database.save(&self.place, "original")?;
        self.database.put_back(&self.place, "backup")?;
        self.expect_refusals(&then, &before, &grown, dice, figures)
            .await?;
        self.bring_back(left, &grown, figures).await?;
        self.write(dice, figures)?;
        self.history.check(&self.place, figures).await?;
        self.database.forget(&["backup", "original"])
    }

    /// A process writes for a while, and ends in one way or the other.
    fn write(&mut self, dice: &mut Dice, figures: &mut Figures) -> anyhow::Result<()> {
        let mut victim = Victim::start(&self.place, &self.history.positions()?, dice.next())?;
        victim.wait_for_receipt()?;
        victim.listen(dice.less_than_ms(WRITING_MS_MAX), |_| false)?;
        let said = if dice.one_in(2) {
            victim.stop()?
        } else {
            victim.kill()?
        };
        if let Some(line) = said
            .iter()
            .find(|line| matches!(line, Line::Refused { .. }))
        {
            figures.wrong("wrong", format!("{line:?}"));
        }
        self.history.take(said, figures);
        Ok(())
    }

    /// The logs of which more than this was told or is remembered: a process may be killed before it tells of what is committed.
    fn grown_beyond(&self, sizes: &[u64]) -> anyhow::Result<Vec<usize>> {
        let mut grown = self.history.grown_beyond(sizes)?;
        let marks = read_all(&self.place.marks())?;
        for (log, size) in sizes.iter().enumerate() {
            let origin = format!("{}\n", origin(log));
            let marks = marks.iter().map(|(_, note)| String::from_utf8_lossy(note));
            let published = self.place.published(log)?.unwrap_or_default();
            for note in marks.chain([published.into()]) {
                let is_more = |note: &str| -> Option<bool> {
                    let size_of = note.strip_prefix(&origin)?.lines().next()?;
                    Some(size_of.parse::<u64>().ok()? > *size)
                };
                if is_more(&note) == Some(true) && !grown.contains(&log) {
                    grown.push(log);
                }
            }
        }
        Ok(grown)
    }

    /// The heads as the database has them.
    async fn sizes(&self) -> anyhow::Result<Vec<u64>> {
        let engine = self.place.open().await?;
        let mut sizes = Vec::new();
        for log in 0..self.history.logs.len() {
            let size = match engine.log(&tenant(log)).await {
                Ok(log) => log.head().await?.size,
                Err(_) => 0,
            };
            sizes.push(size);
        }
        engine.close().await;
        Ok(sizes)
    }

    /// The producers came from the same backup, and send again what they sent after it: the log must take none of it.
    async fn expect_refusals(
        &mut self,
        then: &[Vec<crate::records::Position>],
        before: &[u64],
        grown: &[usize],
        dice: &mut Dice,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let marks = read_all(&self.place.marks())?;
        let mut victim = Victim::start(&self.place, then, dice.next())?;
        let mut refused = Vec::new();
        for log in grown {
            let is_it =
                |line: &Line| matches!(line, Line::Refused { log: found, .. } if found == log);
            let known = victim.said().iter().any(is_it);
            if known || victim.listen(REFUSED_MAX, is_it)? {
                refused.push(*log);
            } else {
                figures.wrong("forks", format!("log {log} was not refused"));
            }
        }
        let said = victim.kill()?;
        for line in &said {
            let is_signed = match line {
                Line::Receipt { log, .. } => grown.contains(log),
                _ => false,
            };
            if is_signed {
                figures.wrong("forks", format!("an old backup was written: {line:?}"));
            }
        }
        figures.detected += refused.len() as u64;
        let others = |line: &Line| match line {
            Line::Receipt { log, .. } | Line::Published { log, .. } => !grown.contains(log),
            Line::Refused { .. } => false,
            _ => true,
        };
        self.history
            .take(said.into_iter().filter(others).collect(), figures);
        let after = self.sizes().await?;
        for log in grown {
            if after[*log] != before[*log] {
                figures.wrong("forks", format!("log {log} grew on an old backup"));
            }
        }
        if grown.len() == before.len() && read_all(&self.place.marks())? != marks {
            figures.wrong("forks", "the high-water files were written".to_owned());
        }
        Ok(())
    }

    async fn bring_back(
        &mut self,
        left: Left,
        grown: &[usize],
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let engine = self.place.open().await?;
        let mut all = true;
        for log in grown {
            let log = engine.log(&tenant(*log)).await;
            let copy = self.place.publication()?;
            let recovered = match log {
                Ok(log) => log.recover(&copy, &mut |_, _| {}).await.map(drop),
                Err(error) => Err(error),
            };
            match recovered {
                Ok(()) => figures.count("recovered"),
                // The copy is behind what was signed: the rest is in the original only.
                Err(_) if left == Left::Marks => all = false,
                Err(error) => figures.wrong("lost", format!("not recovered: {error}")),
            }
        }
        engine.close().await;
        if !all {
            figures.count("originals");
            self.database.put_back(&self.place, "original")?;
        }
        Ok(())
    }
}

/// The files of a folder with their bytes.
fn read_all(folder: &Path) -> anyhow::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let mut files = Vec::new();
    if folder.is_dir() {
        for file in fs::read_dir(folder)? {
            let file = file?;
            files.push((file.file_name(), fs::read(file.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// A database of which there are copies.
struct Database<'a> {
    server: Option<&'a Cluster>,
    name: String,
}

const FILES: [&str; 3] = ["ledger.db", "ledger.db-wal", "ledger.db-shm"];

impl Database<'_> {
    fn create(&self, folder: &Path) -> anyhow::Result<Place> {
        let mut place = Place::sqlite(folder);
        if let Some(server) = self.server {
            place.url = server.create_database(&self.name, "template0")?;
        }
        Ok(place)
    }

    /// Keeps the database as it is. Nobody uses it.
    fn save(&self, place: &Place, name: &str) -> anyhow::Result<()> {
        match self.server {
            Some(server) => {
                server.create_database(&format!("{}{name}", self.name), &self.name)?;
            }
            None => {
                // Without the index of the write-ahead log, which is made again.
                for file in &FILES[..2] {
                    let from = place.folder.join(file);
                    if from.exists() {
                        fs::copy(from, place.folder.join(format!("{name}.{file}")))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts what was kept in the place of the database.
    fn put_back(&self, place: &Place, name: &str) -> anyhow::Result<()> {
        match self.server {
            Some(server) => {
                server.drop_database(&self.name)?;
                server.create_database(&self.name, &format!("{}{name}", self.name))?;
            }
            None => {
                for file in FILES {
                    let to = place.folder.join(file);
                    if to.exists() {
                        fs::remove_file(&to)?;
                    }
                    let from = place.folder.join(format!("{name}.{file}"));
                    if from.exists() {
                        fs::copy(&from, to).with_context(|| from.display().to_string())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn forget(&self, names: &[&str]) -> anyhow::Result<()> {
        let Some(server) = self.server else {
            return Ok(());
        };
        for name in names {
            server.drop_database(&format!("{}{name}", self.name))?;
        }
        server.drop_database(&self.name)
    }
}
