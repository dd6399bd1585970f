//! What a trusted gateway states of machines behind it.
//!
//! Promises: a statement makes nothing count that nobody accepted; one that differs from what was accepted has to be
//! accepted again. It is written apart from the attestation, which never fails for it.

use std::collections::BTreeMap;

use policy::id::DeviceName;
use policy::time::UnixTime;
use proto::v1;

use super::Refusal;
use super::complete::commit;
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::device::MAX_VALUE;
use crate::record::vouched::{
    About, MAX_MACHINES, Machine, MachineOwner, machine_key, vouched_key, vouched_prefix,
};
use crate::record::{Held, fetch, list, stored};
use crate::store::Txn;

/// What a gateway states, by name.
pub(super) type Stated = BTreeMap<DeviceName, About>;

/// Reads a statement's machines.
pub(super) fn read(machines: &[v1::VouchedMachine]) -> Result<Stated, Refusal> {
    let malformed = |why: String| Refusal::malformed(format!("statement: {why}"));
    if machines.len() > MAX_MACHINES {
        return Err(malformed(format!("it vouches for {} machines, at most {MAX_MACHINES}", machines.len())));
    }
    let short = |text: &str| text.len() <= MAX_VALUE && !text.chars().any(char::is_control);
    let one = |machine: &v1::VouchedMachine| {
        let name: DeviceName =
            machine.name.parse().map_err(|error: policy::id::NameError| malformed(error.to_string()))?;
        let v1::VouchedMachine { kind, address, serial, .. } = machine.clone();
        if kind.is_empty() || ![&kind, &address, &serial].into_iter().all(|text| short(text)) {
            return Err(malformed(format!(
                "{name}: kind, address and serial have at most {MAX_VALUE} printable bytes, and a kind is needed"
            )));
        }
        Ok((name, About { kind, address, serial }))
    };
    machines.iter().map(one).collect()
}

/// `txn`, if no machine behind a gateway was accepted under the name of a new device.
pub(crate) async fn no_machine(plant: &Plant, name: &DeviceName, txn: Txn) -> Result<Txn, Refusal> {
    let owner: Option<Held<MachineOwner>> = fetch(plant.store.as_ref(), machine_key(name)).await?;
    match owner {
        None => Ok(txn.absent(machine_key(name))),
        Some(held) => Err(Refusal::Conflict(belongs_to(name, &held.record))),
    }
}

/// Why a name is not free.
pub(crate) fn belongs_to(machine: &DeviceName, owner: &MachineOwner) -> String {
    format!(
        "the name {machine} belongs to a machine behind {0}; `touchstone device vouch drop {machine} --by {0}` frees it",
        owner.gateway
    )
}

/// Takes over what the trusted device `gateway` states.
pub(super) async fn take(
    plant: &Plant,
    gateway: &DeviceName,
    stated: &Stated,
    now: UnixTime,
) -> Result<(), Refusal> {
    let known: Vec<Held<Machine>> = list(plant.store.as_ref(), &vouched_prefix(gateway)).await?;
    let (mut txn, mut told) = (Txn::new(), Vec::new());
    for held in &known {
        let machine = &held.record;
        let txn_now = std::mem::take(&mut txn).unchanged(held.key.clone(), held.version);
        txn = match (stated.get(&machine.name), &machine.accepted) {
            (Some(about), _) if *about == machine.about && machine.stated.is_some() => txn_now,
            (Some(about), _) if *about == machine.about => {
                told.push(format!("states {}", machine.name));
                put(txn_now, Machine { stated: Some(now), ..machine.clone() })?
            }
            (Some(about), accepted) => {
                told.push(format!("states {} otherwise than before", machine.name));
                let (about, name, gateway) = (about.clone(), machine.name.clone(), gateway.clone());
                // The name is nobody's until somebody accepts it anew.
                let txn_now = if accepted.is_some() { txn_now.delete(machine_key(&name)) } else { txn_now };
                put(txn_now, Machine { name, gateway, about, stated: Some(now), accepted: None })?
            }
            (None, None) => {
                told.push(format!("states {} no more", machine.name));
                txn_now.delete(held.key.clone())
            }
            (None, Some(_)) if machine.stated.is_some() => {
                told.push(format!("states {} no more", machine.name));
                put(txn_now, Machine { stated: None, ..machine.clone() })?
            }
            (None, Some(_)) => txn_now,
        };
    }
    let new = stated.iter().filter(|(name, _)| !known.iter().any(|held| held.record.name == **name));
    // Those that were accepted and are not stated take places too.
    let room =
        MAX_MACHINES.saturating_sub(known.iter().filter(|held| held.record.accepted.is_some()).count());
    for (name, about) in new.take(room) {
        told.push(format!("states {name} ({})", about.kind));
        let (name, gateway, about) = (name.clone(), gateway.clone(), about.clone());
        let key = vouched_key(&gateway, &name);
        txn = put(txn.absent(key), Machine { name, gateway, about, stated: Some(now), accepted: None })?;
    }
    if told.is_empty() {
        return Ok(());
    }
    let event = Event::new(now, gateway.as_str(), "device.vouches", gateway.as_str(), &told.join("; "));
    commit(plant, txn.audit(event.entry())).await
}

