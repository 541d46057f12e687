//! Gathers records into pages and hands them on, waiting while the taker is busy.

use tokio::sync::mpsc;

use crate::error::{ConnectorError, Result};
use crate::record::{
    ControlTotals, PAGE_RECORDS, Page, ReadSummary, RowError, RowErrors, SourceRecord,
};

/// The sending end of a read.
pub(crate) struct Pager {
    sink: mpsc::Sender<Page>,
    pending: Vec<SourceRecord>,
    pages: u64,
    counts: ControlTotals,
    errors: RowErrors,
}

impl Pager {
    pub(crate) fn new(sink: mpsc::Sender<Page>) -> Self {
        Self {
            sink,
            pending: Vec::with_capacity(PAGE_RECORDS),
            pages: 0,
            counts: ControlTotals::default(),
            errors: RowErrors::default(),
        }
    }

    /// How many pages were sent so far.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    pub(crate) fn error(
        &mut self,
        place: impl Into<String>,
        row: Option<u64>,
        reason: impl Into<String>,
    ) {
        self.errors.push(RowError {
            place: place.into(),
            row,
            reason: reason.into(),
        });
    }

    /// Where to report what could not be taken.
    pub(crate) fn errors(&mut self) -> &mut RowErrors {
        &mut self.errors
    }

    /// From a thread that may block.
    pub(crate) fn push_blocking(&mut self, record: SourceRecord) -> Result<()> {
        match self.add(record) {
            Some(page) => self
                .sink
                .blocking_send(page)
                .map_err(|_| ConnectorError::SinkClosed),
            None => Ok(()),
        }
    }

    /// From a task.
    pub(crate) async fn push(&mut self, record: SourceRecord) -> Result<()> {
        match self.add(record) {
            Some(page) => self
                .sink
                .send(page)
                .await
                .map_err(|_| ConnectorError::SinkClosed),
            None => Ok(()),
        }
    }

    pub(crate) fn finish_blocking(mut self, watermark: Option<String>) -> Result<ReadSummary> {
        if let Some(page) = self.last_page() {
            self.sink
                .blocking_send(page)
                .map_err(|_| ConnectorError::SinkClosed)?;
        }
        Ok(self.summary(watermark))
    }

    pub(crate) async fn finish(mut self, watermark: Option<String>) -> Result<ReadSummary> {
        if let Some(page) = self.last_page() {
            self.sink
                .send(page)
                .await
                .map_err(|_| ConnectorError::SinkClosed)?;
        }
        Ok(self.summary(watermark))
    }

    fn add(&mut self, record: SourceRecord) -> Option<Page> {
        self.counts.add(&record);
        self.pending.push(record);
        (self.pending.len() == PAGE_RECORDS).then(|| self.take_page())
    }

    fn last_page(&mut self) -> Option<Page> {
        (!self.pending.is_empty()).then(|| self.take_page())
    }

    fn take_page(&mut self) -> Page {
        let records = std::mem::replace(&mut self.pending, Vec::with_capacity(PAGE_RECORDS));
        let number = self.pages;
        self.pages += 1;
        Page { number, records }
    }

    fn summary(self, watermark: Option<String>) -> ReadSummary {
        ReadSummary {
            pages: self.pages,
            counts: self.counts,
            watermark,
            errors: self.errors,
        }
    }
}
