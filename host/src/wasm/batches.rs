//! Batches as plugins see them: a resource on the host, of which a plugin pays for the view that it asks for.
//!
//! Invariant: a view is lowered from what the journal's batch keeps; columns and encoded bytes are handed over by
//! reference count, and the one copy is that into the guest's memory. These methods are registered by hand for that:
//! generated ones would clone.

use super::limits::{Budget, Charge};
use super::state::State;
use crate::record::columns::{
    AttributeColumns, EventColumns, NetworkColumns, OptionalTextColumn, TextColumn,
};
use crate::record::{Attributes, EventMetrics, Format, NetworkMetrics, Record, Rows, Status};
use bytes::Bytes;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceType};

/// The rows of one call, and the views of them that were asked for in it: a plugin that asks twice, or whose rows
/// are a part of a batch, makes the host build nothing twice. What the journal does not keep is charged to the instance.
pub(super) struct HostBatch<R: View> {
    rows: Rows<R>,
    records: Option<(Arc<Vec<R::Row>>, Charge)>,
    columns: Option<(R::Mirror, Charge)>,
    encoded: Vec<(Format, Bytes, Charge)>,
}

impl<R: View> HostBatch<R> {
    pub(super) fn new(rows: Rows<R>) -> Self {
        Self { rows, records: None, columns: None, encoded: Vec::new() }
    }

    fn records(&mut self, budget: &Arc<Budget>) -> wasmtime::Result<Arc<Vec<R::Row>>> {
        if let Some((records, _)) = &self.records {
            return Ok(records.clone());
        }
        let bytes = self.rows.iter().map(|row| row.bytes() + size_of::<R::Row>()).sum();
        let charge = charge(budget, "records", bytes)?;
        let records: Arc<Vec<_>> = Arc::new(self.rows.iter().map(R::row).collect());
        self.records = Some((records.clone(), charge));
        Ok(records)
    }

    fn columns(&mut self, budget: &Arc<Budget>) -> wasmtime::Result<R::Mirror> {
        if let Some((columns, _)) = &self.columns {
            return Ok(columns.clone());
        }
        let built = self.rows.columns();
        let charge = charge(budget, "columns", self.rows.own_bytes(&*built))?;
        let columns = R::mirror(&built);
        self.columns = Some((columns.clone(), charge));
        Ok(columns)
    }

    fn encode(&mut self, format: Format, budget: &Arc<Budget>) -> wasmtime::Result<Bytes> {
        if let Some((_, bytes, _)) = self.encoded.iter().find(|(known, ..)| *known == format) {
            return Ok(bytes.clone());
        }
        let bytes = self.rows.encode(format);
        let charge = charge(budget, "rendered bytes", self.rows.own_bytes(&bytes))?;
        self.encoded.push((format, bytes.clone(), charge));
        Ok(bytes)
    }
}

fn charge(budget: &Arc<Budget>, what: &str, bytes: usize) -> wasmtime::Result<Charge> {
    budget.charge(bytes).ok_or_else(|| {
        wasmtime::Error::msg(format!("the batch's {what} do not fit into what is left of limits.memory"))
    })
}

/// How a kind of record crosses into a plugin.
pub(super) trait View: Record {
    /// The name of its batches.
    const RESOURCE: &'static str;
    /// A record as the plain view has it.
    type Row: Lower + Send + Sync + 'static;
    /// The columns; a clone is a handle.
    type Mirror: Lower + Clone + Send + Sync + 'static;
    fn row(&self) -> Self::Row;
    fn mirror(columns: &Self::Columns) -> Self::Mirror;
}

/// Registers `batches`: both resources and their methods.
pub(super) fn add_to_linker(linker: &mut Linker<State>, interface: &str) -> wasmtime::Result<()> {
    let mut instance = linker.instance(interface)?;
    add_batch::<EventMetrics>(&mut instance)?;
    add_batch::<NetworkMetrics>(&mut instance)
}

