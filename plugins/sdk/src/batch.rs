//! Batches, and the views of them: rows, columns, records, bytes.
//!
//! A batch of the host's stays there; each view crosses when it is asked for, columns once at most.

use crate::bindings::pressroom::publisher::batches as wit;
use crate::rows::{Event, NetworkOperation};
use crate::{EventColumns, EventMetrics, NetworkColumns, NetworkMetrics, PublishError};
use std::cell::OnceCell;

/// A format that the host renders; `wit/0.1/formats.md` fixes each by example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format<'a> {
    /// One JSON object a line, a newline at the end of each.
    JsonLines,
    /// One JSON object, an array per field.
    JsonColumns,
    /// InfluxDB line protocol, timestamps in nanoseconds.
    LineProtocol,
    /// An OTLP `ExportTraceServiceRequest`, a record being a span.
    OtlpProtobuf,
    /// Another one, by its name: the host's list grows.
    Named(&'a str),
}

impl Format<'_> {
    /// Its name in the contract.
    pub fn name(&self) -> &str {
        match self {
            Self::JsonLines => "json-lines",
            Self::JsonColumns => "json-columns",
            Self::LineProtocol => "line-protocol",
            Self::OtlpProtobuf => "otlp-protobuf",
            Self::Named(name) => name,
        }
    }
}

const NO_HOST: &str = "there is no host to render a batch made by hand";

macro_rules! batch {
    ($(#[$docs:meta])* $batch:ident, $columns:ident, $record:ident, $row:ident) => {
        $(#[$docs])*
        pub struct $batch<'a> {
            host: Option<&'a wit::$batch>,
            columns: OnceCell<$columns>,
        }

        impl<'a> $batch<'a> {
            pub(crate) fn of(host: &'a wit::$batch) -> Self {
                Self { host: Some(host), columns: OnceCell::new() }
            }

            /// How many rows there are; at least one in a batch of the host's.
            #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
            pub fn len(&self) -> usize {
                match (self.columns.get(), self.host) {
                    (Some(columns), _) => columns.len(),
                    (None, Some(host)) => host.len() as usize,
                    (None, None) => 0,
                }
            }

            /// The rows, borrowed from the columns: the view for a publisher that reads fields.
            #[inline]
            pub fn rows(&self) -> impl ExactSizeIterator<Item = $row<'_>> + DoubleEndedIterator + Clone {
                self.columns().rows()
            }

            /// The rows as columns: for arithmetic over whole columns. They cross once, whoever asks.
            #[inline]
            pub fn columns(&self) -> &$columns {
                self.columns.get_or_init(|| self.host.map(wit::$batch::columns).unwrap_or_default())
            }

            /// The rows as owned structs: the slow view, for what outlives the call.
            pub fn records(&self) -> Vec<$record> {
                match self.host {
                    Some(host) => host.records(),
                    None => self.rows().map(|row| row.to_record()).collect(),
                }
            }

            /// The whole batch rendered by the host, at native speed: the view for a publisher that forwards it.
            ///
            /// # Errors
            ///
            /// [`PublishError::Hold`]: this host does not know the format; the text lists those it knows.
            pub fn encode(&self, format: Format<'_>) -> Result<Vec<u8>, PublishError> {
                match self.host {
                    Some(host) => host.encode(format.name()).map_err(PublishError::hold),
                    None => Err(PublishError::hold(NO_HOST)),
                }
            }
        }

        /// A batch made by hand, for unit tests of a publisher.
        impl From<Vec<$record>> for $batch<'static> {
            fn from(records: Vec<$record>) -> Self {
                let columns = records.into_iter().collect::<$columns>();
                Self { host: None, columns: OnceCell::from(columns) }
            }
        }
    };
}

batch! {
    /// A batch of events. It is valid until the call that brought it returns.
    EventBatch, EventColumns, EventMetrics, Event
}

batch! {
    /// A batch of network operations. It is valid until the call that brought it returns.
    NetworkBatch, NetworkColumns, NetworkMetrics, NetworkOperation
}
