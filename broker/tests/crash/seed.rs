//! What is left to chance, so that a failure can be had again: `TOUCHSTONE_SEED` states the seed that a run printed.

use std::{
    env,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
};

/// The seed of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed(u64);

impl Seed {
    /// The one that `TOUCHSTONE_SEED` states, or any; printed, so that it is in the words of a failure.
    pub(crate) fn new() -> Self {
        let stated = env::var("TOUCHSTONE_SEED").ok();
        let seed = stated.map_or_else(
            || RandomState::new().hash_one(0),
            |text| text.parse().expect("TOUCHSTONE_SEED is a number"),
        );
        println!("TOUCHSTONE_SEED={seed}");
        Self(seed)
    }

    /// The number that it gives for `of`, below `bound`.
    pub(crate) fn below(self, bound: u64, of: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.0, of).hash(&mut hasher);
        hasher.finish() % bound
    }
}

/// How often something is done: `usual`, or so many times as often as `TOUCHSTONE_ROUNDS` states.
pub(crate) fn rounds(usual: u64) -> u64 {
    let stated = env::var("TOUCHSTONE_ROUNDS").ok();
    let times = stated.map_or(1, |text| text.parse().expect("TOUCHSTONE_ROUNDS is a number"));
    usual * times
}
