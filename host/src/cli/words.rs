//! Figures and texts as people read them.
//!
//! Invariant: what came from outside (a name, an error) reaches the terminal escaped, on one line and cut to its place.

use crate::output::escape;
use crate::record::Timestamp;
use comfy_table::{Cell, CellAlignment, Table, presets};
use std::time::Duration;

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 event`, `12,345 events`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

/// `1 retry`, `12,345 retries`.
pub(super) fn retries(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "retry" } else { "retries" })
}

/// `870 B`, `1.5 MiB`.
pub(super) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1023.95 {
            return if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `12.3 µs`, `4.56 ms`, `2.41 s`, `3m 05s`, `2h 10m`, `4d 02h`.
pub(super) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let three = |value: f64, unit: &str| match value {
        v if v < 9.995 => format!("{v:.2} {unit}"),
        v if v < 99.95 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    };
    match seconds {
        s if s < 0.000_999_5 => three(s * 1e6, "µs"),
        s if s < 0.999_5 => three(s * 1e3, "ms"),
        s if s < 59.95 => three(s, "s"),
        s => {
            let whole = s.round() as u64;
            match whole {
                0..3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
                3_600..86_400 => format!("{}h {:02}m", whole / 3_600, whole / 60 % 60),
                _ => format!("{}d {:02}h", whole / 86_400, whole / 3_600 % 24),
            }
        }
    }
}

/// See [`seconds`].
pub(super) fn duration(duration: Duration) -> String {
    seconds(duration.as_secs_f64())
}

/// The time of day in UTC, with the date where it is not the day of `now`: `12:33:38.123`, `2026-11-22 12:33:38`.
pub(super) fn time(time: Timestamp, now: Timestamp) -> String {
    let (text, today) = (time.to_string(), now.to_string());
    let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
    match today.starts_with(date) {
        true => clock.get(..12).unwrap_or(clock).to_owned(),
        false => format!("{date} {}", clock.get(..8).unwrap_or(clock)),
    }
}

/// `2026-11-23 12:33:38 UTC`.
pub(super) fn date(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{} UTC", text.get(..19).unwrap_or(&text).replace('T', " "))
}

/// `text` on one line, escaped, and no longer than `most` characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let clean = escape::line(text.trim_end());
    let mut clean = clean.chars();
    let mut out: String = clean.by_ref().take(most).collect();
    if clean.next().is_some() {
        out.pop();
        out.push('…');
    }
    out.trim_end().to_owned()
}

/// A column's heading, and whether its cells are figures, which stand to the right.
pub(super) enum Column {
    Text(&'static str),
    Figure(&'static str),
}

/// A table without lines. Where there are no rows, `none` is said instead.
pub(super) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>, none: &str) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.iter().map(|column| {
        let (Column::Text(name) | Column::Figure(name)) = column;
        Cell::new(name.to_uppercase())
    }));
    let escaped =
        |row: Vec<String>| row.iter().map(|cell| escape::line(cell).into_owned()).collect::<Vec<_>>();
    table.add_rows(rows.into_iter().map(escaped));
    if table.is_empty() {
        return format!("  {none}\n");
    }
    for (column, shape) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if matches!(shape, Column::Figure(_)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().fold(String::new(), |out, line| out + "  " + line.trim_end() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well_at_every_size() {
        assert_eq!([0, 12, 999, 1_000, 1_234_567].map(count), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "event"), "1 event");
        assert_eq!(counted(1_200, "event"), "1,200 events");
        assert_eq!(
            [0, 1_023, 1_024, 1_536, 1_048_575, 3 << 30, 5 << 50].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "3.0 GiB", "5120.0 TiB"]
        );
        assert_eq!(
            [0.0, 12.3e-6, 0.004_56, 0.3504, 0.9996, 2.406, 59.99, 185.0, 7_800.0, 360_000.0, f64::NAN]
                .map(seconds),
            [
                "0.00 µs", "12.3 µs", "4.56 ms", "350 ms", "1.00 s", "2.41 s", "1m 00s", "3m 05s", "2h 10m",
                "4d 04h", "?"
            ]
        );
    }

    #[test]
    fn times_show_their_date_only_where_it_is_another() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-23T12:40:00Z");
        assert_eq!(time(at("2026-11-23T12:33:38.1239Z"), now), "12:33:38.123");
        assert_eq!(time(at("2026-11-22T12:33:38.123Z"), now), "2026-11-22 12:33:38");
        assert_eq!(date(at("2026-11-22T12:33:38.123Z")), "2026-11-22 12:33:38 UTC");
    }

    #[test]
    fn a_strangers_text_cannot_steer_the_terminal() {
        assert_eq!(cut("\u{1b}[2Jdisk\nfull\u{202e}", 40), "\\u{1b}[2Jdisk\\nfull\\u{202e}");
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größer!", 6), "größe…");
    }
}
