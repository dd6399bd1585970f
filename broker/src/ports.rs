//! What the broker asks of the world besides its store: the time and random bytes.
//!
//! Both are ports so that tests state them; nothing else in this crate reads a clock or draws a
//! random number.

use std::time::SystemTime;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use policy::time::UnixTime;

/// The wall clock, used for ages and validity only; order comes from counters.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now.
    fn now(&self) -> UnixTime;
}

/// Where random bytes come from.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with random bytes fit for keys.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the operating system gave no random bytes; nothing can be issued until it does")]
pub struct EntropyError;

/// `N` random bytes.
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// The clock and random number generator of the operating system.
#[derive(Debug, Default)]
pub struct System(SystemRandom);

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixTime(since.map_or(0, |elapsed| elapsed.as_secs()))
    }
}

impl Entropy for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(bytes).map_err(|_| EntropyError)
    }
}
