//! Machines behind gateways: accepted by a person, visible as vouched while their gateway is trusted.

use policy::id::{DeviceName, ZoneName};
use policy::zone::{Segmentation, Zone};

use super::view::State;
use super::{known, view};
use crate::admin::Actor;
use crate::admin::bounds::printable;
use crate::admin::change::{Draft, commit};
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::record::device::{Device, MAX_VALUE, device_key};
use crate::record::vouched::{
    About, Accepted, MAX_MACHINES, Machine, MachineOwner, VOUCHED, machine_key, vouched_key, vouched_prefix,
};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::vouched::belongs_to;
use crate::trust;

/// Which machine behind whom, and what becomes of it.
#[derive(Debug)]
pub struct Request {
    /// The gateway.
    pub gateway: DeviceName,
    /// The machine.
    pub machine: DeviceName,
    /// What it has to be; none: what the gateway states.
    pub about: Option<About>,
    /// Whether it is accepted, or forgotten.
    pub accept: bool,
}

/// How a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A trusted gateway vouches for it, and a person accepted that.
    Vouched,
    /// Nobody accepted it.
    Pending,
    /// Its gateway is not trusted, does not state it, or is in no zone that takes machines without a TPM.
    Ended,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vouched, Self::Pending, Self::Ended];

    /// As commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vouched => "vouched",
            Self::Pending => "pending",
            Self::Ended => "ended",
        }
    }
}

/// A machine as it is seen.
#[derive(Debug)]
pub struct Seen {
    /// The machine.
    pub machine: Machine,
    /// The zones of its gateway that take machines without a TPM.
    pub zones: Vec<ZoneName>,
    /// How it stands.
    pub standing: Standing,
}

/// Every machine behind a gateway in sight.
pub async fn all(plant: &Plant, scope: &Scope) -> Result<Vec<Seen>, Refusal> {
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut seen = Vec::new();
    for Held { record: machine, .. } in list::<Machine>(plant.store.as_ref(), VOUCHED).await? {
        let key = device_key(&machine.gateway);
        let Some(gateway) = fetch::<Device>(plant.store.as_ref(), key).await? else { continue };
        if !scope.sees(&gateway.record.zones) {
            continue;
        }
        let gateway = view::view(plant, gateway.record, &zones).await?;
        let zones = taking(&gateway.device.zones, &zones);
        let standing = match (&machine.accepted, machine.stated, gateway.state) {
            (None, ..) => Standing::Pending,
            (Some(_), Some(_), State::Trusted) if !zones.is_empty() => Standing::Vouched,
            (Some(_), ..) => Standing::Ended,
        };
        seen.push(Seen { machine, zones, standing });
    }
    Ok(seen)
}

/// Those of a gateway's zones that take what proves nothing but its name.
fn taking(of: &[ZoneName], zones: &Segmentation) -> Vec<ZoneName> {
    let takes = |zone: &Zone| zone.policy().refuses_without_tpm().is_empty();
    of.iter().filter(|name| zones.zone(name).is_some_and(takes)).cloned().collect()
}

