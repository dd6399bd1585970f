//! A device that moves to another zone, seen by those who use it: through its gate, which names no zone, by its answers
//! about peers, and as a workload on it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use e2e::{Device, World, until};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::gate::{Controller, free, open, talk};
use crate::workload::peer::svid;

/// press-1 of `from` goes to `to`; cell-1 has a gate before it for each of the two.
struct Move {
    world: World,
    runtime: Runtime,
    press: Device,
    cell: Device,
    _controller: Controller,
    gates: [SocketAddr; 2],
    /// While it is there, the software of press-1 is not done with what it was given.
    wait: PathBuf,
}

impl Move {
    fn new([from, to]: [&str; 2]) -> Option<Self> {
        let (world, [mut press, mut cell]) = World::with_devices(["press-1", "cell-1"])?;
        // By themselves they would prove themselves again long after the test.
        for zone in [from, to, "cell"] {
            let options = "--mode observe --least instance-identity=affirming --software-keys allow --reattest-every 1h";
            world.admin(&format!("zone create {zone} {options}"));
        }
        for zone in [from, to] {
            world.admin(&format!(
                "conduit allow --from cell --to {zone} --service modbus --accept-observed --unoffered"
            ));
        }
        let (controller, gate, wait) = (Controller::start(), free(), press.path("wait"));
        press.offer("modbus");
        let uid = fs::metadata(press.path("attestor.toml")).expect("its configuration").uid();
        let words =
            format!("[\"/bin/sh\", \"-c\", \"while test -e {}; do sleep 0.05; done\"]", wait.display());
        press.add_end(&format!(
            "[workload_api]\nsocket = \"workload.sock\"\n\
             [[workload]]\nname = \"plc\"\nservice = \"modbus\"\nrole = \"server\"\nuid = {uid}\n\
             [[hook]]\nname = \"hmi\"\nreload = {words}\nrestart = {words}\n\
             [[gate]]\nname = \"plc\"\nrole = \"server\"\nservice = \"modbus\"\nlisten = \"{gate}\"\nconnect = \"{}\"\n",
            controller.address
        ));
        let gates = [from, to].map(|zone| {
            let listen = free();
            cell.add_end(&format!(
                "[[gate]]\nname = \"{zone}\"\nrole = \"client\"\nservice = \"modbus\"\nlisten = \"{listen}\"\n\
                 connect = \"{gate}\"\npeer = \"press-1.{zone}\"\n"
            ));
            listen
        });
        for (zone, device) in [(from, &mut press), ("cell", &mut cell)] {
            world.register(device, zone);
            device.measure("boot-a");
            device.start();
            device.until_state("trusted");
        }
        let runtime = Runtime::new().expect("a runtime");
        Some(Self { world, runtime, press, cell, _controller: controller, gates, wait })
    }

    /// The SPIFFE ID of the workload.
    fn plc(&self) -> Result<String, String> {
        let svid = self.runtime.block_on(svid(&self.press.path("workload.sock")));
        svid.map(|svid| svid.id).map_err(|status| status.to_string())
    }

    /// The zone in which press-1 would let cell-1 in, or why it would not.
    fn lets_in(&self) -> Result<String, String> {
        let peer = self.cell.delivered("cell", "caller.pem").display().to_string();
        let asked = ["--peer-cert", &peer, "--service", "modbus", "-o", "json"];
        let output = self.press.attestor("authorize", &asked);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        match &answer["allowed"] {
            Value::Bool(true) => Ok(answer["zone"].as_str().unwrap_or_default().to_owned()),
            _ => Err(answer.to_string()),
        }
    }

    fn zones(&self) -> Value {
        self.world.admin("device show press-1")["zones"].clone()
    }

    fn is_cut(&self, session: &mut TcpStream) -> Result<(), String> {
        talk(session).err().map(|_| ()).ok_or_else(|| "it goes on".to_owned())
    }
}

fn a_move_stops_nobody(zones: [&str; 2]) {
    let Some(moves) = Move::new(zones) else { return };
    let [from, to] = zones;
    let id = |zone: &str| format!("spiffe://{zone}.plant.example/device/press-1/workload/plc");
    let mut session = until("a client reaches the controller", || open(moves.gates[0]));
    until("the workload has its identity", || moves.plc());
    assert_eq!(moves.plc(), Ok(id(from)));
    until("the hook ended", || {
        let kept = moves.press.path("deliver/hooks/hmi.json").exists();
        kept.then_some(()).ok_or("not yet".to_owned())
    });

    // The zone that it comes into certifies it, and its software still goes by the other.
    fs::write(&moves.wait, "").expect("a file in the device's folder");
    moves.world.tool(&["device", "move", "press-1", "--to", to]).done();
    until("it is in both zones", || {
        talk(&mut session).unwrap_or_else(|error| panic!("the session is cut: {error}"));
        assert_eq!(moves.plc(), Ok(id(from)));
        let joined = moves.press.delivered(to, "listener.pem").exists();
        joined.then_some(()).ok_or_else(|| moves.zones().to_string())
    });
    let mut both = zones;
    both.sort_unstable();
    assert_eq!(moves.zones(), serde_json::json!(both));
    drop(open(moves.gates[0]).expect("the gate lets others in too"));
    assert_eq!(moves.lets_in(), Ok(from.to_owned()));

    fs::remove_file(&moves.wait).expect("the file is there");
    until("the workload is of the other zone, without a moment between", || {
        let now = moves.plc().unwrap_or_else(|error| panic!("it has no identity: {error}"));
        if now == id(to) { Ok(()) } else { Err(now) }
    });
    assert_eq!(moves.zones(), serde_json::json!([to]));
    until("a client reaches the controller in the other zone", || open(moves.gates[1]));
    assert_eq!(moves.lets_in(), Ok(to.to_owned()));
    until("the session with who it was ends", || moves.is_cut(&mut session));
}

#[test]
fn a_move_to_a_zone_that_sorts_first_stops_nobody() {
    a_move_stops_nobody(["press", "lab"]);
}

#[test]
fn a_move_to_a_zone_that_sorts_last_stops_nobody() {
    a_move_stops_nobody(["lab", "press"]);
}
