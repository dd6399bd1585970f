//! Authorities are rotated and certificates replaced while a client goes on opening connections.

use std::path::Path;
use std::time::Duration;

use e2e::until;
use tokio::sync::oneshot;

use super::Plant;
use super::crates::Ends;
use super::peer::Svid;
use crate::zones::issuer;

/// How often in a row the crate may not be done with an update, and the pause between two looks.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Every connection is served while everything is replaced. How many there were.
pub(super) fn loses_no_request(plant: &mut Plant, ends: &Ends) -> Load {
    let (over, told) = oneshot::channel();
    let load = plant.runtime.spawn(load(ends.clone(), told));
    replace_all(plant);
    until("both programs show new ones", || {
        let has = |svid: Result<Svid, tonic::Status>| svid.map(|svid| svid.chain).ok();
        let (now, shown) = ([has(plant.plc()), has(plant.viewer())], ends.shown());
        if now == shown { Ok(()) } else { Err(format!("{:?}", shown.map(|one| one.is_some()))) }
    });
    drop(over);
    let load = plant.runtime.block_on(load).expect("the load ends").expect("no connection is lost");
    assert!(load.served > 20, "{load:?}");
    load
}

/// The authorities that sign what both ends show are followed by the next generation, and both devices have certificates of
/// that.
pub(super) fn replace_all(plant: &mut Plant) {
    plant.world.admin("authority rotate press --role listener");
    plant.world.admin("authority rotate vision --role caller");
    until("the next generations sign", || {
        let all = plant.world.admin("authority list")["authorities"].clone();
        let all = all.as_array().expect("a list").iter();
        let next = all.filter(|one| one["generation"] == 2 && one["state"] == "active").count();
        if next == 2 { Ok(()) } else { Err(format!("{next} of 2")) }
    });
    // Nobody waits for a third of a certificate's life: whoever lost its state asks for new ones at once.
    plant.press.reinstall();
    plant.camera.reinstall();
    until_second(&plant.press.delivered("press", "listener.pem"));
    until_second(&plant.camera.delivered("vision", "caller.pem"));
}

/// How many connections were served.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) served: u32,
    /// Connections that the crate refused to begin, in the moment between hearing of an update and taking it: it says so
    /// of itself, and whoever asks again is served.
    pub(super) again: u32,
}

/// Opens one connection after another until `over` is dropped.
async fn load(ends: Ends, mut over: oneshot::Receiver<()>) -> Result<Load, String> {
    let mut load = Load::default();
    let mut failing = 0;
    while over.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        match ends.meet().await {
            Ok(()) => (load.served, failing) = (load.served + 1, 0),
            Err(why) if failing < TRIES && ends.shown().iter().all(Option::is_some) => {
                println!("again: {why}");
                (load.again, failing) = (load.again + 1, failing + 1);
                tokio::time::sleep(PAUSE).await;
            }
            Err(why) => return Err(format!("after {load:?}: {why}")),
        }
    }
    Ok(load)
}

fn until_second(certificate: &Path) {
    until("a certificate of the next generation is delivered", || match issuer(certificate).as_str() {
        "2" => Ok(()),
        other => Err(format!("{}: {other}", certificate.display())),
    });
}
