//! Gives memory back to the system that a peak has left free.
//!
//! Records are freed on other threads than those that allocate them. glibc's allocator keeps such memory for its threads,
//! and gives it back only when it is asked to.

use std::time::Duration;

/// How often the host asks. What a peak took is given back within that time.
const INTERVAL: Duration = Duration::from_secs(5);

/// A host with less resident memory than this does not ask: there is little to give back.
const LEAST: u64 = 64 << 20;

/// Starts the thread that asks. It ends with the process.
pub(super) fn give_back() {
    let asking = || {
        loop {
            std::thread::sleep(INTERVAL);
            if resident().is_some_and(|bytes| bytes > LEAST) {
                trim();
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("memory".to_owned()).spawn(asking) {
        tracing::warn!(%error, "no thread can be started that gives memory back: what a peak takes is kept");
    }
}

/// The bytes of this process that are in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

#[expect(unsafe_code, reason = "glibc has no other way to give memory back")]
fn trim() {
    // SAFETY: the call has no precondition and may be made on any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_free_between_allocations_in_use_is_given_back() {
        // Much, since other tests of this process take and free memory meanwhile.
        let bytes = 16 << 10;
        let mut blocks: Vec<Option<Vec<u8>>> = (0..16_384).map(|_| Some(vec![1; bytes])).collect();
        let peak = resident().unwrap();
        // Every 16th stays, so that the allocator cannot give back the end of its heap.
        blocks.iter_mut().enumerate().filter(|(at, _)| at % 16 != 0).for_each(|(_, block)| *block = None);
        trim();
        let after = resident().unwrap();
        assert!(after + (64 << 20) < peak, "{peak} bytes before, {after} after");
        assert_eq!(blocks.iter().flatten().count(), 1_024);
    }
}
