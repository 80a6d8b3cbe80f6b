//! What is printed: a row per thing that was measured, beside its goal.

use std::fmt::Write as _;

/// What was measured once.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds of a core, for each million spans.
    pub cpu: f64,
    /// Of them in the kernel.
    pub system: f64,
    /// The most memory, in MiB.
    pub peak: f64,
    /// Spans a second of wall time.
    pub pace: f64,
    /// Bytes that a span takes on the way out, and the size of its document.
    pub bytes: [f64; 2],
    /// Bulk requests.
    pub bulks: f64,
}

/// What is held against a sample's CPU and memory.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// At most so many seconds for each million spans.
    pub cpu: f64,
    /// Below so many MiB; of no concern if absent.
    pub peak: Option<f64>,
}

/// The rows.
#[derive(Default)]
pub struct Table {
    full: String,
    steady: String,
}

/// The median, and from where to where the values lie if there is more than one.
fn spread(samples: &[Sample], value: impl Fn(&Sample) -> f64, digits: usize) -> (f64, String) {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    let (least, most) = (values[0], values[values.len() - 1]);
    let range =
        if values.len() > 1 { format!(" ({least:.digits$}–{most:.digits$})") } else { String::new() };
    (median, format!("{median:.digits$}{range}"))
}

fn verdict(goal: Option<Goal>, cpu: f64, peak: f64, told: impl Fn(f64) -> String) -> String {
    let Some(goal) = goal else { return "–".to_owned() };
    let word = |reached| if reached { "reached" } else { "missed" };
    let mut said = format!("≤ {}: {}", told(goal.cpu), word(cpu <= goal.cpu));
    if let Some(most) = goal.peak {
        let _ = write!(said, "; < {most:.0} MiB: {}", word(peak < most));
    }
    said
}

impl Table {
    /// Adds what was measured as fast as spans were taken.
    pub fn full(&mut self, what: &str, samples: &[Sample], goal: Option<Goal>) {
        let (cpu, cpu_told) = spread(samples, |sample| sample.cpu, 2);
        let (_, system) = spread(&samples[..1], |_| median_of(samples, |sample| sample.system), 2);
        let (peak, peak_told) = spread(samples, |sample| sample.peak, 0);
        let [wire, document] = [0, 1].map(|at| median_of(samples, |sample| sample.bytes[at]));
        let verdict = verdict(goal, cpu, peak, |cpu| format!("{cpu:.1} s"));
        let pace = median_of(samples, |sample| sample.pace);
        let bulks = median_of(samples, |sample| sample.bulks);
        let line = format!(
            "| {what} | {cpu_told} s | {system} s | {peak_told} MiB | {wire:.0} of {document:.0} | {bulks:.0} | {pace:.0} | {verdict} |"
        );
        eprintln!("{line}");
        let _ = writeln!(self.full, "{line}");
    }

    /// Adds what was measured at a steady rate.
    pub fn steady(&mut self, what: &str, rate: u64, samples: &[Sample], goal: Option<Goal>) {
        let share = |seconds: f64| seconds * rate as f64 / 10_000.0;
        let (cpu, cpu_told) = spread(samples, |sample| share(sample.cpu), 1);
        let (peak, peak_told) = spread(samples, |sample| sample.peak, 0);
        let verdict = verdict(goal, cpu, peak, |cpu| format!("{cpu:.1} %"));
        let line = format!("| {what} | {cpu_told} % | {peak_told} MiB | {verdict} |");
        eprintln!("{line}");
        let _ = writeln!(self.steady, "{line}");
    }

    /// Says why something was not measured.
    pub fn missing(&mut self, what: &str, why: &str) {
        let line = format!("| {what} | {why} |");
        eprintln!("{line}");
        let _ = writeln!(self.full, "{line}");
    }

    /// Prints it as Markdown.
    pub fn print(&self, rate: u64) {
        if !self.full.is_empty() {
            println!(
                "\n| as fast as it takes them | CPU per million spans | of it in the kernel | peak memory | bytes out of a document's | bulks | spans/s | goal |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n{}",
                self.full
            );
        }
        if !self.steady.is_empty() {
            println!(
                "\n| {rate} spans a second | of a core | peak memory | goal |\n| --- | --- | --- | --- |\n{}",
                self.steady
            );
        }
    }
}

fn median_of(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    spread(samples, value, 0).0
}
