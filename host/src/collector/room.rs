//! How room is made for a record that starts where the bounds of open records are reached.
//!
//! Invariant: what other lanes have leased and do not need is taken before anything is closed.

use super::lane::Lane;
use super::{Collector, Padded};
use crate::record::Batch;
use parking_lot::Mutex;

impl Collector {
    /// Takes a place that a lane has leased and does not need now. False if there is none.
    pub(super) fn take_spare_place(&self) -> bool {
        self.0.lanes.iter().any(|Padded(lane)| lane.lock().cede_open())
    }

    /// Closes the oldest open record of all lanes and takes its place away from its lane. False if another thread was
    /// quicker.
    pub(super) fn close_oldest(&self, now: u64, closed: Option<&mut Batch>) -> bool {
        let Some(lane) = self.oldest_lane() else { return false };
        let mut lane = lane.lock();
        lane.close_oldest(now, closed, &self.0.pools);
        lane.cede_open()
    }

    /// Closes the oldest open records until the others are within their bytes.
    #[cold]
    pub(super) fn relieve(&self, index: usize, mut closed: Option<&mut Batch>) {
        let pools = &self.0.pools;
        let now = self.0.clock.now();
        loop {
            self.0.lanes.iter().for_each(|Padded(lane)| lane.lock().return_spare_open_bytes(pools));
            if self.lane(index).lock().covers_open_bytes(pools) {
                return;
            }
            let Some(lane) = self.oldest_lane() else { return };
            lane.lock().close_oldest(now, closed.as_deref_mut(), pools);
        }
    }

    /// The lane with the oldest open record.
    fn oldest_lane(&self) -> Option<&Mutex<Lane>> {
        let lanes = self.0.lanes.iter();
        let oldest =
            lanes.filter_map(|Padded(lane)| lane.lock().oldest_open().map(|started| (started, lane)));
        oldest.min_by_key(|(started, _)| *started).map(|(_, lane)| lane)
    }
}
