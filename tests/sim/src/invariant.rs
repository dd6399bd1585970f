//! What must hold after every event. The ledger is what the world knows for certain, from acknowledgements alone: the broker
//! is never asked whether the broker is right, but where it must agree with what it acknowledged.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use broker::audit::chains;
use broker::plant::Plant;
use broker::record::device::{Device, Tpm, device_key, ek_key};
use broker::record::fetch;
use broker::store::MAX_SCAN;
use policy::audit::Event;
use policy::audit::trail::Trail;
use policy::x509::certificate::Certificate;

use crate::plan::{Boot, SECOND};
use crate::plant::{LIFE, NAMES};

/// How long a gate that is told everything may hold a session with a device that was stopped: its stream is opened again
/// within one beat of 30 s and tells within the next, and a message may be late by 20 s.
pub const TOLD: u64 = 90 * SECOND;

/// An invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// Why.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.why)
    }
}

const fn broken(invariant: &'static str, why: String) -> Broken {
    Broken { invariant, why }
}

/// Whether something is so, as far as acknowledgements tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What was acknowledged last.
    pub is: bool,
    /// Since when, in milliseconds; none while a change of it is under way, or ended without an answer.
    pub since: Option<u64>,
}

impl Known {
    /// Whether it has been so for certain, from before `at`.
    #[must_use]
    pub fn was(self, is: bool, at: u64) -> bool {
        self.is == is && self.since.is_some_and(|since| since <= at)
    }
}

/// Certificates that left the broker.
#[derive(Debug, Clone)]
pub struct Issue {
    /// The device.
    pub device: usize,
    /// What it ran when it proved itself.
    pub boot: Boot,
    /// When the broker began to look at the proof.
    pub begun: u64,
    /// The challenge that was answered.
    pub sealed: Vec<u8>,
    /// The keys that were certified by its TPM in this proof: their coordinates.
    pub keys: Vec<Vec<u8>>,
    /// The certificates, DER.
    pub certificates: Vec<Vec<u8>>,
}

/// A session through a gate, as the ledger sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The device that the gate is of.
    pub gate: usize,
    /// The peer.
    pub caller: usize,
}

/// What the world knows.
pub struct Ledger {
    /// Whether each device is quarantined.
    pub stopped: Vec<Known>,
    /// Whether release 2.0 is withdrawn.
    pub withdrawn: Known,
    /// The last moment at which each device may not have heard the broker.
    pub deaf: Vec<u64>,
    serials: BTreeMap<String, usize>,
    proofs: BTreeMap<Vec<u8>, usize>,
    trail: Trail,
    read: BTreeMap<String, u64>,
    recorded: BTreeMap<String, ()>,
}

impl Default for Ledger {
    fn default() -> Self {
        let no = Known { is: false, since: Some(0) };
        Self {
            stopped: vec![no; NAMES.len()],
            withdrawn: no,
            deaf: vec![0; NAMES.len()],
            serials: BTreeMap::new(),
            proofs: BTreeMap::new(),
            trail: Trail::new(&[], true),
            read: BTreeMap::new(),
            recorded: BTreeMap::new(),
        }
    }
}

