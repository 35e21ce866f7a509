//! Time as the server keeps it: milliseconds since 1970, written as RFC 3339 with `Z`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clocks that are corrected little by little differ less than this between two looks.
const MAX_DRIFT_MS: i64 = 2000;

/// Milliseconds since 1970, now.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A moment by both clocks: the one that people set, and the one that nobody can.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    steady: Instant,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self { wall_ms: now_ms(), steady: Instant::now() }
    }

    /// By how many milliseconds the clock was set between this moment and a later one.
    pub fn step_to(&self, later: Self) -> Option<i64> {
        let passed = later.steady.saturating_duration_since(self.steady).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let step = later.wall_ms.saturating_sub(self.wall_ms).saturating_sub(passed);
        (step.abs() > MAX_DRIFT_MS).then_some(step)
    }
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

/// Reads a moment in RFC 3339, with any offset and any fraction of a second; without an offset it is
/// taken for universal time.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_uppercase();
    let (date, time) = text.split_once(['T', ' '])?;
    let (time, offset_minutes) = match time.find(['Z', '+', '-']) {
        None => (time, 0),
        Some(place) => (&time[..place], offset_minutes(&time[place..])?),
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    // A leap second is the one after it.
    let fits = hour < 24 && minute < 60 && second <= 60;
    if !fits || fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let minutes = (days(year, month, day)? * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + millis)
}

/// The minutes of `Z`, `+05:30` or `-03:00`.
fn offset_minutes(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(text.get(1..)?, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Numbers of so many digits each, and nothing else.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut read = [0; N];
    for (number, digits) in read.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(read)
}

/// Days from 1970 to a date of the Gregorian calendar, if there is such a date.
///
/// Counted in years that begin in March, whose leap day is the last:
/// <https://howardhinnant.github.io/date_algorithms.html>
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_being_written() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        let now = now_ms();
        assert_eq!(parse_rfc3339(&rfc3339(now)), Some(now));
        for at in [0, 951_782_400_001, 253_402_300_799_000] {
            assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
        }
    }

    #[test]
    fn a_clock_that_was_set_is_noticed() {
        let before = Moment { wall_ms: 1_000_000, steady: Instant::now() };
        let after = |passed_ms: u64, wall_ms: i64| {
            let steady = before.steady + Duration::from_millis(passed_ms);
            before.step_to(Moment { wall_ms, steady })
        };
        assert_eq!(after(5000, 1_005_900), None);
        assert_eq!(after(5000, 4_605_000), Some(3_600_000));
        assert_eq!(after(5000, 1_005_000 - 3_600_000), Some(-3_600_000));
    }

    #[test]
    fn moments_of_any_clock_are_read() {
        let noon = Some(1_795_348_800_000);
        for same in [
            "2026-11-22T12:00:00Z",
            "2026-11-22t12:00:00.0000z",
            "2026-11-22 12:00:00",
            "2026-11-22T09:00:00-03:00",
            "2026-11-22T17:30:00+05:30",
            "2026-11-23T02:00:00.000+14:00",
        ] {
            assert_eq!(parse_rfc3339(same), noon, "{same}");
        }
        assert_eq!(parse_rfc3339("2000-02-29T00:00:00.1Z"), Some(951_782_400_100));
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59.999Z"), Some(-1));
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some(-62_135_596_800_000));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for bad in [
            "",
            "yesterday",
            "2026-11-22",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T12:00:00+24:00",
            "2026-11-22T12:00:00+",
            "2026-11-22T12:00:00.Z",
            "2026-11-22T12:00Z",
            "+026-11-22T12:00:00Z",
            "2026-11-22T12:00:00ZZ",
            "２026-11-22T12:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
