//! What a workload gets in each state of its device.

use proto::v1;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};

use super::*;
use crate::config::Holders;
use crate::role::Role;
use crate::software_key::{HeldSoftwareKey, SoftwareKey};
use crate::state::tests::trusted;
use crate::status::{Refusal, RefusedKey};
use crate::svid::HeldSvid;
use crate::trust::tests::{NOW, Plant};

pub(in crate::workload_api) fn workload(role: Role) -> Workload {
    let (name, service) = ("hmi".parse().unwrap(), "opcua".parse().unwrap());
    Workload { name, service, role, zone: None, uid: Some(990), gid: None }
}

/// press-1, trusted in the zone press, with a certificate for the workload.
pub(in crate::workload_api) fn certified(plant: &Plant, workload: &Workload) -> State {
    let mut state = trusted(plant);
    certify(&mut state, plant, workload);
    state
}

fn certify(state: &mut State, plant: &Plant, workload: &Workload) {
    let seat = workload.seat(&state.zones).unwrap();
    let (key, device) = (SoftwareKey::generate().unwrap(), state.device.clone().unwrap());
    let pair = KeyPair::try_from(key.pkcs8()).unwrap();
    assert_eq!(pair.der_bytes(), key.point());
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://press.plant.example/device/press-1/workload/{}", workload.name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let der = params.self_signed(&pair).unwrap().der().to_vec();
    let held = HeldSoftwareKey::take(key, &seat, &plant.domain, &device, |asked| {
        HeldSvid::accept(vec![der], asked, NOW)
    });
    state.software_keys.insert(seat, held.unwrap());
}

fn program(first: Workload) -> Program {
    Program { first, others: Vec::new() }
}

fn offer(state: &State, plant: &Plant, role: Role) -> Result<Offer, Withheld> {
    Offer::of(state, &plant.domain, &program(workload(role)), NOW).map(|(offer, _)| offer)
}

fn refusal(reason: &str) -> Option<Refusal> {
    let (reason, text) = (reason.to_owned(), String::new());
    Some(Refusal { reason, message: text.clone(), remedy: text, at: NOW, findings: Vec::new() })
}

#[test]
fn a_server_believes_whom_its_conduits_let_in_and_a_client_nobody_without_one() {
    let plant = Plant::new();
    let state = certified(&plant, &workload(Role::Listener));
    let answer = offer(&state, &plant, Role::Listener).unwrap().svids();
    let svid = &answer.svids[0];
    assert_eq!(svid.spiffe_id, "spiffe://press.plant.example/device/press-1/workload/hmi");
    let nobody = &state.trust.as_ref().unwrap().nobody().certificate;
    assert_eq!(&svid.bundle, nobody, "the zone does not let its own devices in");
    let domains: Vec<&str> = answer.federated_bundles.keys().map(String::as_str).collect();
    assert_eq!((domains, answer.crl.len()), (vec!["spiffe://cell.plant.example"], 1));

    let state = certified(&plant, &workload(Role::Caller));
    let nobody = &state.trust.as_ref().unwrap().nobody().certificate;
    let bundles = offer(&state, &plant, Role::Caller).unwrap().bundles();
    assert_eq!(bundles.bundles.len(), 1, "no conduit lets it open opcua anywhere");
    assert_eq!(&bundles.bundles["spiffe://press.plant.example"], nobody);
    assert!(bundles.crl.is_empty());
}

