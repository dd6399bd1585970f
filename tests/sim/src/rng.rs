//! The one source of chance, and the one clock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use attestor::ports::Jitter;
use broker::ports::EntropyError;
use policy::time::UnixTime;

/// When every run begins.
pub const BEGIN: u64 = 1_800_000_000;

/// SplitMix64: the same numbers for the same seed, on every machine.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `most`, which is not 0.
    pub fn below(&mut self, most: u64) -> u64 {
        self.draw() % most
    }

    /// Whether something happens that happens so often in a hundred.
    pub fn percent(&mut self, often: u64) -> bool {
        self.below(100) < often
    }
}

/// Chance for broker and devices, of their own: what they draw does not move what the world draws.
#[derive(Debug)]
pub struct Drawn(Mutex<Rng>);

impl Drawn {
    /// The numbers of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(Mutex::new(Rng::new(seed)))
    }

    fn next(&self) -> u64 {
        self.0.lock().expect("nothing panics while it draws").draw()
    }
}

impl broker::ports::Entropy for Drawn {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_be_bytes()[..part.len()]);
        }
        Ok(())
    }
}

impl attestor::ports::Entropy for Drawn {
    fn jitter(&self) -> Jitter {
        Jitter((self.next() >> 48) as u16)
    }
}

/// The time of one party, in seconds.
#[derive(Debug)]
pub struct Hand(AtomicU64);

impl Default for Hand {
    fn default() -> Self {
        Self(AtomicU64::new(BEGIN))
    }
}

impl Hand {
    /// Shows this time from now on.
    pub fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    fn shown(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

impl broker::ports::Clock for Hand {
    fn now(&self) -> UnixTime {
        self.shown()
    }
}

impl attestor::ports::Clock for Hand {
    fn now(&self) -> UnixTime {
        self.shown()
    }
}
