//! Whether the broker can be found, reached, and believed.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::Finding;
use crate::client::{BrokerClient, CallError};
use crate::config::{BrokerAddress, Config};
use crate::plant::PlantRoot;
use crate::ports::{FlooredClock, System};
use crate::state::Keeper;

/// How long a name may take: the resolver asks each of three servers for 5 s (resolv.conf(5)).
const RESOLVING: Duration = Duration::from_secs(15);

/// Looks the broker's name up.
pub(super) async fn name(broker: &BrokerAddress) -> Finding {
    const CHECK: &str = "broker's name";
    let fault = |why: &dyn std::fmt::Display| {
        let host = &broker.host;
        Finding::fault(
            CHECK,
            format!(
                "{host}: {why}; mend the resolver (resolvectl query {host}), or write the address as `broker`"
            ),
        )
    };
    match timeout(RESOLVING, lookup_host((broker.host.as_str(), broker.port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            match addresses.is_empty() {
                true => fault(&"it has no address"),
                false => Finding::good(CHECK, format!("{} is {}", broker.host, addresses.join(", "))),
            }
        }
        Ok(Err(error)) => fault(&error),
        Err(_) => fault(&format!("no answer within {} s", RESOLVING.as_secs())),
    }
}

/// Opens a connection to the broker and asks it nothing. If its certificate has ended, the clock here is in doubt.
pub(super) async fn broker(config: &Config, root: Option<PlantRoot>) -> Vec<Finding> {
    const CHECK: &str = "broker";
    let Some(root) = root else {
        return vec![Finding::unknown(CHECK, "the plant root has to be pinned first")];
    };
    let held = match config.state.exists() {
        true => Keeper::load(&config.state, &config.plant, &root).ok(),
        false => None,
    };
    let held = held.map(|keeper| keeper.read(|state| (state.issuing_number, state.clock_floor)));
    let (issuing_number, floor) = held.unwrap_or_default();
    let clock = Arc::new(FlooredClock::new(System::default(), floor));
    let client = match BrokerClient::new(config.broker.clone(), config.plant.clone(), root, clock) {
        Ok(client) => client.or(&config.other_brokers),
        Err(error) => return vec![Finding::fault(CHECK, error)],
    };
    match client.connect(issuing_number).await {
        Ok(_) => vec![Finding::good(CHECK, format!("{} answers and is the plant's", client.broker()))],
        Err(error) => {
            let clock = ahead(&error).map(|found| Finding::warning("clock", found));
            clock.into_iter().chain([Finding::fault(CHECK, error)]).collect()
        }
    }
}

/// What is wrong with the clock here, unless it is the broker's.
fn ahead(error: &CallError) -> Option<String> {
    match error {
        CallError::Ended { end, now, .. } => Some(format!(
            "it shows {now}, {} s after the end of the broker's certificate; compare it with another clock, and mend its \
             time source",
            now.since(*end)
        )),
        _ => None,
    }
}
