//! The devices' side of connections: the attestor's own client, one connection for each device.

use std::path::Path;
use std::sync::Arc;

use attestor::client::{BrokerClient, Credentials};
use attestor::plant::PlantRoot;
use attestor::ports::System;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::device::Device;
use crate::plant::DOMAIN;

/// A client for the server at `address` that has a certificate of the plant in `dir`.
pub fn client(dir: &Path, address: &str) -> BrokerClient {
    let root = PlantRoot::load(&dir.join("plant-root.pem")).expect("init writes the plant root");
    let (address, domain) = (address.parse().expect("an address"), DOMAIN.parse().expect("a domain"));
    BrokerClient::new(address, domain, root, Arc::new(System::default())).expect("a server name")
}

/// What `device` shows where it is asked who it is.
pub fn credentials(device: &Device) -> Credentials {
    let (chain, key) = device.caller();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    Credentials { chain, key: any_supported_type(&key).expect("a key") }
}
