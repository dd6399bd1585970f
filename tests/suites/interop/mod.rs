//! Unmodified server software in the zones of a plant. It serves whom a conduit lets in and nobody else: not a byte of
//! the application to a client without a conduit, of another service or zone, in the wrong direction, after the
//! conduit was closed, after trust was lost, or after its certificate ended.
//!
//! | situation | servers | their unmodified clients | programs of the Workload API (`suites/workload`) |
//! |---|---|---|---|
//! | inside a conduit | served | served | served |
//! | without one; for another service | refused | refuse the server | refused |
//! | in the wrong direction | refused | refuse the server | refused; go-spiffe minds no purpose, which is said |
//! | certificate of another zone | refused | refused | refused: the server's own zone |
//! | trust lost | refused, timed; grpcio: until its conduit is closed | refused; curl and openssl refuse such a server, timed | nothing to show, timed; go-spiffe that runs: until its conduit is closed |
//! | certificate ended | refused | refuse the server | refused |
//! | broker away for as long as zones outlive it, by the clock | served | served | served |
//! | rotation under load | nginx, HAProxy, mosquitto and grpcio lose nothing; openssl, and nginx with its key in the TPM, restart | | the crate `spiffe` and go-spiffe lose nothing |
//!
//! grpcio that asks the attestor about every call: `grpc_asking`.

mod clients;
mod grpc;
mod grpc_asking;
mod lint;
mod mbedtls;
mod plant;
mod rotation;
mod situations;

use e2e::peers::Refusal::{Revoked, Unknown};
use e2e::peers::{Client, Clock, Server, Shown};

use clients::{At, Why};
use plant::Plant;
use situations::{in_time, measured, refused_by_all, served_by_all, until_all_refuse};

/// Clients of a zone that may open another service: they believe the servers' authority.
const OF_ANOTHER_ZONE: At<'_> = At { device: 2, believing: Some("field"), clock: None };

#[test]
fn servers_serve_whom_a_conduit_lets_in_and_nobody_else() {
    let Some(mut plant) = Plant::new() else { return };
    let (camera, truck) = (plant.client(1), plant.client(2));
    only_inside_a_conduit(&plant, &camera, &truck);
    rotation::loses_no_request(&mut plant, &camera);
    mbedtls::believes_who_may_open(&plant);
    lint::finds_nothing(&plant);
    clients::openssl_verifies(&plant, false);
    without_the_broker(&mut plant, &camera);

    let thief = camera.thief();
    closes(&plant, &thief);
    let opened = plant.open_all();
    served_by_all(&plant.servers, &camera, opened);
    let lost = plant.quarantine_camera();
    let took = until_all_refuse(&plant.servers, &thief, Revoked, lost);
    in_time("refuses a device that lost trust", &took);
    plant.world.stop_broker();
    plant.servers.iter().for_each(Server::restart);
    refused_by_all(&plant.servers, &thief, Shown::Caller, Revoked);
    clients::are_refused(&plant, &plant.servers, At::CAMERA, Why::Revoked);
    clients::openssl_verifies(&plant, true);
    plant.world.start_broker();
    situations::servers_that_lost_trust_are_refused(&plant, OF_ANOTHER_ZONE);
}

/// Python's grpcio as server and client, on devices without a TPM: it takes keys in files only.
#[test]
fn grpcio_serves_whom_a_conduit_lets_in_and_nobody_else() {
    let Some(mut plant) = Plant::without_tpm() else { return };
    let (camera, truck) = (plant.client(1), plant.client(2));
    only_inside_a_conduit(&plant, &camera, &truck);
    rotation::loses_no_request(&mut plant, &camera);
    without_the_broker(&mut plant, &camera);

    // What takes no CRL serves on until the certificate ends, or the conduit is closed.
    let thief = camera.thief();
    let crl = format!("services/{}/inbound.crl", plant.servers[0].software.service());
    let crl = plant.awaited(vec![(0, crl)]);
    let lost = plant.quarantine_camera();
    crl.into_iter().for_each(plant::Awaited::come);
    served_by_all(&plant.servers, &thief, lost);
    closes(&plant, &thief);
}

/// Neither without a conduit nor with one for another service, but with their own, and nobody else.
fn only_inside_a_conduit(plant: &Plant, camera: &Client, truck: &Client) {
    let thief = camera.thief();
    let refused = || {
        refused_by_all(&plant.servers, &thief, Shown::Caller, Unknown);
        clients::are_refused(plant, &plant.servers, At::CAMERA, Why::Unbelieved);
    };
    refused();
    plant.open(&["spare"]);
    refused();
    let opened = plant.open_all();
    measured("serves once its conduit is open", &served_by_all(&plant.servers, camera, opened));
    clients::are_served(plant, At::CAMERA);
    refused_by_all(&plant.servers, &truck.thief(), Shown::Caller, Unknown);
    refused_by_all(&plant.servers, &thief, Shown::Listener, Unknown);
    plant.open_field_to_truck();
    clients::are_refused(plant, &plant.servers, OF_ANOTHER_ZONE, Why::Unbelieving);
}

/// The wrong direction is refused, and what ended by a clock of their own; nobody else notices the broker's absence.
fn without_the_broker(plant: &mut Plant, camera: &Client) {
    plant.world.stop_broker();
    situations::other_direction_is_refused(plant);
    match Clock::new() {
        Some(clock) => {
            situations::ended_certificates_are_refused(plant, camera, &clock);
            situations::all_goes_on_without_the_broker(plant, camera, &clock);
        }
        None => println!(
            "skipped in part: ended certificates and the broker's absence, because libfaketime is not installed; deploy/packages.sh names its package"
        ),
    }
    plant.world.start_broker();
    plant.until_trusted();
}

/// Who was served is refused in time once conduits are closed.
fn closes(plant: &Plant, thief: &Client) {
    let closed = plant.close_all();
    let took = until_all_refuse(&plant.servers, thief, Unknown, closed);
    in_time("refuses once its conduit is closed", &took);
}
