//! Hashes, for choices that must not depend on earlier choices, as those of a stream do.

use tasker_test_support::mix;

/// A number that depends on these parts only.
pub fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0x5851_f42d_4c95_7f2d, |h, part| mix(h ^ part.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// A number that depends on this text only.
pub fn digest(text: &str) -> u64 {
    text.bytes().fold(hash(&[text.len() as u64]), |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
