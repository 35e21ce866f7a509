//! Time as the server keeps it: milliseconds since 1970, written as RFC 3339 with `Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A moment as `2026-11-22T11:00:00.000Z`.
pub fn rfc3339(at_ms: i64) -> String {
    // The last second of the year 9999 is the last that can be written.
    let at_ms = at_ms.clamp(0, 253_402_300_799_000).unsigned_abs();
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}

/// A moment as headers of HTTP have it: `Sun, 22 Nov 2026 11:00:00 GMT`.
pub fn http_date(at_ms: i64) -> String {
    let at_ms = at_ms.clamp(0, 253_402_300_799_000).unsigned_abs();
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at_ms))
}

/// Reads what [`rfc3339`] writes, and the same with other fractions of a second.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let moment = humantime::parse_rfc3339_weak(text.trim()).ok()?;
    i64::try_from(moment.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_being_written() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        let now = now_ms();
        assert_eq!(parse_rfc3339(&rfc3339(now)), Some(now));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
