//! Random numbers that a seed fixes.

/// A stream of numbers (splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// A stream that no two runs share, unless `variable` repeats it. Prints how to repeat it.
    pub fn of_run(variable: &str) -> Self {
        let given = std::env::var(variable)
            .ok()
            .filter(|s| !s.is_empty())
            .map(|s| s.parse().unwrap_or_else(|_| panic!("{variable} is no number: {s}")));
        let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u128() as u64);
        println!("{variable}={seed} repeats this run");
        Self::new(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    /// True with a probability in thousandths.
    pub fn permille(&mut self, n: u64) -> bool {
        self.number() % 1000 < n
    }

    pub fn one_of<T>(&mut self, mut items: Vec<T>) -> T {
        items.swap_remove(self.below(items.len()))
    }
}

/// Spreads the bits of a number.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
