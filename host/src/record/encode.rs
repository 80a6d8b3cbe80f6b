//! Batches rendered to bytes: the formats that publishers and plugins ask for by name.
//!
//! Row-wise formats (`json-lines`, `line-protocol`) are rendered once for a whole batch of the journal, and any
//! selection of its rows is copied out of that; the others are kept for a whole batch and rendered for a part of one.

use super::rows::{Part, Selection};
use super::shared::{Rendered, Shelf, View};
use super::{Record, Rows, SharedBatch};
use bytes::Bytes;
use std::str::FromStr;
use std::sync::Arc;

/// A format of `encode`; `wit/0.1/formats.md` fixes each by example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One JSON object a line, a newline at the end of each.
    JsonLines,
    /// One JSON object, an array per field.
    JsonColumns,
    /// InfluxDB line protocol, timestamps in nanoseconds.
    LineProtocol,
    /// An OTLP `ExportTraceServiceRequest`, a record being a span.
    OtlpProtobuf,
}

/// A format that this host does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format \"{0}\", known are json-lines, json-columns, line-protocol, otlp-protobuf")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "json-lines" => Ok(Self::JsonLines),
            "json-columns" => Ok(Self::JsonColumns),
            "line-protocol" => Ok(Self::LineProtocol),
            "otlp-protobuf" => Ok(Self::OtlpProtobuf),
            _ => Err(UnknownFormat(name.chars().take(64).collect())),
        }
    }
}

/// Rows by which the size of the others is judged, so that a batch is not moved again and again while it is rendered.
const FIRST_ROWS: usize = 8;

/// What is set aside for the others at most, in bytes; beyond it a view grows as it comes.
const MAX_RESERVED: usize = 4 << 20;

impl<R: Record> Rows<R> {
    /// The rows rendered in `format`. For a whole batch of the journal this is a handle to what is kept with it.
    pub fn encode(&self, format: Format) -> Bytes {
        match format {
            Format::JsonLines => self.row_wise(|shelf| &shelf.json_lines, R::write_json_line),
            Format::LineProtocol => self.row_wise(|shelf| &shelf.line_protocol, R::write_line_protocol),
            Format::JsonColumns => self.at_once(
                |shelf| &shelf.json_columns,
                |rows| {
                    let mut out = Vec::new();
                    R::write_json_columns(rows.iter(), &mut out);
                    out.into()
                },
            ),
            Format::OtlpProtobuf => {
                self.at_once(|shelf| &shelf.otlp, |rows| super::otlp::render(rows.iter()))
            }
        }
    }

    /// The column view of the rows. For a whole batch of the journal this is what is kept with it.
    pub fn columns(&self) -> Arc<R::Columns> {
        match self.whole() {
            Some(batch) => R::shelf(batch).columns.get_or_build(&batch.gauge, || R::columns(self.iter())),
            None => Arc::new(R::columns(self.iter())),
        }
    }

    fn at_once(&self, view: fn(&Shelf<R>) -> &View<Bytes>, render: fn(&Self) -> Bytes) -> Bytes {
        match self.whole() {
            Some(batch) => Bytes::clone(&view(R::shelf(batch)).get_or_build(&batch.gauge, || render(self))),
            None => render(self),
        }
    }

    fn row_wise(&self, view: fn(&Shelf<R>) -> &View<Rendered>, write: fn(&R, &mut Vec<u8>)) -> Bytes {
        if let Some(batch) = self.whole() {
            return whole_view(batch, view, write).bytes.clone();
        }
        let mut out = Vec::new();
        for part in &self.parts {
            append_part(part, view, write, &mut out);
        }
        out.into()
    }
}

fn whole_view<R: Record>(
    batch: &SharedBatch,
    view: fn(&Shelf<R>) -> &View<Rendered>,
    write: fn(&R, &mut Vec<u8>),
) -> Arc<Rendered> {
    let shelf = R::shelf(batch);
    view(shelf).get_or_build(&batch.gauge, || render(shelf.rows.iter(), shelf.rows.len(), write))
}

fn render<'a, R: Record>(
    rows: impl Iterator<Item = &'a R>,
    count: usize,
    write: fn(&R, &mut Vec<u8>),
) -> Rendered {
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(count);
    for row in rows {
        if ends.len() == FIRST_ROWS {
            // The first rows may be large and the others not, and a stranger may have made them so.
            let rest = bytes.len() / FIRST_ROWS * count.saturating_sub(FIRST_ROWS);
            bytes.reserve_exact((rest + rest / 16).min(MAX_RESERVED));
        }
        write(row, &mut bytes);
        ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    if bytes.capacity() - bytes.len() > bytes.len() / 8 {
        bytes.shrink_to_fit();
    }
    Rendered { bytes: bytes.into(), ends }
}

/// The rows of a part in a view: that of the whole batch, or, and then the second is true, one of its rows alone. Few
/// rows of a batch that nobody has rendered are rendered alone: a publisher of the failed ones should not pay for all.
pub(super) fn rendered_part<R: Record>(
    part: &Part,
    view: fn(&Shelf<R>) -> &View<Rendered>,
    write: fn(&R, &mut Vec<u8>),
) -> (Arc<Rendered>, bool) {
    let shelf = R::shelf(&part.batch);
    let few = part.rows.len() * 4 < shelf.rows.len();
    match view(shelf).get() {
        Some(rendered) => (rendered, false),
        None if few => {
            let rows = part.rows.iter().filter_map(|at| shelf.rows.get(at as usize));
            (Arc::new(render(rows, part.rows.len(), write)), true)
        }
        None => (whole_view(&part.batch, view, write), false),
    }
}

fn append_part<R: Record>(
    part: &Part,
    view: fn(&Shelf<R>) -> &View<Rendered>,
    write: fn(&R, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let (rendered, alone) = rendered_part(part, view, write);
    if alone {
        return out.extend_from_slice(&rendered.bytes);
    }
    match &part.rows {
        Selection::Range(range) => out.extend_from_slice(rendered.rows(range.clone())),
        Selection::List(list) => {
            list.iter().for_each(|at| out.extend_from_slice(rendered.rows(*at..*at + 1)))
        }
    }
}

#[cfg(test)]
mod tests;