fn add_batch<R: View>(instance: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    let method = |name: &str| format!("[method]{}.{name}", R::RESOURCE);
    // A guest has borrows only, so there is never one for it to drop.
    instance.resource(R::RESOURCE, ResourceType::host::<HostBatch<R>>(), |_, _| Ok(()))?;
    instance.func_wrap(&method("len"), |mut store, (this,): (Resource<HostBatch<R>>,)| {
        Ok((u32::try_from(batch(&mut store, &this)?.rows.len()).unwrap_or(u32::MAX),))
    })?;
    instance.func_wrap(
        &method("records"),
        |mut store: StoreContextMut<'_, State>, (this,): (Resource<HostBatch<R>>,)| {
            let budget = store.data().budget().clone();
            Ok((batch(&mut store, &this)?.records(&budget)?,))
        },
    )?;
    instance.func_wrap(
        &method("columns"),
        |mut store: StoreContextMut<'_, State>, (this,): (Resource<HostBatch<R>>,)| {
            let budget = store.data().budget().clone();
            Ok((batch(&mut store, &this)?.columns(&budget)?,))
        },
    )?;
    instance.func_wrap(
        &method("encode"),
        |mut store: StoreContextMut<'_, State>, (this, format): (Resource<HostBatch<R>>, String)| {
            let budget = store.data().budget().clone();
            let batch = batch(&mut store, &this)?;
            Ok((match format.parse::<Format>() {
                Ok(format) => Ok(batch.encode(format, &budget)?),
                Err(unknown) => Err(unknown.to_string()),
            },))
        },
    )
}

fn batch<'a, R: View>(
    store: &'a mut StoreContextMut<'_, State>,
    this: &Resource<HostBatch<R>>,
) -> wasmtime::Result<&'a mut HostBatch<R>> {
    Ok(store.data_mut().table.get_mut(this)?)
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum EventStatus {
    #[component(name = "pending")]
    Pending,
    #[component(name = "completed")]
    Completed,
    #[component(name = "failed")]
    Failed,
    #[component(name = "cancelled")]
    Cancelled,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Attribute {
    key: String,
    value: String,
    kind: u8,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct EventRow {
    id: String,
    #[component(name = "event-name")]
    event_name: String,
    #[component(name = "task-id")]
    task_id: String,
    #[component(name = "pipeline-id")]
    pipeline_id: Option<String>,
    #[component(name = "process-id")]
    process_id: Option<u32>,
    #[component(name = "start-time")]
    start_time: u64,
    #[component(name = "end-time")]
    end_time: Option<u64>,
    status: EventStatus,
    error: Option<String>,
    #[component(name = "retry-count")]
    retry_count: u32,
    attributes: Vec<Attribute>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct NetworkRow {
    id: String,
    #[component(name = "task-id")]
    task_id: String,
    operation: String,
    host: String,
    port: u16,
    #[component(name = "start-time")]
    start_time: u64,
    #[component(name = "end-time")]
    end_time: Option<u64>,
    #[component(name = "bytes-sent")]
    bytes_sent: u64,
    #[component(name = "bytes-received")]
    bytes_received: u64,
    error: Option<String>,
    attributes: Vec<Attribute>,
}

#[derive(Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct Texts {
    values: Arc<str>,
    ends: Arc<[u32]>,
}

#[derive(Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct OptionalTexts {
    present: Arc<[u8]>,
    column: Texts,
}

#[derive(Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct AttributesMirror {
    ends: Arc<[u32]>,
    keys: Texts,
    values: Texts,
    kinds: Arc<[u8]>,
}

#[derive(Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct EventMirror {
    id: Texts,
    #[component(name = "event-name")]
    event_name: Texts,
    #[component(name = "task-id")]
    task_id: Texts,
    #[component(name = "pipeline-id")]
    pipeline_id: OptionalTexts,
    #[component(name = "process-id")]
    process_id: Arc<[u32]>,
    #[component(name = "start-time")]
    start_time: Arc<[u64]>,
    #[component(name = "end-time")]
    end_time: Arc<[u64]>,
    status: Arc<[u8]>,
    error: OptionalTexts,
    #[component(name = "retry-count")]
    retry_count: Arc<[u32]>,
    attributes: AttributesMirror,
}

#[derive(Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct NetworkMirror {
    id: Texts,
    #[component(name = "task-id")]
    task_id: Texts,
    operation: Texts,
    host: Texts,
    port: Arc<[u16]>,
    #[component(name = "start-time")]
    start_time: Arc<[u64]>,
    #[component(name = "end-time")]
    end_time: Arc<[u64]>,
    #[component(name = "bytes-sent")]
    bytes_sent: Arc<[u64]>,
    #[component(name = "bytes-received")]
    bytes_received: Arc<[u64]>,
    error: OptionalTexts,
    attributes: AttributesMirror,
}

impl View for EventMetrics {
    const RESOURCE: &'static str = "event-batch";
    type Row = EventRow;
    type Mirror = EventMirror;

