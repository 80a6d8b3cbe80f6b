//! Columns from records: how a batch is made by hand, for unit tests.

use crate::{
    AttributeColumns, AttributeRecord, EventColumns, EventMetrics, EventStatus, NetworkColumns,
    NetworkMetrics, OptionalTextColumn, TextColumn,
};

impl FromIterator<EventMetrics> for EventColumns {
    fn from_iter<I: IntoIterator<Item = EventMetrics>>(records: I) -> Self {
        let mut columns = Self::default();
        for record in records {
            columns.id.push(&record.id);
            columns.event_name.push(&record.event_name);
            columns.task_id.push(&record.task_id);
            columns.pipeline_id.push(record.pipeline_id.as_deref());
            columns.process_id.push(record.process_id.unwrap_or(0));
            columns.start_time.push(record.start_time);
            columns.end_time.push(record.end_time.unwrap_or(0));
            columns.status.push(record.status as u8);
            columns.error.push(record.error.as_deref());
            columns.retry_count.push(record.retry_count);
            columns.attributes.push(&record.attributes);
        }
        columns
    }
}

impl FromIterator<NetworkMetrics> for NetworkColumns {
    fn from_iter<I: IntoIterator<Item = NetworkMetrics>>(records: I) -> Self {
        let mut columns = Self::default();
        for record in records {
            columns.id.push(&record.id);
            columns.task_id.push(&record.task_id);
            columns.operation.push(&record.operation);
            columns.host.push(&record.host);
            columns.port.push(record.port);
            columns.start_time.push(record.start_time);
            columns.end_time.push(record.end_time.unwrap_or(0));
            columns.bytes_sent.push(record.bytes_sent);
            columns.bytes_received.push(record.bytes_received);
            columns.error.push(record.error.as_deref());
            columns.attributes.push(&record.attributes);
        }
        columns
    }
}

impl TextColumn {
    fn push(&mut self, text: &str) {
        self.values.push_str(text);
        self.ends.push(position(self.values.len()));
    }
}

impl OptionalTextColumn {
    fn push(&mut self, text: Option<&str>) {
        self.present.push(u8::from(text.is_some()));
        self.column.push(text.unwrap_or_default());
    }
}

impl AttributeColumns {
    fn push(&mut self, attributes: &[AttributeRecord]) {
        for attribute in attributes {
            self.keys.push(&attribute.key);
            self.values.push(&attribute.value);
            self.kinds.push(attribute.kind);
        }
        self.ends.push(position(self.kinds.len()));
    }
}

fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

macro_rules! empty {
    ($type:ident { $($field:ident),+ }) => {
        /// No rows.
        impl Default for $type {
            fn default() -> Self {
                Self { $($field: Default::default()),+ }
            }
        }
    };
}

empty!(TextColumn { values, ends });
empty!(OptionalTextColumn { present, column });
empty!(AttributeColumns { ends, keys, values, kinds });
empty!(EventColumns {
    id,
    event_name,
    task_id,
    pipeline_id,
    process_id,
    start_time,
    end_time,
    status,
    error,
    retry_count,
    attributes
});
empty!(NetworkColumns {
    id,
    task_id,
    operation,
    host,
    port,
    start_time,
    end_time,
    bytes_sent,
    bytes_received,
    error,
    attributes
});

/// A completed event without a name: what a test fills in with what it is about.
impl Default for EventMetrics {
    fn default() -> Self {
        Self {
            id: String::new(),
            event_name: String::new(),
            task_id: String::new(),
            pipeline_id: None,
            process_id: None,
            start_time: 0,
            end_time: None,
            status: EventStatus::Completed,
            error: None,
            retry_count: 0,
            attributes: Vec::new(),
        }
    }
}

/// An operation without a name: what a test fills in with what it is about.
impl Default for NetworkMetrics {
    fn default() -> Self {
        Self {
            id: String::new(),
            task_id: String::new(),
            operation: String::new(),
            host: String::new(),
            port: 0,
            start_time: 0,
            end_time: None,
            bytes_sent: 0,
            bytes_received: 0,
            error: None,
            attributes: Vec::new(),
        }
    }
}
