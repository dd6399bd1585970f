//! A box that nobody registered comes to zones that admit those whose manufacturer gave them an IDevID.
//!
//! Promises: nothing is let in that way unless every zone it asks for says so, and still does when that is stored. The
//! caller sees to it that the name is nobody's, and that the box is none that is known already.

use policy::evidence::devid::DeviceIdentity;
use policy::id::{DeviceName, ZoneName};
use policy::zone::Zone;

use crate::plant::Plant;
use crate::record::zone::zone_key;
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::session::proof::Proven;
use crate::store::Txn;

/// As what a box is let in.
#[derive(Debug)]
pub(in crate::session) struct LetIn {
    /// The name that it asks for.
    pub(in crate::session) name: DeviceName,
    /// The zones that it asks for.
    pub(in crate::session) zones: Vec<ZoneName>,
    /// By what.
    pub(in crate::session) by: String,
    /// Expects the zones as they are.
    pub(in crate::session) txn: Txn,
}

/// As what the box of `identity` is let in; none: a person decides.
pub(in crate::session) async fn let_in(
    plant: &Plant,
    proven: &Proven,
    identity: &DeviceIdentity,
) -> Result<Option<LetIn>, Refusal> {
    let stated = proven.statement();
    let Some(name) = stated.device.clone().filter(|_| !stated.zones.is_empty()) else { return Ok(None) };
    let mut txn = Txn::new();
    for zone in &stated.zones {
        let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(zone)).await?;
        let Some(zone) = held.filter(|held| held.record.idevid_admits) else { return Ok(None) };
        txn = txn.unchanged(zone.key, zone.version);
    }
    let box_ = identity.certificate();
    let by = format!("IDevID {} by {}", box_.serial_number(), box_.manufacturer());
    Ok(Some(LetIn { name, zones: stated.zones.clone(), by, txn }))
}
