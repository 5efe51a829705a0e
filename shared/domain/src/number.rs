//! Numbers by their decimal digits. JSON's numbers are decimals of any length; a double holds few of them exactly.

use tasker_wire::limits;

/// A number as `±digits · 10^exponent`, without zeros at either end of its digits. Zero has no digits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads a decimal number of JSON, or one of YAML, which may begin with `+` or with the point, and end with the point.
    pub fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, 0), |(m, e)| (m, saturated(e)));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) || exponent == i64::MIN {
            return None;
        }
        let trimmed = all.trim_end_matches('0');
        let digits = trimmed.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let shift = (all.len() - trimmed.len()) as i64 - fraction.len() as i64;
        Some(Self { negative: text.starts_with('-'), digits, exponent: exponent.saturating_add(shift) })
    }

    /// The number in JSON, equal for equal numbers: 1, 1.0, 1e0 and 10e-1 are `1e0`, and -0 is `0`.
    pub fn canonical(&self) -> String {
        if self.digits.is_empty() {
            return "0".into();
        }
        format!("{}{}e{}", if self.negative { "-" } else { "" }, self.digits, self.exponent)
    }

    /// Why the number is not accepted.
    pub fn refuse(&self) -> Option<String> {
        let digits = self.digits.len();
        if digits > limits::NUMBER_DIGITS {
            return Some(format!("is a number of {digits} digits; at most {} are allowed", limits::NUMBER_DIGITS));
        }
        // The exponent of the first digit.
        let magnitude = self.exponent.saturating_add(digits as i64 - 1);
        let is_small = digits > 0 && magnitude < limits::NUMBER_EXPONENT;
        is_small.then(|| format!("is a number closer to 0 than 1e{}; write 0, or a text", limits::NUMBER_EXPONENT))
    }
}

/// An exponent, as far as it fits; `i64::MIN` if it is none.
fn saturated(text: &str) -> i64 {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return i64::MIN;
    }
    // Far beyond every limit, and far from an overflow.
    let value = digits.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    if text.starts_with('-') { -value } else { value }
}

/// The numbers of a JSON text, in its order. What follows a syntax error is not defined.
pub(crate) fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = end_of_string(bytes, at),
                b'-' | b'0'..=b'9' => {
                    let start = at;
                    let is_inner = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
                    at += bytes[at..].iter().take_while(|b| is_inner(b)).count();
                    return Some(&json[start..at]);
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// The position after the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}")).canonical()
    }

    #[test]
    fn equal_numbers_have_one_canonical_form() {
        for (form, texts) in [
            ("1e0", &["1", "1.0", "1e0", "10e-1", "0.1e1", "1.000e+00", "+1", "1.", "001"][..]),
            ("0", &["0", "-0", "0.0", "-0.00e7", "0e999999999999999999999", ".0"]),
            ("-25e-2", &["-0.25", "-.25", "-25E-2", "-2500e-4"]),
            ("1e21", &["1000000000000000000000", "1e21", "0.001e24"]),
            ("1000000000000000000001e0", &["1000000000000000000001", "1000000000000000000001.0"]),
            ("-9223372036854775809e0", &["-9223372036854775809"]),
        ] {
            for text in texts {
                assert_eq!(canonical(text), form, "{text}");
            }
        }
        for bad in ["", "-", ".", "e1", "1e", "1e+", "1e1.5", "0x1F", "1_000", "inf", ".nan", "1-1", "+-1"] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn digits_and_exponents_are_bounded() {
        let refused = |text: &str| Decimal::parse(text).unwrap().refuse();
        let digits = |n: usize| format!("0.{}", "7".repeat(n));
        assert_eq!(refused(&digits(limits::NUMBER_DIGITS)), None);
        assert!(refused(&digits(limits::NUMBER_DIGITS + 1)).unwrap().contains("1001 digits"));
        assert_eq!(refused(&format!("1{}", "0".repeat(2_000))), None, "zeros at the end are not kept");
        // The smallest double.
        assert_eq!(refused("5e-324"), None);
        for small in ["1e-325", "-0.1e-324", "1e-99999999999999999999999", &format!("0.{}1", "0".repeat(400))] {
            assert!(refused(small).unwrap().contains("1e-324"), "{small}");
        }
    }

    #[test]
    fn numbers_in_strings_are_none() {
        let json = r#"{"a1\\": [1, -2.5e+3, "3\"4"], "\"5": true, "b": 6}"#;
        assert_eq!(numbers(json).collect::<Vec<_>>(), ["1", "-2.5e+3", "6"]);
        assert_eq!(numbers(r#"7 "8\"#).collect::<Vec<_>>(), ["7"]);
    }

    proptest! {
        /// The digits of `whole` and `fraction`, with the point moved and zeros added.
        #[test]
        fn a_number_is_the_same_however_it_is_spelled(
            negative: bool, digits in "[1-9][0-9]{0,40}", exponent in -200_i64..200, moved in 0_usize..60, zeros in 0_usize..5,
        ) {
            let sign = if negative { "-" } else { "" };
            let plain = canonical(&format!("{sign}{digits}e{exponent}"));
            let padded = format!("{}{digits}", "0".repeat(moved));
            let (whole, fraction) = padded.split_at(padded.len() - moved);
            let spelled = format!("{sign}{whole}.{fraction}{}e{}", "0".repeat(zeros), exponent + moved as i64);
            prop_assert_eq!(&canonical(&spelled), &plain, "{}", spelled);
            let longer = format!("{sign}{digits}{}E{}", "0".repeat(zeros), exponent - zeros as i64);
            prop_assert_eq!(&canonical(&longer), &plain, "{}", longer);
            prop_assert_eq!(&canonical(&plain), &plain, "the form is its own form");
            prop_assert_eq!(plain.parse::<f64>().unwrap(), spelled.parse::<f64>().unwrap(), "and the same number");
        }

        #[test]
        fn different_integers_are_different(a: i128, b in 1_i128..1_000) {
            prop_assert_ne!(canonical(&a.to_string()), canonical(&a.saturating_sub(b).to_string().replace(&i128::MIN.to_string(), "0.5")));
        }
    }
}
