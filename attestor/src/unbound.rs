//! Addresses that the attestor should listen on and could not take: a cable that is not plugged yet, a port that somebody
//! else has.
//!
//! Promises: it is tried again until it works, nothing else waits for it, and the status names it meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

/// Pause after the first failure; it doubles with each, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// What is not open, by its key in attestor.toml and its address.
#[derive(Debug, Default)]
pub(crate) struct Unbound(Mutex<BTreeMap<String, String>>);

impl Unbound {
    /// Takes the place, a key of attestor.toml with its address, with `bind`, as soon as that works.
    pub(crate) async fn until_bound<T, B>(&self, place: String, bind: impl Fn() -> B) -> T
    where
        B: Future<Output = io::Result<T>>,
    {
        let mut pause = FIRST;
        loop {
            match bind().await {
                Ok(bound) => {
                    self.lock().remove(&place);
                    return bound;
                }
                Err(error) => {
                    let words = format!(
                        "{place}: {error}; give this machine the address, stop the program that has the port, or change \
                         attestor.toml; it is tried again by itself"
                    );
                    tracing::error!("cannot listen on {words}");
                    self.lock().insert(place.clone(), words);
                }
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST);
        }
    }

    /// What the status says of it.
    pub(crate) fn words(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Each change is one insert or remove: nothing can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_that_somebody_has_is_named_and_taken_once_it_is_free() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let unbound = Arc::new(Unbound::default());
        let waiting = tokio::spawn({
            let unbound = Arc::clone(&unbound);
            async move {
                unbound.until_bound(format!("gate.listen {address}"), || TcpListener::bind(address)).await
            }
        });
        while unbound.words().is_empty() {
            tokio::task::yield_now().await;
        }
        let words = unbound.words().remove(0);
        assert!(words.starts_with(&format!("gate.listen {address}: Address already in use")), "{words}");
        drop(other);
        assert_eq!(waiting.await.unwrap().local_addr().unwrap(), address);
        assert_eq!(unbound.words(), Vec::<String>::new());
    }
}
