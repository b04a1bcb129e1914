//! The outbox's thread: takes what lies before it, records it, and makes the next report when one is wanted.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tern_protocol::{
    ids::{Generation, ModelVersion},
    report::v1::Row,
    watermark::Watermark,
};
use tokio::sync::oneshot;

use super::{
    Inbox, KEPT, Opened, Options, OutboxPage, Ready, Shared,
    database::{Database, Failure, MOST_ROWS},
    offering::{Said, Stamp},
    opening, rows,
};
use crate::{
    clock::Moment,
    telemetry::{Batch, Counts},
    vitals,
};

/// How long a disk that refused is left alone.
const RETRY: Duration = Duration::from_secs(10);
/// The longest patience: a broker whose server is away must not be sent the same all day.
const LONGEST_PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// No more is offered while so many offered rows are not covered, as many as can be in flight: what has no sequence yet can
/// still be merged, so that a server which takes nothing for months costs resolution and not counts.
const MOST_UNCOVERED: u64 = crate::link::WINDOW as u64 * MOST_ROWS as u64;
/// How often covered rows are looked through for those that have stayed long enough.
const TIDY: Duration = Duration::from_secs(3600);
/// Before this, a rate per day says nothing.
const LEAST_UPTIME: Duration = Duration::from_secs(3600);

/// The one writer of `outbox.db`.
pub(super) struct Clerk {
    options: Options,
    shared: Arc<Shared>,
    database: Option<Database>,
    boot: u64,
    /// Whether the number was given out: it stays then.
    is_numbered: bool,
    generation: Generation,
    /// What is not recorded yet.
    batch: Batch,
    counted: BTreeMap<ModelVersion, Counts>,
    session: Option<u64>,
    /// The newest sequence that was published in this session.
    cursor: u64,
    /// When the watermark last moved, or the first report after it was published.
    moved: Moment,
    patience: Duration,
    wanted: Option<oneshot::Sender<Ready>>,
    due: bool,
    fault: Option<String>,
    refused: Option<Moment>,
    tidied: Option<Moment>,
    started: Moment,
    written: Option<u64>,
}

impl Clerk {
    pub(super) fn new(options: Options, shared: Arc<Shared>) -> Self {
        let mut clerk = Self {
            boot: options.boots.started + 1,
            is_numbered: false,
            generation: options.generation,
            shared,
            database: None,
            batch: Batch::default(),
            counted: BTreeMap::new(),
            session: None,
            cursor: 0,
            moved: Moment::now(),
            patience: options.patience,
            wanted: None,
            due: false,
            fault: None,
            refused: None,
            tidied: None,
            started: Moment::now(),
            written: None,
            options,
        };
        let opened = caught(|| clerk.open());
        clerk.note(opened);
        clerk.is_numbered = true;
        clerk.show();
        clerk
    }

    pub(super) fn opened(&self) -> Opened {
        Opened { boot: self.boot, is_open: self.database.is_some(), totals: self.counted.clone() }
    }

    pub(super) fn run(mut self) {
        loop {
            let owes = !self.batch.is_empty() || self.database.is_none();
            let inbox = self.shared.wait(if owes { RETRY } else { TIDY });
            let stop = inbox.stop;
            // Nobody would start this thread again: what is told would be lost, and nobody would see it.
            let done = caught(|| self.turn(inbox));
            self.note(done);
            self.show();
            if stop {
                return;
            }
        }
    }

    fn turn(&mut self, inbox: Inbox) -> Result<(), Failure> {
        let stop = inbox.stop;
        self.take(inbox);
        if stop {
            // Whoever said so waits; the pause after a refusal is for others.
            self.refused = None;
        }
        self.work()
    }