/// The state of a device whose opcua `inbound` zones may open, and which may open that of `outbound` ones; and a program
/// with an entry for each side.
fn both_sides(plant: &Plant, inbound: &[u32], outbound: &[u32]) -> (State, Program) {
    let mut set = crate::trust::tests::set();
    for (zone, role) in
        [("cell", v1::Role::Listener), ("yard", v1::Role::Caller), ("yard", v1::Role::Listener)]
    {
        let (certificate, crl) = crate::trust::tests::zone_authority(&format!("{zone} {role:?}"));
        set.authorities.push(v1::Authority {
            zone: zone.into(),
            role: role.into(),
            generation: 1,
            certificate,
            crl,
        });
    }
    for file in &mut set.files {
        let authorities = if file.direction() == v1::Direction::Inbound { inbound } else { outbound };
        file.authorities = authorities.to_vec();
    }
    set.sequence = 8;
    let server = workload(Role::Listener);
    let client = Workload { name: "hmi-client".parse().unwrap(), ..workload(Role::Caller) };
    let mut state = certified(plant, &server);
    certify(&mut state, plant, &client);
    let device = state.device.clone().unwrap();
    let seen = crate::trust::Seen::default();
    let expected = crate::trust::Expected { root: &plant.root, plant: &plant.domain, device: &device, seen };
    state.take_trust(crate::trust::TrustSet::verify(plant.sign(&set), &expected, NOW).unwrap());
    (state, Program { first: server, others: vec![client] })
}

/// Authorities of the set: callers and listeners of two zones.
const CELL_CALLER: u32 = 0;
const CELL_LISTENER: u32 = 1;
const YARD_CALLER: u32 = 2;
const YARD_LISTENER: u32 = 3;

#[test]
fn a_program_that_serves_and_opens_has_two_certificates_where_both_ways_lead_to_the_same_zones() {
    let plant = Plant::new();
    let given = |inbound: &[u32], outbound: &[u32]| {
        let (state, program) = both_sides(&plant, inbound, outbound);
        let (offer, _) = Offer::of(&state, &plant.domain, &program, NOW).unwrap();
        let left_out: Vec<String> = offer.left_out().iter().map(ToString::to_string).collect();
        (offer.svids(), left_out)
    };
    let (both, left_out) = given(&[CELL_CALLER], &[CELL_LISTENER]);
    let hints: Vec<&str> = both.svids.iter().map(|svid| svid.hint.as_str()).collect();
    assert_eq!((hints, left_out), (vec!["hmi", "hmi-client"], Vec::new()));
    assert_ne!(both.svids[0].x509_svid_key, both.svids[1].x509_svid_key);
    assert_eq!((both.federated_bundles.len(), both.crl.len()), (1, 2), "both authorities of the one zone");

    // yard may be opened and opens nothing: a library that minds no purpose would let it in.
    let (first, left_out) = given(&[CELL_CALLER], &[CELL_LISTENER, YARD_LISTENER]);
    assert_eq!((first.svids.len(), left_out), (1, vec!["hmi-client".to_owned()]));
    assert_eq!(first.svids[0].hint, "hmi");
    let domains: Vec<&str> = first.federated_bundles.keys().map(String::as_str).collect();
    assert_eq!((domains, first.crl.len()), (vec!["spiffe://cell.plant.example"], 1));
    let (_, left_out) = given(&[CELL_CALLER, YARD_CALLER], &[]);
    assert_eq!(left_out, ["hmi-client"]);
}

#[test]
fn an_entry_without_a_certificate_takes_nothing_from_the_first() {
    let plant = Plant::new();
    let (mut state, program) = both_sides(&plant, &[CELL_CALLER], &[CELL_LISTENER]);
    let seat = |workload: &Workload| workload.seat(&[String::from("press").parse().unwrap()]).unwrap();
    state.software_keys.remove(&seat(&program.others[0]));
    let (offer, _) = Offer::of(&state, &plant.domain, &program, NOW).unwrap();
    assert_eq!((offer.svids().svids.len(), offer.left_out().len()), (1, 1));
    state.software_keys.remove(&seat(&program.first));
    assert_eq!(Offer::of(&state, &plant.domain, &program, NOW).unwrap_err(), Withheld::NotYet("hmi".into()));
}

#[test]
fn the_key_is_the_one_of_the_certificate_and_is_never_shown() {
    let plant = Plant::new();
    let state = certified(&plant, &workload(Role::Listener));
    let offer = offer(&state, &plant, Role::Listener).unwrap();
    let held = state.software_keys.values().next().unwrap();
    assert_eq!(offer.svids().svids[0].x509_svid_key, held.key().pkcs8());
    assert_eq!(
        format!("{offer:?}"),
        "Offer { ids: [\"spiffe://press.plant.example/device/press-1/workload/hmi\"], .. }"
    );
}