    fn row(&self) -> EventRow {
        EventRow {
            id: self.id.to_string(),
            event_name: self.event_name.to_string(),
            task_id: self.task_id.to_string(),
            pipeline_id: self.pipeline_id.as_ref().map(ToString::to_string),
            process_id: self.process_id,
            start_time: self.start_time.as_nanos(),
            end_time: self.end_time.map(|time| time.as_nanos()),
            status: match self.status {
                Status::Pending => EventStatus::Pending,
                Status::Completed => EventStatus::Completed,
                Status::Failed => EventStatus::Failed,
                Status::Cancelled => EventStatus::Cancelled,
            },
            error: self.error.as_ref().map(ToString::to_string),
            retry_count: self.retry_count,
            attributes: attributes(&self.attributes),
        }
    }

    fn mirror(columns: &EventColumns) -> EventMirror {
        EventMirror {
            id: texts(&columns.id),
            event_name: texts(&columns.event_name),
            task_id: texts(&columns.task_id),
            pipeline_id: optional_texts(&columns.pipeline_id),
            process_id: columns.process_id.clone(),
            start_time: columns.start_time.clone(),
            end_time: columns.end_time.clone(),
            status: columns.status.clone(),
            error: optional_texts(&columns.error),
            retry_count: columns.retry_count.clone(),
            attributes: attribute_columns(&columns.attributes),
        }
    }
}

impl View for NetworkMetrics {
    const RESOURCE: &'static str = "network-batch";
    type Row = NetworkRow;
    type Mirror = NetworkMirror;

    fn row(&self) -> NetworkRow {
        NetworkRow {
            id: self.id.to_string(),
            task_id: self.task_id.to_string(),
            operation: self.operation.to_string(),
            host: self.host.to_string(),
            port: self.port,
            start_time: self.start_time.as_nanos(),
            end_time: self.end_time.map(|time| time.as_nanos()),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            error: self.error.as_ref().map(ToString::to_string),
            attributes: attributes(&self.attributes),
        }
    }

    fn mirror(columns: &NetworkColumns) -> NetworkMirror {
        NetworkMirror {
            id: texts(&columns.id),
            task_id: texts(&columns.task_id),
            operation: texts(&columns.operation),
            host: texts(&columns.host),
            port: columns.port.clone(),
            start_time: columns.start_time.clone(),
            end_time: columns.end_time.clone(),
            bytes_sent: columns.bytes_sent.clone(),
            bytes_received: columns.bytes_received.clone(),
            error: optional_texts(&columns.error),
            attributes: attribute_columns(&columns.attributes),
        }
    }
}

fn attributes(attributes: &Attributes) -> Vec<Attribute> {
    attributes
        .iter()
        .map(|(key, value)| Attribute {
            key: key.to_owned(),
            value: value.as_text().into_owned(),
            kind: value.kind(),
        })
        .collect()
}

fn texts(column: &TextColumn) -> Texts {
    Texts { values: column.values.clone(), ends: column.ends.clone() }
}

fn optional_texts(column: &OptionalTextColumn) -> OptionalTexts {
    OptionalTexts { present: column.present.clone(), column: texts(&column.column) }
}

fn attribute_columns(columns: &AttributeColumns) -> AttributesMirror {
    AttributesMirror {
        ends: columns.ends.clone(),
        keys: texts(&columns.keys),
        values: texts(&columns.values),
        kinds: columns.kinds.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Budget, MemoryGauge};
    use super::HostBatch;
    use crate::record::{EventBatch, EventMetrics, Timestamp};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    #[test]
    fn records_are_charged_to_who_asks_for_them() {
        let event = |number| {
            EventMetrics::started(uuid::Uuid::from_u128(number), "resize", "a task", Timestamp::from_nanos(1))
        };
        let mut batch = HostBatch::new(EventBatch::detached((0..1_000).map(event).collect()));
        assert!(batch.records(&Budget::new(100_000, Arc::new(MemoryGauge::default()))).is_err());
        let gauge = Arc::new(MemoryGauge::default());
        let budget = Budget::new(1 << 20, gauge.clone());
        for _ in 0..2 {
            assert_eq!(batch.records(&budget).unwrap().len(), 1_000);
        }
        assert!(gauge.now.load(Ordering::Relaxed) > 200_000);
        drop(batch);
        assert_eq!(gauge.now.load(Ordering::Relaxed), 0);
    }
}