    fn take(&mut self, inbox: Inbox) {
        #[cfg(test)]
        assert!(!inbox.trap, "the trap of a test");
        let Inbox { batch, send, session, watermarks, generation, wanted, .. } = inbox;
        self.generation = generation.unwrap_or(self.generation);
        self.batch.absorb(batch);
        self.due |= send;
        if let Some(session) = session {
            self.session = Some(session);
            self.rewind();
        }
        if wanted.is_some() {
            self.wanted = wanted;
        }
        for watermark in watermarks {
            let said = self.covered(watermark);
            self.note(said);
        }
    }

    /// Everything that there is to do, in order of what must not be lost.
    fn work(&mut self) -> Result<(), Failure> {
        if self.refused.is_some_and(|refused| refused.elapsed() < RETRY) {
            return self.publish();
        }
        self.open()?;
        let recorded = self.record();
        // A disk that takes no more still gives what is offered.
        let published = self.publish();
        recorded.and(published)?;
        self.tidy()
    }

    fn open(&mut self) -> Result<(), Failure> {
        if self.database.is_some() {
            return Ok(());
        }
        let running = self.is_numbered.then_some(self.boot);
        let database = opening::open(&self.options.folder, self.options.boots, running, self.stamp())?;
        self.boot = database.meta.boot;
        self.options.boots.opened = self.boot;
        let totals = database.totals()?;
        if totals.is_empty() {
            // Another file than before: what was counted goes on from where it stood.
            for (version, counts) in std::mem::take(&mut self.counted) {
                self.batch.counts.entry(version).or_default().add(&counts);
            }
        }
        self.counted = totals;
        self.database = Some(database);
        self.rewind();
        Ok(())
    }

    fn record(&mut self) -> Result<(), Failure> {
        let stamp = self.stamp();
        let Some(database) = &mut self.database else { return Ok(()) };
        if self.batch.is_empty() {
            return Ok(());
        }
        let room = database.keep_within(self.options.budget);
        let held = match &room {
            Err(Failure::Full) if database.bytes()? <= self.options.budget / 2 * 3 => self.batch.hold_back_events(),
            Err(_) => return room,
            Ok(()) => Batch::default(),
        };
        let loss = self.batch.confess(stamp.at_ms, stamp.generation);
        let recorded = if self.batch.is_empty() { Ok(()) } else { database.record(&self.batch, loss) };
        if recorded.is_ok() {
            for (version, counts) in std::mem::take(&mut self.batch).counts {
                self.counted.entry(version).or_default().add(&counts);
            }
        }
        self.batch.absorb(held);
        recorded.and(room)
    }

    /// Answers whoever wants a report, if there is one.
    fn publish(&mut self) -> Result<(), Failure> {
        let (Some(session), Some(wanted)) = (self.session, &self.wanted) else { return Ok(()) };
        if wanted.is_closed() {
            self.wanted = None;
            return Ok(());
        }
        let stamp = self.stamp();
        let Some(database) = &mut self.database else { return Ok(()) };
        if self.cursor > database.meta.watermark && self.moved.elapsed() >= self.patience {
            tracing::warn!("the server has not covered what was published: it is published again");
            (self.cursor, self.moved) = (database.meta.watermark, Moment::now());
            self.patience = self.patience.saturating_mul(2).min(LONGEST_PATIENCE);
            // One row that cannot be read costs those beside it their report.
            database.at_once = (database.at_once / 4).max(1);
        }
        let mut report = database.published(self.cursor, stamp)?;
        if report.is_empty() && self.due && database.meta.sequence - database.meta.watermark < MOST_UNCOVERED {
            self.due = database.offer()? > 0;
            report = database.published(self.cursor, stamp)?;
        }
        let Some(last) = report.last().map(|row| row.sequence) else { return Ok(()) };
        let stream = database.meta.stream;
        if self.cursor == database.meta.watermark {
            self.moved = Moment::now();
        }
        let payload = payload(stream, report)?;
        self.cursor = last;
        if let Some(wanted) = self.wanted.take() {
            // The link is gone where nobody takes it, and comes back with a session of another number.
            let _ = wanted.send(Ready { session, payload });
        }
        Ok(())
    }