/// Accepts a machine, also before its gateway states it, or forgets it.
pub async fn settle(
    plant: &Plant,
    actor: &Actor,
    request: &Request,
    dry_run: bool,
) -> Result<Option<Machine>, Refusal> {
    if let Some(about) = &request.about {
        printable("kind", &about.kind, MAX_VALUE)?;
        for (what, text) in [("address", &about.address), ("serial", &about.serial)] {
            if !text.is_empty() {
                printable(what, text, MAX_VALUE)?;
            }
        }
    }
    commit(plant, || decide(plant, actor, request, dry_run)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    request: &Request,
    dry_run: bool,
) -> Result<Draft<Option<Machine>>, Refusal> {
    let Request { gateway, machine: name, .. } = request;
    let known = known(plant, actor.scope(), gateway).await?;
    let reach = actor.reach(plant, &known.device.record.zones).await?;
    let key = vouched_key(gateway, name);
    let held: Option<Held<Machine>> = fetch(plant.store.as_ref(), key.clone()).await?;
    let txn = match &held {
        Some(held) => known.expected().unchanged(key.clone(), held.version),
        None => known.expected().absent(key.clone()),
    };
    let (machine_key, owner) = (machine_key(name), MachineOwner { gateway: gateway.clone() });
    let claimed: Option<Held<MachineOwner>> = fetch(plant.store.as_ref(), machine_key.clone()).await?;
    if !request.accept {
        held.ok_or_else(|| nothing(gateway, name))?;
        let txn = match claimed.filter(|held| held.record == owner) {
            Some(own) => txn.unchanged(own.key, own.version).delete(machine_key),
            None => txn,
        };
        let deed = reach.deed(name.as_str(), &format!("{gateway} does not vouch for it any more"));
        return Ok(Draft::unless(dry_run, None, txn.delete(key), deed));
    }
    let known = super::stop::not_retired(known)?;
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    if taking(&known.device.record.zones, &zones).is_empty() {
        return Err(Refusal::NotPermitted(format!(
            "every zone of {gateway} asks for a TPM, and {name} has none; vouch for it from a gateway in a zone made with \
             `touchstone zone create NAME --least instance-identity=affirming`"
        )));
    }
    let machine = accepted(plant, actor, request, held.map(|held| held.record)).await?;
    let txn = match claimed {
        Some(other) if other.record != owner => {
            return Err(Refusal::Conflict(belongs_to(name, &other.record)));
        }
        Some(own) => txn.unchanged(own.key, own.version),
        None => txn.absent(machine_key.clone()).put(machine_key, stored(&owner)?),
    };
    if fetch::<Device>(plant.store.as_ref(), device_key(name)).await?.is_some() {
        return Err(Refusal::Conflict(format!(
            "{name} is a device of its own; give the machine another name"
        )));
    }
    let About { kind, address, serial } = &machine.about;
    let deed = reach.deed(name.as_str(), &format!("accepted behind {gateway}: {kind} {address} {serial}"));
    let txn = txn.absent(device_key(name)).put(key, stored(&machine)?);
    Ok(Draft::unless(dry_run, Some(machine), txn, deed))
}

fn nothing(gateway: &DeviceName, name: &DeviceName) -> Refusal {
    Refusal::NotFound(format!(
        "{gateway} states no machine {name}; `touchstone device vouch list` shows what gateways state"
    ))
}

/// The machine as it is accepted.
async fn accepted(
    plant: &Plant,
    actor: &Actor,
    request: &Request,
    known: Option<Machine>,
) -> Result<Machine, Refusal> {
    let Request { gateway, machine: name, about, .. } = request;
    let accepted = Some(Accepted { by: actor.name().to_owned(), at: plant.now() });
    match (known, about) {
        (Some(known), Some(about)) if known.stated.is_some() && known.about != *about => {
            let About { kind, address, serial } = known.about;
            Err(Refusal::Conflict(format!(
                "{gateway} states {name} otherwise: {kind}, address {address:?}, serial {serial:?}; look at the machine"
            )))
        }
        (Some(known), about) => {
            let about = about.clone().unwrap_or_else(|| known.about.clone());
            Ok(Machine { about, accepted, ..known })
        }
        (None, Some(about)) => {
            let behind: Vec<Held<Machine>> = list(plant.store.as_ref(), &vouched_prefix(gateway)).await?;
            if behind.len() >= MAX_MACHINES {
                return Err(Refusal::Conflict(format!(
                    "{gateway} has {MAX_MACHINES} machines behind it, no more are kept; drop some"
                )));
            }
            let (name, gateway, about) = (name.clone(), gateway.clone(), about.clone());
            Ok(Machine { name, gateway, about, stated: None, accepted })
        }
        (None, None) => Err(nothing(gateway, name)),
    }
}