/// Certificates are for keys that were certified in a fresh proof of a device that was good and wanted then.
pub fn fresh(ledger: &Ledger, issue: &Issue) -> Result<(), Broken> {
    let refuse = |why: String| Err(broken("no certificate without a fresh affirming result", why));
    let name = NAMES[issue.device].0;
    if issue.boot == Boot::Tampered {
        return refuse(format!("{name} had booted what no release allows"));
    }
    if issue.boot == Boot::Second && ledger.withdrawn.was(true, issue.begun) {
        return refuse(format!("{name} ran release 2.0, which was withdrawn before it proved itself"));
    }
    if ledger.stopped[issue.device].was(true, issue.begun) {
        return refuse(format!("{name} was quarantined before it proved itself"));
    }
    let of_a_key = |der: &Vec<u8>| issue.keys.iter().any(|key| contains(der, key));
    match issue.certificates.iter().all(of_a_key) {
        true => Ok(()),
        false => refuse(format!("{name} got a certificate for a key that its TPM did not certify")),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}

/// A challenge is good for one proof.
pub fn once(ledger: &mut Ledger, issue: &Issue) -> Result<(), Broken> {
    match ledger.proofs.insert(issue.sealed.clone(), issue.device) {
        None => Ok(()),
        Some(device) => {
            let why = format!("a challenge of {} was accepted twice", NAMES[device].0);
            Err(broken("a challenge is accepted once", why))
        }
    }
}

/// No two certificates have one serial.
pub fn serials(ledger: &mut Ledger, issue: &Issue) -> Result<(), Broken> {
    for der in &issue.certificates {
        let certificate = Certificate::parse(der).expect("the broker issues what can be read");
        let serial = certificate.serial_text();
        if let Some(other) = ledger.serials.insert(serial.clone(), issue.device) {
            let why = format!("{serial} is of {} and of {}", NAMES[other].0, NAMES[issue.device].0);
            return Err(broken("serials are unique", why));
        }
    }
    Ok(())
}

/// A device that was stopped holds no session through a gate that was told, and none for longer than its certificate lives
/// through one that was not.
pub fn sessions(ledger: &Ledger, live: &[Seen], now: u64) -> Result<(), Broken> {
    for session in live {
        let Known { is: true, since: Some(since) } = ledger.stopped[session.caller] else { continue };
        let told = since.max(ledger.deaf[session.gate]) + TOLD;
        let over = told.min(since + LIFE * SECOND);
        if now > over {
            let (caller, gate) = (NAMES[session.caller].0, NAMES[session.gate].0);
            let why =
                format!("{caller} is quarantined since {since} ms and has a session with {gate} at {now} ms");
            return Err(broken("a quarantined device holds no session", why));
        }
    }
    Ok(())
}

/// Every record of the audit chain follows the one before it.
pub async fn chain(ledger: &mut Ledger, plant: &Plant) -> Result<(), Broken> {
    let refuse = |why: String| broken("the audit chain is whole", why);
    let writers = chains::writers(plant).await.map_err(|error| refuse(error.to_string()))?;
    for writer in writers.into_values().flatten() {
        loop {
            let after = ledger.read.get(&writer).copied().unwrap_or(0);
            let page = chains::page(plant, &writer, after, MAX_SCAN).await;
            let page = page.map_err(|error| refuse(error.to_string()))?;
            let Some((last, _)) = page.last() else { break };
            ledger.read.insert(writer.clone(), *last);
            for (_, bytes) in &page {
                let record = ledger.trail.follow(bytes).map_err(|fault| refuse(fault.to_string()))?;
                if let Ok(event) = Event::parse(&record.entry) {
                    ledger.recorded.extend(event.serials.into_iter().map(|serial| (serial, ())));
                }
            }
        }
    }
    Ok(())
}

/// What the broker acknowledged is so: certificates are on record, and administrators' words hold. What was under way when
/// it stopped is known from now on.
pub async fn kept(ledger: &mut Ledger, plant: &Plant, now: u64) -> Result<(), Broken> {
    let refuse = |why: String| Err(broken("nothing acknowledged is lost", why));
    let missing = ledger.serials.iter().find(|(serial, _)| !ledger.recorded.contains_key(*serial));
    if let Some((serial, device)) = missing {
        return refuse(format!("the certificate {serial} of {} is not on record", NAMES[*device].0));
    }
    for (number, (name, _)) in NAMES.iter().enumerate() {
        let key = device_key(&name.parse().expect("a name"));
        let Some(device) = fetch::<Device>(plant.store.as_ref(), key).await.expect("the store reads") else {
            return refuse(format!("{name} is no device any more"));
        };
        let tpm =
            fetch::<Tpm>(plant.store.as_ref(), ek_key(&device.record.ek)).await.expect("the store reads");
        let is = tpm.is_some_and(|tpm| tpm.record.quarantine.is_some());
        let known = &mut ledger.stopped[number];
        match known.since {
            Some(_) if known.is != is => {
                return refuse(format!("{name}: quarantined is {is}, and {} was acknowledged", known.is));
            }
            Some(_) => {}
            None => *known = Known { is, since: Some(now) },
        }
    }
    Ok(())
}

/// Nothing panics: neither what is simulated nor the simulator.
pub fn panicked(panic: &(dyn Any + Send)) -> Broken {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    broken("nothing panics", text.unwrap_or("it said nothing").to_owned())
}

/// A device that is good and wanted has a certificate that counts.
pub fn locked_out(device: usize, counts: Result<(), String>) -> Result<(), Broken> {
    counts.map_err(|why| {
        let name = NAMES[device].0;
        broken("a good device is not locked out", format!("{name} has no certificate that counts: {why}"))
    })
}
