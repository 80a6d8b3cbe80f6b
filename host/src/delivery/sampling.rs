//! Which tasks are in a sample.
//!
//! Invariant: it depends on nothing but the task's id and the share, and never changes: not between publishers, hosts
//! or versions. So all records of a task stay together, and a smaller share is a part of every larger one. Hosts of
//! different versions sample alike only as long as the fixed values in the tests below hold.

use crate::config::Share;
use crate::record::Record;

/// A share of all tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    share: f64,
}

impl Sample {
    pub(super) fn new(share: Share) -> Self {
        Self { share: share.of_one() }
    }

    /// Whether the record's task is in it. A record that names no task is a task of its own.
    pub(super) fn keeps<R: Record>(self, record: &R) -> bool {
        let place = match record.task_id() {
            "" => place(record.id().as_bytes()),
            task => place(task.as_bytes()),
        };
        place < self.share
    }
}

/// Where an id lies between 0 and 1: FNV-1a of its bytes (64 bits), mixed by the last step of MurmurHash3, for FNV alone
/// leaves ids that differ in their last characters close together. The uppermost 53 bits are a fraction exactly.
fn place(id: &[u8]) -> f64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mixed = mix(id.iter().fold(0xcbf2_9ce4_8422_2325, fnv));
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventMetrics, NetworkMetrics, Timestamp};
    use uuid::Uuid;

    fn event(task: &str) -> EventMetrics {
        EventMetrics::started(Uuid::from_u128(1), "step", task, Timestamp::default())
    }

    fn sample(share: f64) -> Sample {
        Sample::new(Share::new(share).unwrap())
    }

    #[test]
    fn a_task_has_its_place_for_ever() {
        // Worked out by another program (Python) from the words above.
        for (id, expected) in PLACES {
            assert_eq!(place(id.as_bytes()), *expected, "{id}");
        }
    }

    const PLACES: &[(&str, f64)] = &[
        ("a", 0.5102945176565711),
        ("42", 0.504075611554918),
        ("task-1", 0.35003304925937007),
        ("task-2", 0.297657721157751),
        ("4bf92f3577b34da6a3ce929d0e0e4736", 0.9000390389919163),
        ("naïve/тест", 0.5957596855722583),
        ("a-rather-long-task-identifier-that-does-not-fit-in-place", 0.8870891545306232),
    ];

    #[test]
    fn a_share_is_that_share_of_all_tasks_whatever_they_are_called() {
        type Name = fn(u32) -> String;
        let names: [Name; 5] = [
            |number| number.to_string(),
            |number| format!("task-{number:08}"),
            |number| format!("{number:08}-task"),
            |number| {
                Uuid::from_u128(0x01a2_081d_8d9a_7000_8000_0000_0000_0000 + u128::from(number)).to_string()
            },
            |number| {
                format!(
                    "{:032x}",
                    (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                )
            },
        ];
        let tasks = 100_000_u32;
        for (kind, name) in names.iter().enumerate() {
            for share in [0.001, 0.01, 0.1, 0.25, 0.5, 0.9] {
                let sample = sample(share);
                let kept = (0..tasks).filter(|number| sample.keeps(&event(&name(*number)))).count();
                let expected = f64::from(tasks) * share;
                // Five standard deviations: one of these thirty fails by chance once in 58,000 hash functions.
                let bound = 5.0 * (expected * (1.0 - share)).sqrt();
                assert!((kept as f64 - expected).abs() <= bound, "{kind} {share}: {kept} of {expected}");
            }
        }
    }

    #[test]
    fn a_task_is_in_every_larger_share_and_its_records_stay_together() {
        for number in 0..1_000 {
            let task = format!("task-{number}");
            let kept: Vec<bool> =
                [0.01, 0.1, 0.5, 0.99, 1.0].iter().map(|share| sample(*share).keeps(&event(&task))).collect();
            assert!(kept.is_sorted() && kept[4], "{task} {kept:?}");
            let mut operation = NetworkMetrics::started(
                Uuid::from_u128(number),
                task.as_str(),
                "GET",
                "h",
                1,
                Timestamp::default(),
            );
            operation.bytes_sent = 7;
            assert_eq!(sample(0.5).keeps(&operation), kept[2]);
        }
    }

    #[test]
    fn records_of_no_task_are_sampled_each_for_itself() {
        let kept = (0..10_000).filter(|number| {
            let event = EventMetrics { id: Uuid::from_u128(*number), ..event("") };
            sample(0.1).keeps(&event)
        });
        let kept = kept.count();
        assert!((850..1_150).contains(&kept), "{kept}");
    }
}
