//! The two ways in which directories write moments.

/// Seconds from 1601, where Active Directory begins to count, to 1970.
const FILETIME_OFFSET_SECONDS: i64 = 11_644_473_600;

/// Milliseconds since 1970 of a generalizedTime (RFC 4517, 3.3.13, in UTC) or of an Active Directory file time; `None` for
/// the file times that mean never.
pub(crate) fn milliseconds(value: &str) -> Result<Option<i64>, &'static str> {
    const WRONG: &str = "is neither a generalizedTime in UTC nor a file time";
    let Some(time) = value.strip_suffix('Z') else {
        let ticks: i64 = value.parse().map_err(|_| WRONG)?;
        if ticks <= 0 || ticks == i64::MAX {
            return Ok(None);
        }
        return Ok(Some(ticks / 10_000 - FILETIME_OFFSET_SECONDS * 1_000));
    };
    let (whole, fraction) = time.split_once(['.', ',']).unwrap_or((time, ""));
    if !matches!(whole.len(), 10 | 12 | 14)
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return Err(WRONG);
    }
    let part = |from: usize, to: usize| {
        whole
            .get(from..to)
            .map_or(Ok(0), |digits| digits.parse::<i8>())
    };
    let year: i16 = whole.get(..4).unwrap_or("").parse().map_err(|_| WRONG)?;
    let parts = [
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14),
    ];
    let [Ok(month), Ok(day), Ok(hour), Ok(minute), Ok(second)] = parts else {
        return Err(WRONG);
    };
    let moment = jiff::civil::DateTime::new(year, month, day, hour, minute, second.min(59), 0)
        .and_then(|local| local.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|_| WRONG)?;
    Ok(Some(moment.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_moment_are_read() {
        assert_eq!(milliseconds("20260131120000Z"), Ok(Some(1_769_860_800_000)));
        assert_eq!(
            milliseconds("20260131120000.123456Z"),
            Ok(Some(1_769_860_800_000))
        );
        assert_eq!(milliseconds("202601311200Z"), Ok(Some(1_769_860_800_000)));
        assert_eq!(
            milliseconds("134143344000000000"),
            Ok(Some(1_769_860_800_000))
        );
        assert_eq!(milliseconds("0"), Ok(None));
        assert_eq!(milliseconds("9223372036854775807"), Ok(None));
    }

    #[test]
    fn anything_else_is_refused() {
        for value in [
            "",
            "Z",
            "20261331120000Z",
            "2026-01-31T12:00:00Z",
            "20260131120000+0100",
            "yesterday",
        ] {
            assert!(milliseconds(value).is_err(), "{value}");
        }
    }
}