    fn covered(&mut self, watermark: Watermark) -> Result<(), Failure> {
        let stamp = self.stamp();
        let Some(database) = &mut self.database else { return Ok(()) };
        let before = database.meta.watermark;
        let said = database.watermark(watermark.stream, watermark.sequence, stamp)?;
        match said {
            Said::Foreign => tracing::debug!("a watermark of another stream"),
            Said::Covered => {
                if database.meta.watermark > before {
                    database.at_once = MOST_ROWS;
                    (self.moved, self.patience) = (Moment::now(), self.options.patience);
                }
                self.cursor = self.cursor.max(watermark.sequence);
            }
            Said::Rewound => {
                tracing::warn!(from = before, to = watermark.sequence, "the server lost rows: they are sent again");
                self.cursor = self.cursor.min(watermark.sequence);
            }
            Said::NewStream => {
                (self.cursor, self.due) = (0, true);
            }
        }
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), Failure> {
        if self.tidied.is_some_and(|tidied| tidied.elapsed() < TIDY) {
            return Ok(());
        }
        self.tidied = Some(Moment::now());
        let kept_ms = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
        let before = self.stamp().at_ms.saturating_sub(kept_ms);
        match &mut self.database {
            Some(database) => database.forget_covered(before),
            None => Ok(()),
        }
    }

    fn rewind(&mut self) {
        self.cursor = self.database.as_ref().map_or(0, |d| d.meta.watermark);
        self.moved = Moment::now();
    }

    fn stamp(&self) -> Stamp {
        Stamp { at_ms: self.options.clock.now().as_millisecond(), generation: self.generation }
    }

    /// Remembers what went wrong, or that nothing does any more.
    fn note(&mut self, done: Result<(), Failure>) {
        let Err(failure) = done else {
            if self.batch.is_empty() && self.database.is_some() {
                (self.fault, self.refused) = (None, None);
            }
            return;
        };
        let why = failure.to_string();
        if self.fault.as_ref() != Some(&why) {
            tracing::error!(%why, "statistics wait in memory");
        }
        if matches!(failure, Failure::Damaged(_) | Failure::Bug) {
            // The next try opens it; where it finds damage, it begins another.
            self.database = None;
        }
        (self.fault, self.refused) = (Some(why), Some(Moment::now()));
    }

    fn show(&mut self) {
        let written = vitals::written_by_this_thread();
        let since = *self.written.get_or_insert(written.unwrap_or_default());
        let written = written.map(|bytes| bytes.saturating_sub(since));
        let seconds = self.started.elapsed().as_secs();
        let per_day = |bytes: u64| bytes.saturating_mul(86_400) / seconds.max(1);
        let mut page = OutboxPage {
            written_bytes: written,
            written_bytes_per_day: written.map(per_day).filter(|_| seconds >= LEAST_UPTIME.as_secs()),
            fault: self.fault.clone(),
            counted: self.counted.clone(),
            ..OutboxPage::default()
        };
        if let Some(database) = &self.database {
            let meta = database.meta;
            page.stream = hex::encode(meta.stream.0);
            (page.sequence, page.watermark) = (meta.sequence, meta.watermark);
            page.offered = meta.sequence - meta.watermark;
            // A database that does not say is found out by the next change.
            page.waiting = database.waiting().unwrap_or_default();
            page.bytes = database.bytes().unwrap_or_default();
        }
        *self.shared.page.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }
}

/// The work, or that it panicked: transactions are taken back then, and what is not recorded stays in the batch.
fn caught(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Failure::Bug))
}

fn payload(stream: tern_protocol::report::v1::Stream, report: Vec<Row>) -> Result<Bytes, Failure> {
    let made = rows::payload(stream, report);
    made.map(Bytes::from).map_err(|error| Failure::Unavailable(format!("a report: {error}")))
}
