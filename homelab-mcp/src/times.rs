//! Points in time as callers write them.

use jiff::{SpanRelativeTo, Timestamp, tz::TimeZone};

/// `10m`, `1h30m`, `2d` before `now`, an RFC 3339 time, or unix seconds, as unix seconds.
pub(crate) fn when(text: &str, now: Timestamp) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_second());
    }
    let wrong = || {
        format!(
            "`{text}` is neither a duration before now (10m, 1h30m, 2d) nor an RFC 3339 time (2026-01-31T12:00:00Z)"
        )
    };
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    if span.is_negative() {
        return Err(wrong());
    }
    // A day is 24 hours here: the caller's calendar is not known.
    let ago = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    now.checked_sub(ago).map(Timestamp::as_second).map_err(|_| wrong())
}

/// Unix seconds as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|at| at.to_zoned(TimeZone::UTC).timestamp().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_times_and_seconds_are_read() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (text, seconds_ago) in [
            ("90s", 90),
            ("10m", 600),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("2026-11-22T11:00:00Z", 3600),
            ("2026-11-22T13:00:00+02:00", 3600),
        ] {
            assert_eq!(when(text, now), Ok(now.as_second() - seconds_ago), "{text}");
        }
        assert_eq!(when("1700000000", now), Ok(1_700_000_000));
        for text in ["", "yesterday", "-5m", "5 parsecs", "10", "2026-13-01T00:00:00Z"] {
            let found = when(text, now);
            assert!(found.is_err() || text == "10", "{text}: {found:?}");
        }
    }
}
