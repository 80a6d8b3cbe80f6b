//! A batch as the journal keeps it: immutable records, and the views of them that somebody asked for.
//!
//! Invariant: a view is built at most once per batch, whoever asks, and every publisher that wants it shares it, as long
//! as the journal has room for it. Views, the verdicts of rules among them, count in the journal's byte bound
//! ([`ViewGauge`]) and are let go when no active cursor needs them any more.

use super::columns::{EventColumns, NetworkColumns};
use super::rules::Verdicts;
use super::{Batch, EventMetrics, NetworkMetrics, Record};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The bytes that all live views of one journal occupy, and how many there may be.
#[derive(Clone, Debug)]
pub(crate) struct ViewGauge(Arc<Gauge>);

#[derive(Debug)]
struct Gauge {
    bytes: AtomicUsize,
    limit: AtomicUsize,
}

/// Without a limit, until one is set.
impl Default for ViewGauge {
    fn default() -> Self {
        Self(Arc::new(Gauge { bytes: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX) }))
    }
}

impl ViewGauge {
    /// The bytes of all live views.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::SeqCst)
    }

    /// Sets how many bytes there may be. More than that may be there already.
    pub(crate) fn limit(&self, bytes: usize) {
        self.0.limit.store(bytes, Ordering::SeqCst);
    }

    /// Counts a view, if it is within the limit. (It is added before the limit is read, and whoever lowers the limit
    /// reads the sum after that: one of the two sees the other.)
    fn admit(&self, bytes: usize) -> bool {
        let held = self.0.bytes.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
        let admitted = held <= self.0.limit.load(Ordering::SeqCst);
        if !admitted {
            self.release(bytes);
        }
        admitted
    }

    fn release(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// A rendered view in which every row can be found: row `i` is `bytes[ends[i - 1]..ends[i]]`.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) bytes: Bytes,
    pub(super) ends: Vec<u32>,
}

impl Rendered {
    /// The rows `range`, which follow one another.
    pub(super) fn rows(&self, range: Range<u32>) -> &[u8] {
        let end_of = |row: u32| self.ends.get(row as usize).map(|end| *end as usize);
        let start = range.start.checked_sub(1).map_or(Some(0), end_of);
        let end = range.end.checked_sub(1).and_then(end_of);
        start.zip(end).and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }
}

/// A view that is built by whoever asks first.
#[derive(Debug)]
pub(super) struct View<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for View<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Weigh> View<T> {
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    /// The view, built now if nobody has asked before. Who asks meanwhile waits for that one. It is kept if the journal has
    /// room for it.
    pub(super) fn get_or_build(&self, gauge: &ViewGauge, build: impl FnOnce() -> T) -> Arc<T> {
        let mut slot = self.0.lock();
        if let Some(view) = &*slot {
            return view.clone();
        }
        let view = Arc::new(build());
        if gauge.admit(view.weight()) {
            *slot = Some(view.clone());
        }
        view
    }

    pub(super) fn forget(&self, gauge: &ViewGauge) {
        if let Some(view) = self.0.lock().take() {
            gauge.release(view.weight());
        }
    }
}

/// What a view occupies, in bytes.
pub(crate) trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for Rendered {
    fn weight(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>()
    }
}

impl Weigh for Bytes {
    fn weight(&self) -> usize {
        self.len()
    }
}

/// The records of one kind, and their views.
pub struct Shelf<R: Record> {
    pub(super) rows: Vec<R>,
    pub(super) json_lines: View<Rendered>,
    pub(super) line_protocol: View<Rendered>,
    pub(super) json_columns: View<Bytes>,
    pub(super) otlp: View<Bytes>,
    pub(super) columns: View<R::Columns>,
    pub(super) verdicts: Verdicts,
}

impl<R: Record> Shelf<R> {
    fn new(rows: Vec<R>) -> Self {
        Self {
            rows,
            json_lines: View::default(),
            line_protocol: View::default(),
            json_columns: View::default(),
            otlp: View::default(),
            columns: View::default(),
            verdicts: Verdicts::default(),
        }
    }

    fn forget_views(&self, gauge: &ViewGauge) {
        self.json_lines.forget(gauge);
        self.line_protocol.forget(gauge);
        self.json_columns.forget(gauge);
        self.otlp.forget(gauge);
        self.columns.forget(gauge);
        self.verdicts.forget(gauge);
    }
}

