//! Slows down who guesses: after a few failed sign-ins from one address, further ones are answered 429 for a while.
//! Only failures are counted and only failures are slowed; whoever has valid credentials never notices.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures that cost nothing: a mistyped key, a client with an old one.
const FREE: u32 = 10;
/// One failure is forgotten after this.
pub(super) const FORGIVE: Duration = Duration::from_secs(6);
/// Addresses remembered at once; the longest unused go first.
const MOST: usize = 10_000;

/// Failed sign-ins by source address.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<IpAddr, Count>>);

#[derive(Clone, Copy)]
struct Count {
    failures: u32,
    /// When `failures` was right; it falls by one every [`FORGIVE`].
    at: Instant,
}

impl Failures {
    /// Notes a failure; how long to wait before the next, if there were too many.
    pub(crate) fn note(&self, source: IpAddr) -> Option<Duration> {
        self.note_at(source, Instant::now())
    }

    fn note_at(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST {
            counts.retain(|_, count| count.now(now) > 0);
        }
        if counts.len() >= MOST
            && let Some(oldest) = counts.iter().min_by_key(|(_, count)| count.at).map(|(address, _)| *address)
        {
            counts.remove(&oldest);
        }
        let count = counts.entry(block(source)).or_insert(Count { failures: 0, at: now });
        let failures = count.now(now);
        // Who goes on is not locked out for longer and longer: the owner may sit behind the same address.
        *count = Count { failures: (failures + 1).min(2 * FREE), at: now };
        (failures >= FREE).then(|| FORGIVE * (failures + 1 - FREE))
    }
}

impl Count {
    fn now(self, now: Instant) -> u32 {
        let forgiven = now.saturating_duration_since(self.at).as_secs() / FORGIVE.as_secs();
        self.failures.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

/// One household has 2^64 addresses of version 6.
pub(super) fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_after_some_and_forgiven_with_time() {
        let (failures, now) = (Failures::default(), Instant::now());
        let [one, other] = ["2001:db8::1", "2001:db8:0:1::1"].map(|text| text.parse::<IpAddr>().unwrap());
        for _ in 0..FREE {
            assert_eq!(failures.note_at(one, now), None);
        }
        assert_eq!(failures.note_at("2001:db8::2".parse().unwrap(), now), Some(FORGIVE), "the same household");
        assert_eq!(failures.note_at(one, now), Some(FORGIVE * 2));
        assert_eq!(failures.note_at(other, now), None);
        assert_eq!(failures.note_at(one, now + FORGIVE * 20), None);
    }

    #[test]
    fn the_wait_does_not_grow_for_ever() {
        let (failures, now) = (Failures::default(), Instant::now());
        let source = IpAddr::from([192, 0, 2, 1]);
        let wait = (0..1000).filter_map(|_| failures.note_at(source, now)).max();
        assert_eq!(wait, Some(FORGIVE * (FREE + 1)));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..MOST as u32 + 500 {
            failures.note_at(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(failures.0.lock().unwrap().len(), MOST);
    }
}
