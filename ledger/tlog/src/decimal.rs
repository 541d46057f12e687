//! Canonical ASCII decimals: digits only, no sign, no leading zero but in "0" itself.

/// Reads a canonical decimal; `None` for everything else, also for what exceeds 64 bits.
///
/// `str::parse` is not enough: it takes `+7` and `0007`.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let canonical = match text.as_bytes() {
        [] => false,
        [b'0'] => true,
        [b'0', ..] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_canonical_form_of_a_number_is_read() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("70000"), Some(70_000));
        assert_eq!(parse("18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "+3",
            " 3",
            "3 ",
            "0003",
            "00",
            "1_0",
            "٣",
            "-1",
            "0x1",
            "18446744073709551616",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
