//! `[workload_api]` and `[[workload]]`: programs on this device that have identities of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use policy::budget::MAX_SOFTWARE_KEYS;
use policy::id::{ServiceName, WorkloadName, ZoneName};
use serde::Deserialize;

use super::local::MAX_SOCKET;
use super::raw::Raw;
use super::{Faults, KeyPlace, Service};
use crate::role::Role;
use crate::software_key::{Holder, SoftwareSeat};

/// Mode of the socket unless told otherwise: every program may connect, and what it gets depends on who it is.
const MODE: u32 = 0o666;
/// Permission bits of a file.
const MODES: u32 = 0o777;

/// Where workloads ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadApi {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// The group that it is given to.
    pub group: Option<u32>,
}

/// A program with an identity of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name, the last segment of its SPIFFE ID.
    pub name: WorkloadName,
    /// The service that it serves or opens.
    pub service: ServiceName,
    /// Whether it serves (listener) or opens (caller).
    pub role: Role,
    /// The device's zone that it is in; None: the one that the device has been in longest.
    pub zone: Option<ZoneName>,
    /// The user that it runs as.
    pub uid: Option<u32>,
    /// The group that it runs as.
    pub gid: Option<u32>,
}

impl Workload {
    /// Where its key belongs on a device that came into these zones in this order; None where it is in none of them.
    #[must_use]
    pub fn seat(&self, zones: &[ZoneName]) -> Option<SoftwareSeat> {
        let zone = self.zone.as_ref().or(zones.first()).filter(|zone| zones.contains(zone))?;
        Some(self.seat_in(zone))
    }

    /// Where its key would belong if the device left zones that it came into before.
    fn later_seats(&self, zones: &[ZoneName]) -> Vec<SoftwareSeat> {
        let later = zones.iter().skip(1).filter(|_| self.zone.is_none());
        later.map(|zone| self.seat_in(zone)).collect()
    }

    fn seat_in(&self, zone: &ZoneName) -> SoftwareSeat {
        let holder = Holder::Workload { name: self.name.clone(), role: self.role };
        SoftwareSeat { zone: zone.clone(), holder }
    }

    /// Whether a process may be both.
    fn may_be(&self, other: &Self) -> bool {
        let agree = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        agree(self.uid, other.uid) && agree(self.gid, other.gid)
    }

    /// Whether a process that runs as this user and group is it.
    #[must_use]
    pub fn is(&self, uid: u32, gid: u32) -> bool {
        self.uid.is_none_or(|own| own == uid) && self.gid.is_none_or(|own| own == gid)
    }
}

/// Those of `workloads` that one process may be and of which one opens connections and one serves, as client and server.
#[must_use]
pub fn two_sided(workloads: &[Workload]) -> Vec<(WorkloadName, WorkloadName)> {
    let of = |role: Role| workloads.iter().filter(move |workload| workload.role == role);
    let servers_of = |client: &'_ Workload| {
        let servers = of(Role::Listener).filter(|server| client.may_be(server));
        servers.map(|server| (client.name.clone(), server.name.clone())).collect::<Vec<_>>()
    };
    of(Role::Caller).flat_map(servers_of).collect()
}

/// A process, as the entries that its user and group fit: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The first of them.
    pub first: Workload,
    /// Those after it.
    pub others: Vec<Workload>,
}

impl Program {
    /// What runs as this user and group; None if no entry fits.
    #[must_use]
    pub fn of(workloads: &[Workload], uid: u32, gid: u32) -> Option<Self> {
        let mut fitting = workloads.iter().filter(|workload| workload.is(uid, gid)).cloned();
        Some(Self { first: fitting.next()?, others: fitting.collect() })
    }
}

/// Everything on a device that holds a software key.
#[derive(Debug, Clone, Copy)]
pub struct Holders<'a> {
    /// The services; those with a key in software count.
    pub services: &'a [Service],
    /// The workloads.
    pub workloads: &'a [Workload],
}

