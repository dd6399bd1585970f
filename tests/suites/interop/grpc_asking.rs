//! grpcio with the interceptor that is shipped: it refuses, by the attestor's reason and before the handler runs, whom its TLS
//! lets in. That has the files of another service, which everybody may open.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use attestor::testing::command;
use e2e::peers::{Clock, GrpcioAsking, SERVED, Server};
use e2e::{in_time, until};

use super::clients::{self, At, Why};
use super::plant::{Plant, ZONES};

/// Clients that believe the server, whether they may open what it serves or not.
const PRESS: At<'_> = At { device: 0, believing: Some(GrpcioAsking::LOBBY), clock: None };
const CAMERA: At<'_> = At { device: 1, ..PRESS };
const TRUCK: At<'_> = At { device: 2, ..PRESS };
/// Calls of which the mean is told.
const CALLS: u32 = 200;

#[test]
fn grpcio_that_asks_refuses_every_call_that_the_attestor_does_not_allow() {
    let Some(mut plant) = Plant::that_asks() else { return };
    refused(&plant, &plant.servers, CAMERA, Why::NoConduit);
    plant.open(&["spare"]);
    refused(&plant, &plant.servers, CAMERA, Why::NoConduit);
    plant.open_all();
    clients::are_served(&plant, CAMERA);
    refused(&plant, &plant.servers, TRUCK, Why::NoConduit);
    let mut there = [Server::set_up(&GrpcioAsking, &plant.devices[1], ZONES[1])];
    there.iter_mut().for_each(|server| server.start(None, None));
    refused(&plant, &there, PRESS, Why::NoConduit);

    without_the_broker(&mut plant);
    without_an_answer(&mut plant);
    on_an_open_connection(&plant);
}

/// No call comes to a handler, for this reason.
fn refused(plant: &Plant, servers: &[Server], at: At<'_>, why: Why) {
    let ran = || servers.iter().map(|server| server.log().matches("the handler runs").count()).sum::<usize>();
    let before = ran();
    clients::are_refused(plant, servers, at, why);
    assert_eq!(ran(), before, "a handler ran for whom it must not: {why:?}");
}

/// The attestor answers for as long as everything is to last without the broker, and refuses what ended by its clock.
fn without_the_broker(plant: &mut Plant) {
    let Some(clock) = Clock::new() else {
        println!(
            "skipped in part: ended certificates and the broker's absence, because libfaketime is not installed; deploy/packages.sh names its package"
        );
        return;
    };
    plant.world.stop_broker();
    plant.until_broker_is_missed(&clock);
    clients::are_served(plant, CAMERA);
    clock.put_ahead("+2d");
    refused(plant, &plant.servers, CAMERA, Why::Ended);
    plant.go_by(None);
    plant.world.start_broker();
    plant.until_trusted();
    clients::are_served(plant, CAMERA);
}

fn without_an_answer(plant: &mut Plant) {
    plant.devices[0].stop();
    refused(plant, &plant.servers, CAMERA, Why::NoAnswer);
    plant.devices[0].start();
    plant.until_trusted();
    clients::are_served(plant, CAMERA);
}

/// The next call is refused, though its connection stays; a stream that has begun goes on.
fn on_an_open_connection(plant: &Plant) {
    let mut staying = Staying::new(plant);
    for word in ["call", "stream", "open"] {
        assert_eq!(staying.says(word), SERVED, "{word}");
    }
    let begun = Instant::now();
    (0..CALLS).for_each(|_| assert_eq!(staying.says("call"), SERVED));
    println!("measured: a call of grpcio that asks takes {:.1} ms", millis(begun.elapsed() / CALLS));

    let closed = plant.close_all();
    in_time(
        "grpcio that asks refuses the next call, once its conduit is closed,",
        staying.refused("PERMISSION_DENIED no-conduit", closed),
    );
    plant.open_all();
    clients::are_served(plant, CAMERA);
    let lost = plant.quarantine_camera();
    in_time(
        "grpcio that asks refuses the next call, once its device lost trust,",
        staying.refused("PERMISSION_DENIED revoked", lost),
    );
    assert_eq!(staying.says("open"), "PERMISSION_DENIED revoked");
    assert_eq!(staying.says("stream"), SERVED, "README says that a stream goes on");
    refused(plant, &plant.servers, CAMERA, Why::Revoked);
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// A client on camera-1 that stays connected; it ends with this value.
struct Staying {
    child: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Staying {
    fn new(plant: &Plant) -> Self {
        let line = clients::grpcio("stay", plant, &plant.servers[0], CAMERA);
        let mut words = line.split(' ');
        let mut stay = command(words.next().expect("a program"));
        stay.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = stay.spawn().expect("python starts");
        let words = child.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self { child, words, answers }
    }

    fn says(&mut self, word: &str) -> String {
        writeln!(self.words, "{word}").expect("the client reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the client answers");
        answer.trim().to_owned()
    }

    /// How long it is served since `since`, until it is refused in these words.
    fn refused(&mut self, expected: &str, since: Instant) -> Duration {
        until(expected, || match self.says("call") {
            said if said == expected => Ok(since.elapsed()),
            said => Err(said),
        })
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