/// How a kind of record is kept and viewed. Private, which seals [`Record`].
pub trait Shelved: Sized {
    /// The column view of this kind.
    #[allow(private_bounds)]
    type Columns: Weigh + Send + Sync + 'static;
    /// This kind's part of a batch.
    fn shelf(batch: &SharedBatch) -> &Shelf<Self>
    where
        Self: Record;
    /// The column view of `rows`.
    fn columns<'a>(rows: impl Iterator<Item = &'a Self> + Clone) -> Self::Columns
    where
        Self: 'a;
    /// Appends the record as JSON, its newline included.
    fn write_json_line(&self, out: &mut Vec<u8>);
    /// Appends the record as line protocol, its newline included.
    fn write_line_protocol(&self, out: &mut Vec<u8>);
    /// Appends the record as an OTLP `Span` message, without its tag and length.
    fn write_span(&self, out: &mut Vec<u8>);
    /// Appends `rows` as one JSON object of arrays.
    fn write_json_columns<'a>(rows: impl Iterator<Item = &'a Self> + Clone, out: &mut Vec<u8>)
    where
        Self: 'a;
}

/// A batch of the journal: its records never change, its views come and go.
///
/// Positions count records from the journal's beginning: `first` is that of the first event; the network operations
/// follow the events.
pub struct SharedBatch {
    first: u64,
    pub(super) events: Shelf<EventMetrics>,
    pub(super) operations: Shelf<NetworkMetrics>,
    record_bytes: usize,
    sealed: Instant,
    pub(super) gauge: ViewGauge,
}

impl SharedBatch {
    /// Seals `batch`, whose first record has the position `first`.
    pub(crate) fn new(first: u64, batch: Batch, gauge: ViewGauge) -> Self {
        let record_bytes = batch.bytes();
        Self::weighed(first, batch, record_bytes, gauge)
    }

    /// The same where it is known what the records occupy: weighing them means to look at every one.
    pub(crate) fn weighed(first: u64, batch: Batch, record_bytes: usize, gauge: ViewGauge) -> Self {
        Self {
            first,
            events: Shelf::new(batch.events),
            operations: Shelf::new(batch.operations),
            record_bytes,
            sealed: Instant::now(),
            gauge,
        }
    }

    /// The position of its first record.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The position after its last record.
    pub fn end(&self) -> u64 {
        self.first + self.len() as u64
    }

    /// How many records of both kinds.
    pub fn len(&self) -> usize {
        self.events.rows.len() + self.operations.rows.len()
    }

    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events.
    pub fn events(&self) -> &[EventMetrics] {
        &self.events.rows
    }

    /// The network operations.
    pub fn operations(&self) -> &[NetworkMetrics] {
        &self.operations.rows
    }

    /// How long ago it was sealed.
    pub(crate) fn age(&self) -> Duration {
        self.sealed.elapsed()
    }

    /// What its records occupy, in bytes; views are counted by the gauge.
    pub(crate) fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// What it occupies without its views: many batches of a few records each weigh more than their records.
    pub(crate) fn held_bytes(&self) -> usize {
        self.record_bytes + size_of::<Self>()
    }

    /// What its views, and those of the batches that share its gauge, occupy.
    #[cfg(test)]
    pub(super) fn views(&self) -> usize {
        self.gauge.bytes()
    }

    /// Lets every view go. Who holds one keeps it; who asks again builds it again.
    pub(crate) fn forget_views(&self) {
        self.events.forget_views(&self.gauge);
        self.operations.forget_views(&self.gauge);
    }
}

impl Drop for SharedBatch {
    fn drop(&mut self) {
        self.forget_views();
    }
}

impl std::fmt::Debug for SharedBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedBatch")
            .field("first", &self.first)
            .field("events", &self.events.rows.len())
            .field("operations", &self.operations.rows.len())
            .finish_non_exhaustive()
    }
}

impl Shelved for EventMetrics {
    type Columns = EventColumns;
    fn shelf(batch: &SharedBatch) -> &Shelf<Self> {
        &batch.events
    }
    fn columns<'a>(rows: impl Iterator<Item = &'a Self> + Clone) -> EventColumns {
        EventColumns::build(rows)
    }
    fn write_json_line(&self, out: &mut Vec<u8>) {
        super::json::write_event_line(self, out);
    }
    fn write_line_protocol(&self, out: &mut Vec<u8>) {
        super::line_protocol::write_event(self, out);
    }
    fn write_span(&self, out: &mut Vec<u8>) {
        super::otlp::write_event(self, out);
    }
    fn write_json_columns<'a>(rows: impl Iterator<Item = &'a Self> + Clone, out: &mut Vec<u8>) {
        super::json::write_event_columns(rows, out);
    }
}

