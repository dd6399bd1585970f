//! A day of the plant in short: what the store has to rewrite while devices prove themselves and get other certificates.
//!
//! A device proves itself 96 times a day and gets certificates six times, by a zone's usual numbers. As many proofs come in
//! a row as are asked for, in the same proportion; a store that has rewritten each record a few times is as full as it gets.

use std::path::Path;

use attestor::client::CallError;

use crate::client::client;
use crate::device::Kind;
use crate::load::{Shared, each};
use crate::report::Figure;
use crate::server::Server;

/// Devices at once.
const AT_ONCE: usize = 64;
/// Every so many proofs bring other certificates: a third of twelve hours, by proofs of 15 minutes.
const REPLACED_EVERY: u32 = 16;

/// Lets each device prove itself `proofs` times, and prints how many that were.
pub async fn measure(dir: &Path, broker: &Server, devices: &[Shared], proofs: u32) {
    let client = client(dir, broker.address());
    for round in 0..proofs {
        let kind = if round % REPLACED_EVERY == 0 { Kind::Replace } else { Kind::Reattest };
        let work = |device: Shared| {
            let client = client.clone();
            async move {
                let connection = client.connect(0).await?;
                device.lock().await.attest(&connection, kind).await
            }
        };
        let ended = each(devices.iter().cloned(), AT_ONCE, work).await;
        let ended: Result<Vec<()>, CallError> = ended.into_iter().collect();
        ended.expect("each device is trusted");
    }
    Figure::new("store_churn_proofs", f64::from(proofs), "proofs a device").print();
    let replaced = proofs.div_ceil(REPLACED_EVERY);
    Figure::new("store_churn_replacements", f64::from(replaced), "replacements a device").print();
}
