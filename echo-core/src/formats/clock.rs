//! Times as subtitles write them: whole milliseconds on a clock.
//!
//! Rounding happens in one place, to the nearest millisecond with halves to even (as WhisperX
//! does), and is monotone: what does not end before it starts does not do so when written either.

/// Whole milliseconds from the start of the source; what lies before the start is 0.
pub(super) fn milliseconds(seconds: f64) -> u64 {
    // `as` maps NaN and negative numbers to 0 and what is too large to the maximum.
    (seconds * 1000.0).round_ties_even() as u64
}

/// `HH:MM:SS`, a decimal mark, `mmm`; more digits for the hours when a hundred of them have passed.
pub(super) fn clock(milliseconds: u64, decimal_mark: char) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{rest:03}")
}

/// Seconds from `[HH:]MM:SS[,mmm]`, the decimal mark being a comma or a point.
pub(super) fn parse(text: &str) -> Option<f64> {
    let (whole, fraction) = match text.split_once([',', '.']) {
        Some((whole, fraction)) => (whole, digits(fraction, 9)?.1),
        None => (text, 0.0),
    };
    let mut seconds = 0.0;
    let mut fields = 0;
    for (place, field) in whole.rsplit(':').enumerate() {
        // Nobody's recording is longer than 10 million hours.
        let value = digits(field, if place == 2 { 7 } else { 2 })?.0 as f64;
        seconds += match place {
            0 | 1 if value >= 60.0 => return None,
            0 => value,
            1 => value * 60.0,
            2 => value * 3600.0,
            _ => return None,
        };
        fields = place + 1;
    }
    // To the millisecond, so that 3661.5 comes out the same whichever way it was added up.
    (fields >= 2).then(|| ((seconds + fraction) * 1000.0).round_ties_even() / 1000.0)
}

/// A run of 1 to `most` ASCII digits, as an integer and as a decimal fraction.
fn digits(text: &str, most: usize) -> Option<(u64, f64)> {
    let fits = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = text.parse().ok().filter(|_| fits)?;
    Some((value, value as f64 / 10f64.powi(text.len() as i32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_carries_into_minutes_and_hours() {
        assert_eq!(clock(milliseconds(0.0), ','), "00:00:00,000");
        assert_eq!(clock(milliseconds(3599.9996), '.'), "01:00:00.000");
        assert_eq!(clock(milliseconds(360_000.5), '.'), "100:00:00.500");
    }

    #[test]
    fn times_outside_the_clock_are_moved_into_it() {
        assert_eq!(milliseconds(-1.0), 0);
        assert_eq!(milliseconds(f64::NAN), 0);
        assert_eq!(milliseconds(f64::INFINITY), u64::MAX);
    }

    #[test]
    fn every_millisecond_of_a_clock_is_read_back() {
        for time in (0..200_000_000).step_by(10_007) {
            let seconds = parse(&clock(time, ',')).unwrap();
            assert_eq!(milliseconds(seconds), time);
            assert_eq!(seconds, time as f64 / 1000.0);
        }
    }

    #[test]
    fn hours_and_decimals_may_be_missing() {
        assert_eq!(parse("01:02.5"), Some(62.5));
        assert_eq!(parse("1:00:00"), Some(3600.0));
        for bad in ["", "5", "1:60", "61:00", "1:2:3:4", "-1:00", "1:00.", "a:b", "1:00.x", "1::2"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