impl Shelved for NetworkMetrics {
    type Columns = NetworkColumns;
    fn shelf(batch: &SharedBatch) -> &Shelf<Self> {
        &batch.operations
    }
    fn columns<'a>(rows: impl Iterator<Item = &'a Self> + Clone) -> NetworkColumns {
        NetworkColumns::build(rows)
    }
    fn write_json_line(&self, out: &mut Vec<u8>) {
        super::json::write_operation_line(self, out);
    }
    fn write_line_protocol(&self, out: &mut Vec<u8>) {
        super::line_protocol::write_operation(self, out);
    }
    fn write_span(&self, out: &mut Vec<u8>) {
        super::otlp::write_operation(self, out);
    }
    fn write_json_columns<'a>(rows: impl Iterator<Item = &'a Self> + Clone, out: &mut Vec<u8>) {
        super::json::write_operation_columns(rows, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EventMetrics, Format, NetworkMetrics, Rows, samples};
    use super::{SharedBatch, ViewGauge};
    use std::sync::Arc;

    const FORMATS: [Format; 4] =
        [Format::JsonLines, Format::JsonColumns, Format::LineProtocol, Format::OtlpProtobuf];

    fn build_every_view(batch: &Arc<SharedBatch>) {
        for format in FORMATS {
            Rows::<EventMetrics>::all(batch).encode(format);
            Rows::<NetworkMetrics>::all(batch).encode(format);
        }
        Rows::<EventMetrics>::all(batch).columns();
        Rows::<NetworkMetrics>::all(batch).columns();
    }

    #[test]
    fn the_gauge_counts_the_views_of_all_batches_until_they_are_let_go() {
        let gauge = ViewGauge::default();
        let first = Arc::new(SharedBatch::new(0, samples::batch(), gauge.clone()));
        let second = Arc::new(SharedBatch::new(first.end(), samples::batch(), gauge.clone()));
        assert_eq!(gauge.bytes(), 0);

        build_every_view(&first);
        let one = gauge.bytes();
        build_every_view(&first);
        assert_eq!(gauge.bytes(), one, "a view counts once");
        build_every_view(&second);
        assert_eq!(gauge.bytes(), 2 * one);

        first.forget_views();
        first.forget_views();
        assert_eq!(gauge.bytes(), one);
        build_every_view(&first);
        assert_eq!(gauge.bytes(), 2 * one, "who asks again builds again");

        drop(first);
        assert_eq!(gauge.bytes(), one);
        let rows = Rows::<EventMetrics>::all(&second);
        drop(second);
        assert_eq!(gauge.bytes(), one, "rows keep their batch");
        drop(rows);
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn who_holds_a_view_keeps_it_when_it_is_let_go() {
        let batch = Arc::new(SharedBatch::new(0, samples::batch(), ViewGauge::default()));
        let rows = Rows::<EventMetrics>::all(&batch);
        let (held, columns) = (rows.encode(Format::JsonLines), rows.columns());
        batch.forget_views();
        assert_eq!(held, rows.encode(Format::JsonLines));
        assert_eq!(columns, rows.columns());
        assert!(!Arc::ptr_eq(&columns, &rows.columns()));
    }

    #[test]
    fn a_view_that_several_threads_ask_for_is_built_once() {
        let batch = Arc::new(SharedBatch::new(0, samples::batch(), ViewGauge::default()));
        let pointers: Vec<usize> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8)
                .map(|_| {
                    let rows = Rows::<EventMetrics>::all(&batch);
                    scope.spawn(move || {
                        let view = rows.encode(Format::JsonLines);
                        view.as_ptr() as usize
                    })
                })
                .collect();
            asking.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(pointers.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn positions_count_events_then_operations() {
        let batch = SharedBatch::new(100, samples::batch(), ViewGauge::default());
        assert_eq!(batch.len(), batch.events().len() + batch.operations().len());
        assert_eq!((batch.first(), batch.end()), (100, 100 + batch.len() as u64));
        assert!(batch.record_bytes() >= batch.len() * size_of::<NetworkMetrics>());
    }
}
