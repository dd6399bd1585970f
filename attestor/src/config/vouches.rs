//! `[[vouches]]`: machines without a TPM behind this device, which it vouches for.

use policy::id::DeviceName;

use super::Faults;
use super::raw::RawVouched;

/// Most machines behind one device: the broker takes no more.
const MAX_MACHINES: usize = 16;
/// Longest kind, address and serial number in bytes.
const MAX_TEXT: usize = 48;

/// A machine that this device vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// Its name.
    pub name: DeviceName,
    /// What it is.
    pub kind: String,
    /// Where it is reached; may be empty.
    pub address: String,
    /// Its serial number; may be empty.
    pub serial: String,
}

pub(super) fn interpret(raw: &[RawVouched], faults: &mut Faults) -> Vec<Vouched> {
    faults.bounded("vouches", raw.len(), MAX_MACHINES);
    let mut machines: Vec<Vouched> = Vec::new();
    for machine in raw.iter().take(MAX_MACHINES) {
        let name = faults.required("vouches.name", machine.name.as_ref(), "plc-1");
        let name: Option<DeviceName> = name.and_then(|text| faults.parsed("vouches.name", text));
        let kind =
            faults.required("vouches.kind", machine.kind.as_ref(), "PLC").unwrap_or_default().to_owned();
        let (address, serial) =
            (machine.address.clone().unwrap_or_default(), machine.serial.clone().unwrap_or_default());
        for (key, text) in
            [("vouches.kind", &kind), ("vouches.address", &address), ("vouches.serial", &serial)]
        {
            if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                faults.add(key, format_args!("write at most {MAX_TEXT} bytes of printable text"));
            }
        }
        faults.unknown("vouches.", &machine.unknown);
        let Some(name) = name else { continue };
        match machines.iter().any(|other| other.name == name) {
            true => faults.add("vouches.name", format_args!("`{name}` is listed twice; remove one")),
            false => machines.push(Vouched { name, kind, address, serial }),
        }
    }
    machines
}
