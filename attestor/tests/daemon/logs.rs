//! Logs that the broker has are left out, until it says that it has lost them.

use std::fs;

use attestor::evidence::Prover;
use attestor::status::Word;
use policy::digest::Digest;
use proto::v1;

use crate::broker::Broker;
use crate::server::serve;
use crate::world::{Daemon, Device, until};

/// Bytes of an IMA list whose beginning is left out.
const LONG: usize = 64 << 10;

/// What stands for the beginning of a list.
fn beginning(list: &[u8]) -> Option<v1::LogBeginning> {
    let length = list.len().try_into().unwrap();
    Some(v1::LogBeginning { length, digest: Digest::of(list).0.to_vec() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_the_logs_gets_them_whole_and_what_follows_is_short_again() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    broker.script.lock().unwrap().keeps_logs = true;
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let (log, first) = (b"firmware".to_vec(), vec![1; LONG]);
    fs::write(device.path("log"), &log).unwrap();
    fs::write(device.path("ima"), &first).unwrap();
    let prover = Prover::new(device.tpm(), device.path("log")).await.unwrap();
    let prover = prover.with_ima_log(Some(&device.path("ima")));
    let daemon = Daemon::run(device.assemble_with(&broker, address, prover));
    device.status("watching", |status| status.state == Word::Trusted && status.broker.watching).await;
    let sent = || broker.script.lock().unwrap().requests.clone();
    let logs = |request: &v1::CompleteRequest| {
        (request.firmware_log.clone(), request.ima_before.clone(), request.ima_log.clone())
    };
    let enrolled: Vec<_> = sent().iter().map(logs).collect();
    assert_eq!(enrolled, [(log.clone(), None, first.clone()), (vec![], beginning(&first), vec![])]);

    // A program starts, and the broker is another one.
    let second = [first.as_slice(), b"started"].concat();
    fs::write(device.path("ima"), &second).unwrap();
    broker.script.lock().unwrap().wants_logs = true;
    broker.demand();
    until("sent whole", || sent().len() == 4).await;
    let [.., short, whole] = &sent()[..] else { panic!("four were sent") };
    assert_eq!(logs(short), (vec![], beginning(&first), b"started".to_vec()));
    assert_eq!(logs(whole), (log, None, second.clone()));
    assert_eq!((&whole.sealed, &whole.quote), (&short.sealed, &short.quote), "one proof");

    until("watching anew", || broker.script.lock().unwrap().watchers == 2).await;
    broker.demand();
    until("sent again", || sent().len() == 5).await;
    assert_eq!(logs(&sent()[4]), (vec![], beginning(&second), vec![]));
    device.status("well", |status| status.state == Word::Trusted && status.problem.is_none()).await;
    daemon.stop().await;
}