#[test]
fn what_a_device_that_is_not_trusted_had_is_withheld() {
    let plant = Plant::new();
    let mut state = certified(&plant, &workload(Role::Listener));
    for reason in
        ["REFERENCE_MISMATCH", "QUARANTINED", "RETIRED", "NOT_ADMITTED", "NOT_ENDORSED", "NOT_FOUND"]
    {
        state.refusal = refusal(reason);
        assert_eq!(offer(&state, &plant, Role::Listener), Err(Withheld::Refused(reason.to_owned())));
    }
    state.refusal = refusal("CLOCK_SKEW");
    assert!(offer(&state, &plant, Role::Listener).is_ok(), "what it holds goes on to count");
    state.void_certificates();
    assert_eq!(offer(&state, &plant, Role::Listener), Err(Withheld::Refused("CLOCK_SKEW".to_owned())));
}

#[test]
fn what_one_zone_took_back_is_withheld_while_others_hold() {
    let plant = Plant::new();
    let listener = workload(Role::Listener);
    let mut state = certified(&plant, &listener);
    let own = listener.seat(&state.zones).unwrap().own();
    let other = state.svids.keys().find(|seat| **seat != own).unwrap().clone();
    state.void.insert(other);
    assert!(offer(&state, &plant, Role::Listener).is_ok(), "another place is not its own");
    state.void.insert(own);
    assert_eq!(offer(&state, &plant, Role::Listener), Err(Withheld::Void("hmi".into())));
}

#[test]
fn each_way_to_have_nothing_has_its_reason() {
    let plant = Plant::new();
    let listener = workload(Role::Listener);
    let state = trusted(&plant);
    assert_eq!(offer(&state, &plant, Role::Listener), Err(Withheld::NotYet("hmi".into())));
    assert_eq!(offer(&State::default(), &plant, Role::Listener), Err(Withheld::NotYet("hmi".into())));

    let mut state = trusted(&plant);
    let message = "zone press certifies no software keys".to_owned();
    let denial = proto::v1::Denial { message: message.clone(), ..Default::default() };
    state.refused_keys = vec![RefusedKey::new(listener.seat(&state.zones).unwrap(), &denial)];
    assert_eq!(offer(&state, &plant, Role::Listener), Err(Withheld::NotCertified(message)));

    let state = certified(&plant, &listener);
    let elsewhere = Workload { zone: Some("vision".parse().unwrap()), ..listener.clone() };
    let withheld = Offer::of(&state, &plant.domain, &program(elsewhere), NOW).unwrap_err();
    assert_eq!(withheld, Withheld::Elsewhere("hmi".into()));
    assert_eq!(
        offer(&state, &plant, Role::Caller),
        Err(Withheld::NotYet("hmi".into())),
        "a server's certificate is none for a client"
    );

    let end = state.software_keys.values().next().unwrap().svid().not_after();
    let listener = program(listener);
    let at = |now| Offer::of(&state, &plant.domain, &listener, now);
    assert_eq!(at(end).unwrap().1, Duration::from_secs(1), "the last second counts");
    assert_eq!(at(end.plus(1)).unwrap_err(), Withheld::Ended { name: "hmi".into(), at: end });
}

#[test]
fn a_workload_key_survives_a_restart_and_goes_with_its_entry() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), Plant::new());
    let one = workload(Role::Caller);
    let state = certified(&plant, &one);
    let keeper = crate::state::Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    keeper.update(|held| *held = state.clone()).unwrap();
    let keeper = crate::state::Keeper::load(dir.path(), &plant.domain, &plant.root).unwrap();
    assert_eq!(keeper.read(|read| read.software_keys.clone()), state.software_keys);
    let mut without = state;
    without.keep_software_keys(Holders { services: &[], workloads: std::slice::from_ref(&one) });
    assert_eq!(without.software_keys.len(), 1);
    without.keep_software_keys(Holders { services: &[], workloads: &[] });
    assert!(without.software_keys.is_empty());
}