impl<'a> Holders<'a> {
    /// The places of their keys on a device of these zones.
    pub fn seats(self, zones: &'a [ZoneName]) -> impl Iterator<Item = SoftwareSeat> + 'a {
        let services = self.services.iter().filter(|service| service.key == KeyPlace::Software);
        let services = services.flat_map(move |service| {
            let seat = |zone: &ZoneName| SoftwareSeat {
                zone: zone.clone(),
                holder: Holder::Service(service.name.clone()),
            };
            zones.iter().map(seat).collect::<Vec<_>>()
        });
        services.chain(self.workloads.iter().filter_map(move |workload| workload.seat(zones)))
    }

    /// The places of keys that are needed once the device leaves a zone.
    pub fn later_seats(self, zones: &'a [ZoneName]) -> impl Iterator<Item = SoftwareSeat> + 'a {
        self.workloads.iter().flat_map(move |workload| workload.later_seats(zones))
    }
}

/// The section as it is written.
#[derive(Debug, Deserialize)]
pub(super) struct RawWorkloadApi {
    socket: Option<String>,
    mode: Option<i64>,
    group: Option<i64>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

/// One `[[workload]]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawWorkload {
    name: Option<String>,
    service: Option<String>,
    role: Option<String>,
    zone: Option<String>,
    uid: Option<i64>,
    gid: Option<i64>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

pub(super) fn workloads(
    base: &Path,
    raw: &Raw,
    services: &[Service],
    faults: &mut Faults,
) -> (Option<WorkloadApi>, Vec<Workload>) {
    let api = raw.workload_api.as_ref().and_then(|raw| api(base, raw, faults));
    let in_software = services.iter().filter(|service| service.key == KeyPlace::Software).count();
    let most = MAX_SOFTWARE_KEYS.saturating_sub(in_software);
    if raw.workloads.len() > most {
        let count = raw.workloads.len();
        faults.add(
            "workload",
            format_args!(
                "{count} workloads beside {in_software} services with key = \"software\"; a device has at most \
                 {MAX_SOFTWARE_KEYS} software keys"
            ),
        );
    }
    if !raw.workloads.is_empty() && raw.workload_api.is_none() {
        faults
            .add("workload_api", "missing, and a [[workload]] gets its certificate there; write the section");
    }
    let mut found: Vec<Workload> = Vec::new();
    for raw in raw.workloads.iter().take(most) {
        let Some(workload) = workload(raw, services, faults) else { continue };
        match found.iter().any(|other| other.name == workload.name) {
            true => {
                faults.add("workload.name", format_args!("`{}` is listed twice; remove one", workload.name))
            }
            false => found.push(workload),
        }
    }
    (api, found)
}

fn api(base: &Path, raw: &RawWorkloadApi, faults: &mut Faults) -> Option<WorkloadApi> {
    faults.unknown("workload_api.", &raw.unknown);
    let example = "/run/touchstone/workload.sock";
    let socket = base.join(faults.required("workload_api.socket", raw.socket.as_ref(), example)?);
    if socket.as_os_str().len() > MAX_SOCKET {
        faults.add("workload_api.socket", format_args!("a path of a socket has at most {MAX_SOCKET} bytes"));
    }
    let mode = match raw.mode.map(u32::try_from) {
        None => MODE,
        Some(Ok(mode)) if mode <= MODES => mode,
        Some(_) => {
            faults.add("workload_api.mode", "write permission bits, for example mode = 0o660");
            MODE
        }
    };
    let group = number("workload_api.group", raw.group, faults);
    Some(WorkloadApi { socket, mode, group })
}

fn workload(raw: &RawWorkload, services: &[Service], faults: &mut Faults) -> Option<Workload> {
    faults.unknown("workload.", &raw.unknown);
    let name = faults.required("workload.name", raw.name.as_ref(), "historian");
    let name = name.and_then(|text| faults.parsed("workload.name", text));
    let service = faults.required("workload.service", raw.service.as_ref(), "opcua");
    let service: Option<ServiceName> = service.and_then(|text| faults.parsed("workload.service", text));
    let role = match raw.role.as_deref() {
        Some("server") => Some(Role::Listener),
        Some("client") => Some(Role::Caller),
        _ => {
            faults.add("workload.role", "write role = \"server\" if it serves the service, or \"client\"");
            None
        }
    };
    let offered = |name: &ServiceName| services.iter().any(|service| service.name == *name);
    if role == Some(Role::Listener) && service.as_ref().is_some_and(|service| !offered(service)) {
        faults.add("workload.service", "this device offers no such service; name it in a [[service]] too");
    }
    let zone = raw.zone.as_deref().map(|text| faults.parsed("workload.zone", text));
    let (uid, gid) = (number("workload.uid", raw.uid, faults), number("workload.gid", raw.gid, faults));
    if raw.uid.is_none() && raw.gid.is_none() {
        faults
            .add("workload.uid", "missing, as is gid; write the number of the user that the program runs as");
    }
    let zone = match zone {
        Some(zone) => Some(zone?),
        None => None,
    };
    Some(Workload { name: name?, service: service?, role: role?, zone, uid, gid })
}

/// A user or group. The highest number stands for nobody in system calls.
pub(super) fn number(key: &str, raw: Option<i64>, faults: &mut Faults) -> Option<u32> {
    let number = u32::try_from(raw?).ok().filter(|number| *number != u32::MAX);
    if number.is_none() {
        faults.add(key, "no number of a user or group; `id NAME` tells it");
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const LEAST: &str = "broker = \"b:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\n\
        [[service]]\nname = \"opcua\"\nport = 4840\n";
    const API: &str = "[workload_api]\nsocket = \"workload.sock\"\n";

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(Path::new("/etc/touchstone"), &format!("{LEAST}{text}"))
    }

    fn workload(rest: &str) -> String {
        format!("[[workload]]\nname = \"hmi\"\nservice = \"opcua\"\n{rest}\n")
    }

    #[test]
    fn a_workload_is_who_its_user_and_group_say_both_of_them() {
        let config = parse(&format!("{API}{}", workload("role = \"server\"\nuid = 990\ngid = 80"))).unwrap();
        let api = config.workload_api.as_ref().unwrap();
        assert_eq!((api.socket.to_str().unwrap(), api.mode), ("/etc/touchstone/workload.sock", 0o666));
        let one = &config.workloads[0];
        assert!(one.is(990, 80) && !one.is(990, 81) && !one.is(0, 80), "root is no workload by itself");
        let zones = ["press".parse().unwrap(), "cell".parse().unwrap()];
        let seat = one.seat(&zones).unwrap();
        assert_eq!(
            (seat.to_string().as_str(), seat.own().role),
            ("workload hmi in zone press", Role::Listener)
        );
        assert_eq!(config.holders().seats(&zones).count(), 1, "in one zone alone");
        let elsewhere = Workload { zone: Some("vision".parse().unwrap()), ..one.clone() };
        assert_eq!(elsewhere.seat(&zones), None);
        let all = [elsewhere.clone(), Workload { uid: Some(991), ..one.clone() }, one.clone()];
        let program = Program::of(&all, 990, 80).unwrap();
        assert_eq!((&program.first, program.others.as_slice()), (&elsewhere, std::slice::from_ref(one)));
        assert_eq!(Program::of(&all, 990, 81), None);
    }

    #[test]
    fn a_program_of_both_sides_is_known_by_its_user_and_group() {
        let named = |name: &str, rest: &str| workload(rest).replace("\"hmi\"", &format!("\"{name}\""));
        let server = named("hmi", "role = \"server\"\nuid = 990\ngid = 80");
        let pairs = |client: &str| {
            let client = named("historian", &format!("role = \"client\"\n{client}"));
            two_sided(&parse(&format!("{API}{server}{client}")).unwrap().workloads)
        };
        let pair = ("historian".parse().unwrap(), "hmi".parse().unwrap());
        assert_eq!(pairs("uid = 990"), std::slice::from_ref(&pair), "of any group");
        assert_eq!(pairs("gid = 80"), [pair], "of any user");
        assert_eq!(pairs("uid = 991"), []);
        assert_eq!(pairs("uid = 990\ngid = 81"), []);
        let other = named("web", "role = \"server\"\nuid = 990");
        let config = parse(&format!("{API}{server}{other}")).unwrap();
        assert_eq!(two_sided(&config.workloads), [], "both serve");
    }

    #[test]
    fn every_fault_is_named() {
        let faults =
            parse(&format!("{API}mode = 0o1777\ngroup = -1\npath = \"x\"\n[[workload]]\nrole = \"both\"\n"));
        let keys = [
            "workload_api.path: ",
            "workload_api.mode: ",
            "workload_api.group: ",
            "workload.name: missing",
            "workload.service: missing",
            "workload.role: write role = \"server\"",
            "workload.uid: missing",
        ];
        let faults = faults.unwrap_err();
        assert!(faults.iter().zip(keys).all(|(fault, key)| fault.starts_with(key)), "{faults:?}");
        assert_eq!(faults.len(), keys.len(), "{faults:?}");
        let one = workload("role = \"client\"\nuid = 990");
        assert!(parse(&one).unwrap_err()[0].starts_with("workload_api: missing"));
        assert!(parse(&format!("{API}{}", one.repeat(2))).unwrap_err()[0].contains("listed twice"));
        let many = parse(&format!("{API}{}", one.repeat(5))).unwrap_err();
        assert!(many[0].contains("at most 4 software keys"), "{many:?}");
        let foreign = workload("role = \"server\"\nuid = 990").replace("\"opcua\"", "\"ssh\"");
        assert!(parse(&format!("{API}{foreign}")).unwrap_err()[0].contains("offers no such service"));
        let client = workload("role = \"client\"\nuid = 990").replace("\"opcua\"", "\"ssh\"");
        assert!(parse(&format!("{API}{client}")).is_ok(), "others offer what it opens");
    }
}