fn put(txn: Txn, machine: Machine) -> Result<Txn, Refusal> {
    let key = vouched_key(&machine.gateway, &machine.name);
    Ok(txn.put(key, stored(&machine)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Bench, NOW, observing, refused};

    fn machine(name: &str, kind: &str) -> v1::VouchedMachine {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        v1::VouchedMachine { name, kind, address: "10.9.0.7".to_owned(), serial: "A1".to_owned() }
    }

    #[test]
    fn what_is_stated_is_bounded_and_printable() {
        let many: Vec<_> = (0..=MAX_MACHINES).map(|n| machine(&format!("plc-{n}"), "PLC")).collect();
        let text = refused!(read(&many), Malformed);
        assert_eq!(text, "statement: it vouches for 17 machines, at most 16");
        for bad in [machine("PLC 1", "PLC"), machine("plc-1", ""), machine("plc-1", "P\u{1b}[2J")] {
            refused!(read(&[bad]), Malformed);
        }
        assert_eq!(read(&many[1..]).unwrap().len(), MAX_MACHINES);
    }

    #[tokio::test]
    async fn a_gateway_writes_only_what_changed_and_what_differs_is_to_be_accepted_again() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let gateway = bench.device("gateway", &["cell-3"]).await;
        let states = async |machines: &[v1::VouchedMachine]| {
            take(&bench.plant, &gateway, &read(machines).unwrap(), NOW).await.unwrap();
        };
        states(&[machine("plc-1", "PLC")]).await;
        let key = vouched_key(&gateway, &"plc-1".parse().unwrap());
        let stated: Machine = bench.read(key.clone()).await;
        assert!(stated.accepted.is_none() && stated.stated == Some(NOW), "{stated:?}");
        let before = bench.revision();
        states(&[machine("plc-1", "PLC")]).await;
        assert_eq!(bench.revision(), before, "no news");

        let accepted = Some(crate::record::vouched::Accepted { by: "ada".to_owned(), at: NOW });
        let owner = machine_key(&"plc-1".parse().unwrap());
        let txn = Txn::new()
            .put(key.clone(), stored(&Machine { accepted, ..stated }).unwrap())
            .put(owner.clone(), stored(&MachineOwner { gateway: gateway.clone() }).unwrap());
        bench.plant.store.transact(txn).await.unwrap();
        states(&[]).await;
        let gone: Machine = bench.read(key.clone()).await;
        assert!(gone.stated.is_none() && gone.accepted.is_some(), "it may come back: {gone:?}");
        states(&[machine("plc-1", "robot")]).await;
        let other: Machine = bench.read(key).await;
        assert!(other.accepted.is_none() && other.about.kind == "robot", "{other:?}");
        let owner: Option<Held<MachineOwner>> = fetch(bench.plant.store.as_ref(), owner).await.unwrap();
        assert!(owner.is_none(), "the name is free for whoever is accepted next: {owner:?}");
    }
}
