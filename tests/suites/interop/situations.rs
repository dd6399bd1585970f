//! What is asked of every server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::peers::{Client, Clock, Refusal, Server, Shown};
use e2e::until;

use super::clients::{self, At, Why};
use super::plant::{Plant, ZONES};

/// Refusals in a row that count: one process of a server that is about to end may still go by its old files.
const IN_A_ROW: u32 = 4;

/// How long each server took.
pub(super) type Took = BTreeMap<&'static str, Duration>;

/// Says what was measured.
pub(super) fn measured(what: &str, took: &Took) {
    for (server, took) in took {
        println!("measured: {server} {what} after {:.1} s", took.as_secs_f64());
    }
}

/// Says what was measured, which is within what is promised.
pub(super) fn in_time(what: &str, took: &Took) {
    took.iter().for_each(|(server, took)| e2e::in_time(&format!("{server} {what}"), *took));
}

/// Every server serves, at last; how long that took since `since`.
pub(super) fn served_by_all(servers: &[Server], client: &Client, since: Instant) -> Took {
    let mut took = Took::new();
    for server in servers {
        until(&format!("{:?} serves", server.software), || {
            let heard = client.ask(server, Shown::Caller);
            match server.software.serves(&heard.bytes) {
                true => Ok(()),
                false => Err(format!("{heard:?}\n{}", tail(&server.log()))),
            }
        });
        took.insert(server.software.service(), since.elapsed());
    }
    took
}

/// Every server refuses for this reason, and serves nothing meanwhile.
pub(super) fn refused_by_all(servers: &[Server], client: &Client, shown: Shown, why: Refusal) {
    for server in servers {
        until(&format!("{:?} refuses: {why:?}", server.software), || {
            match answer(server, client, shown, why) {
                Answer::Served => panic!("{:?} served whom it must refuse: {why:?}", server.software),
                Answer::Refused => Ok(()),
                Answer::Other(other) => Err(other),
            }
        });
    }
}

/// How long each server goes on serving since `since`.
pub(super) fn until_all_refuse(servers: &[Server], client: &Client, why: Refusal, since: Instant) -> Took {
    let mut refusing: BTreeMap<&str, (Duration, u32)> = BTreeMap::new();
    until(&format!("all refuse: {why:?}"), || {
        let mut other = Vec::new();
        for server in servers {
            let name = server.software.service();
            let (_, times) = refusing.get(name).copied().unwrap_or_default();
            if times >= IN_A_ROW {
                continue;
            }
            match answer(server, client, Shown::Caller, why) {
                Answer::Refused => refusing.entry(name).or_insert((since.elapsed(), 0)).1 += 1,
                Answer::Served => drop(refusing.remove(name)),
                Answer::Other(said) => other.push(said),
            }
        }
        let done = refusing.len() == servers.len() && refusing.values().all(|(_, times)| *times >= IN_A_ROW);
        if done { Ok(()) } else { Err(format!("{refusing:?} {other:?}")) }
    });
    refusing.into_iter().map(|(name, (took, _))| (name, took)).collect()
}

enum Answer {
    Served,
    Refused,
    Other(String),
}

fn answer(server: &Server, client: &Client, shown: Shown, why: Refusal) -> Answer {
    let before = server.log().len();
    let heard = client.ask(server, shown);
    if server.software.serves(&heard.bytes) {
        return Answer::Served;
    }
    let log = server.log();
    let since = log.get(before..).unwrap_or(&log);
    match server.software.refuses(&heard, since, why) {
        true => Answer::Refused,
        false => Answer::Other(format!("{:?}: {heard:?}\n{}", server.software, tail(&log))),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(6).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Servers on camera-1, whose zone nobody may reach, and press-1 as the client.
pub(super) fn other_direction_is_refused(plant: &Plant) {
    let camera = &plant.devices[1];
    let there = |server: &Server| Server::set_up(server.software, camera, ZONES[1]);
    let mut servers: Vec<Server> = plant.servers.iter().map(there).collect();
    for server in &mut servers {
        server.tell();
        server.start(plant.manager(1), None);
    }
    refused_by_all(&servers, &plant.client(0).thief(), Shown::Caller, Refusal::Unknown);
    let press = At { device: 0, ..At::CAMERA };
    clients::are_refused(plant, &servers, press, Why::Unbelieved);
}

/// Servers on press-1 that no hook tells of anything, and clients of `at`, which believe its authority until its
/// certificate is in a CRL.
pub(super) fn servers_that_lost_trust_are_refused(plant: &Plant, at: At<'_>) {
    let servers = on_press(plant, None);
    clients::are_refused(plant, &servers, at, Why::Unbelieving);
    let lost = Instant::now();
    plant.world.admin("device quarantine press-1 --reason stolen");
    let took = clients::refuse_who_lost_trust(plant, &servers, at, lost);
    in_time("is refused by its client once its device lost trust", &took);
}

/// More servers on press-1, which no hook tells of anything.
fn on_press(plant: &Plant, clock: Option<&Clock>) -> Vec<Server> {
    let here = |server: &Server| Server::set_up(server.software, &plant.devices[0], ZONES[0]);
    let mut servers: Vec<Server> = plant.servers.iter().map(here).collect();
    for server in &mut servers {
        server.tell();
        server.start(plant.manager(0), clock);
    }
    servers
}

/// Servers on press-1, and then clients of others, by a clock of their own: certificates last less than a day.
pub(super) fn ended_certificates_are_refused(plant: &Plant, client: &Client, clock: &Clock) {
    let servers = on_press(plant, Some(clock));
    served_by_all(&servers, client, Instant::now());
    clock.put_ahead("+2d");
    refused_by_all(&servers, &client.thief(), Shown::Caller, Refusal::Expired);
    let ahead = At { clock: Some(clock), ..At::CAMERA };
    clients::are_refused(plant, &plant.servers, ahead, Why::Expired);
}

/// Nobody notices that the broker is away, for as long as everything is to last without it.
pub(super) fn all_goes_on_without_the_broker(plant: &mut Plant, client: &Client, clock: &Clock) {
    plant.until_broker_is_missed(clock);
    served_by_all(&plant.servers, client, Instant::now());
    clients::are_served(plant, At { clock: Some(clock), ..At::CAMERA });
    plant.go_by(None);
}
