//! Changes inputs as fuzzers do, from a seed.

/// Pieces that parsers of JSON and YAML give a meaning to.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\n",
    "\t",
    " ",
    "- ",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "|",
    ">",
    "---\n",
    "#",
    "null",
    "true",
    "~",
    "0",
    "-1",
    "1e400",
    "1e-400",
    "-0.0",
    "9007199254740993",
    "18446744073709551616",
    "3000000000",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\u{0}",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{feff}",
    "\"a\":",
    "\"name\":",
    "\"context\":",
    "\"result\":",
    "\"$serde_json::private::RawValue\":",
    "\"$serde_json::private::Number\":",
    "/",
    "~1",
    "depends_on: [a]",
    "[[[[[[[[",
    "{\"a\":{\"a\":",
    "'; drop table tasks; --",
];

/// Draws changes; the same seed draws the same ones.
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of the seeds with one to four changes.
    pub fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut data, seeds);
        }
        data
    }

    fn change(&mut self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(data.len() + 1);
        let end = (at + 1 + self.below(16)).min(data.len());
        match self.below(8) {
            0 if at < data.len() => data[at] ^= 1 << self.below(8),
            1 => data.truncate(at),
            2 => {
                data.drain(at..end.max(at));
            }
            3 => {
                let piece = data[at..end.max(at)].repeat(1 + self.below(3));
                data.splice(at..at, piece);
            }
            4 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                data.splice(at.., other[from..].iter().copied());
            }
            5 if at < data.len() => data[at] = b"09aZ\"\\{}[]:, -_.\xff"[self.below(17)],
            _ => {
                let token = TOKENS[self.below(TOKENS.len())];
                data.splice(at..at, token.bytes());
            }
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
