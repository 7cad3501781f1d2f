//! How often something may be done: so many times at once, and once more every so often.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) at_once: u32,
    pub(super) every: Duration,
}

/// What is left: when all of it will be there again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter(pub(super) Instant);

impl Meter {
    /// How long to wait before the next time; zero for not at all.
    pub(super) fn wait(self, limit: Limit, now: Instant) -> Duration {
        self.0.saturating_duration_since(now).saturating_sub(limit.every * (limit.at_once - 1))
    }

    pub(super) fn take(&mut self, limit: Limit, now: Instant) {
        self.0 = self.0.max(now) + limit.every;
    }
}

/// One limit for everybody.
pub(super) struct Throttle {
    limit: Limit,
    meter: Mutex<Meter>,
}

impl Throttle {
    pub(super) fn new(at_once: u32, every: Duration) -> Self {
        Self { limit: Limit { at_once, every }, meter: Mutex::new(Meter(Instant::now())) }
    }

    /// Once more, or how long to wait.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let wait = meter.wait(self.limit, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        meter.take(self.limit, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_slowly() {
        let (limit, start) = (Limit { at_once: 2, every: Duration::from_secs(10) }, Instant::now());
        let mut meter = Meter(start);
        let mut takes = |after| {
            let now = start + Duration::from_secs(after);
            let wait = meter.wait(limit, now);
            if wait.is_zero() {
                meter.take(limit, now);
            }
            wait.as_secs()
        };
        assert_eq!([takes(0), takes(0), takes(0), takes(9), takes(10), takes(10)], [0, 0, 10, 1, 0, 10]);
    }
}
