//! The driver with its real keeping of certificates, in a world that issues, revokes, is slow, is away, and has its disk
//! full, in any order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures::FutureExt as _;
use proptest::prelude::*;
use proto::v1;
use proto::v1::complete_response::Outcome as Answer;
use rcgen::{CertificateParams, KeyPair, SanType, SerialNumber};

use super::super::attester::Means;
use super::super::exchange::at_complete;
use super::*;
use crate::authorize::{Question, answer_by};
use crate::config::Config;
use crate::gate::Host as _;
use crate::role::{Role, Seat};
use crate::software_key::SoftwareKey;
use crate::state::Keeper;
use crate::trust::Direction;
use crate::trust::tests::{Plant, set};

type Serial = Vec<u8>;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The broker decides about the exchange in flight.
    Judge,
    /// Its answer arrives.
    Arrive,
    /// The answer is lost.
    Drop,
    /// An answer arrives that is not what was asked for.
    Nonsense,
    TimerFires,
    Quarantine,
    Readmit,
    /// It is asked to prove itself.
    Demand,
    /// The stream says what it has to say.
    Tell,
    /// The disk fills, or is cleared.
    Disk,
    /// The attestor's sign of life, with which it saves what it could not save.
    Life,
    /// The power is cut.
    PowerCut,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Judge),
        6 => Just(Step::Arrive),
        1 => Just(Step::Drop),
        1 => Just(Step::Nonsense),
        6 => Just(Step::TimerFires),
        1 => Just(Step::Quarantine),
        2 => Just(Step::Readmit),
        2 => Just(Step::Demand),
        3 => Just(Step::Tell),
        1 => Just(Step::Disk),
        1 => Just(Step::Life),
        1 => Just(Step::PowerCut),
    ]
}

/// The broker's side and the device's.
struct World {
    folder: tempfile::TempDir,
    plant: Plant,
    driver: Driver,
    quarantined: bool,
    /// Serials that were issued and not revoked.
    good: BTreeSet<Serial>,
    issued: u32,
    /// The broker's answer to the exchange in flight, decided and on its way.
    answer: Option<Result<Answered, ExchangeError>>,
    /// The certificate under which the device watches.
    stream: Option<Vec<u8>>,
    /// The disk was full since the last sign of life that found room: what it did not take goes with the power.
    unsaved: bool,
}

impl World {
    fn new() -> Self {
        let (folder, plant) = (folder(), Plant::new());
        let driver = driver(folder.path(), &plant);
        let (good, answer, stream) = (BTreeSet::new(), None, None);
        Self { folder, plant, driver, quarantined: false, good, issued: 0, answer, stream, unsaved: false }
    }

    fn step(&mut self, step: Step) {
        let in_flight = self.driver.in_flight.is_some();
        match step {
            Step::Judge if in_flight && self.answer.is_none() => self.answer = Some(self.judge()),
            Step::Arrive if in_flight => {
                if let Some(answer) = self.answer.take() {
                    self.arrive(answer);
                }
            }
            Step::Drop if in_flight => self.arrive(Err(unreachable())),
            Step::Nonsense if in_flight => self.arrive(Ok(nonsense())),
            Step::TimerFires if self.driver.timer.is_some() => self.driver.input(Input::TimerFired),
            Step::Quarantine => {
                self.quarantined = true;
                self.good.clear();
            }
            Step::Readmit => self.quarantined = false,
            Step::Demand if self.stream.is_some() => {
                self.driver.hear(News::AttestNow("the test asks".to_owned()));
            }
            Step::Tell => self.tell(),
            Step::Disk => {
                self.toggle_disk();
                self.unsaved = true;
            }
            Step::Life => {
                let saved = self.driver.stay_alive();
                self.unsaved &= saved.is_err() || self.blocked().exists();
            }
            Step::PowerCut => {
                self.unsaved = self.blocked().exists();
                self.driver = driver(self.folder.path(), &self.plant);
                self.answer = None;
            }
            _ => {}
        }
        self.watch();
    }

    fn arrive(&mut self, answer: Result<Answered, ExchangeError>) {
        self.answer = None;
        self.driver.finish(answer);
    }

    /// The device opens its stream under its newest certificate.
    fn watch(&mut self) {
        let held = self.driver.credentials.borrow().clone();
        self.stream = held.and_then(|held| held.chain.into_iter().next());
    }

    /// What the broker says on the stream: that its certificate is revoked, if it is.
    fn tell(&mut self) {
        let Some(of) = self.stream.clone() else { return };
        if self.good.contains(&serial(&of)) {
            return;
        }
        let held = self.held();
        self.driver.hear(News::TrustLost { denial: Box::new(quarantine()), of });
        // An exchange in flight was given up.
        self.answer = None;
        assert!(self.held().is_empty(), "told that they are revoked, it holds {held:?}");
        assert!(self.driver.credentials.borrow().is_none(), "and shows them to nobody");
    }

    fn judge(&mut self) -> Result<Answered, ExchangeError> {
        if self.quarantined {
            return Err(at_complete(CallError::Denied(Box::new(quarantine()))));
        }
        let attester = Arc::clone(&self.driver.attester);
        let now = attester.now();
        let due = attester.keeper.read(|state: &State| state.due(now));
        let (mut svids, mut identity_keys) = (Vec::new(), std::collections::BTreeMap::new());
        for seat in due {
            let key = SoftwareKey::generate().unwrap();
            svids.push(self.issue(&seat, &key));
            identity_keys.insert(seat, key);
        }
        let issued = v1::Issued {
            device: "press-1".into(),
            svids,
            trust: Some(self.plant.sign(&set())),
            zones: vec!["press".into()],
            valid_serials: self.good.iter().cloned().collect(),
            ..v1::Issued::default()
        };
        Ok(Answered {
            outcome: Answer::Issued(issued),
            software_keys: Default::default(),
            identity_keys,
            boot: None,
            behind: false,
            seen: 0,
        })
    }

    fn issue(&mut self, seat: &Seat, key: &SoftwareKey) -> v1::Svid {
        self.issued += 1;
        let serial = self.issued.to_be_bytes().to_vec();
        let uri = format!("spiffe://{}.plant.example/device/press-1", seat.zone);
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        // None is due to be replaced in this test's time.
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2126, 1, 1);
        let pair = KeyPair::try_from(key.pkcs8()).unwrap();
        let der = params.self_signed(&pair).unwrap().der().to_vec();
        self.good.insert(self::serial(&der));
        v1::Svid {
            zone: seat.zone.to_string(),
            role: seat.role.to_wire().into(),
            chain: vec![der],
            ..v1::Svid::default()
        }
    }

    /// Serials of what the device holds.
    fn held(&self) -> BTreeSet<Serial> {
        let keeper = &self.driver.attester.keeper;
        keeper.read(|state: &State| state.holding().map(|(_, svid)| svid.serial().to_vec()).collect())
    }

    /// A folder where the new file is written first is as good as a disk that is full: nothing is saved.
    fn toggle_disk(&self) {
        let blocked = self.blocked();
        match blocked.exists() {
            true => std::fs::remove_dir(blocked).unwrap(),
            false => std::fs::create_dir_all(blocked).unwrap(),
        }
    }

    fn blocked(&self) -> PathBuf {
        self.folder.path().join("state/state.json.new")
    }

    /// Either an exchange is in flight or a timer runs, and it does not sleep for ever.
    fn assert_alive(&self) {
        let timer = self.driver.timer.map(|at| at.saturating_duration_since(Instant::now()));
        assert_ne!(timer.is_some(), self.driver.in_flight.is_some(), "{timer:?}");
        assert!(timer.is_none_or(|wait| wait < Duration::from_secs(25 * 3600)), "{timer:?}");
    }

    /// Lets everything come to rest: the disk has room, the broker answers and tells.
    fn settle(&mut self) {
        if self.blocked().exists() {
            self.toggle_disk();
        }
        for _ in 0..8 {
            for step in [Step::Tell, Step::TimerFires, Step::Judge, Step::Arrive] {
                self.step(step);
                self.assert_alive();
            }
        }
    }
}

fn folder() -> tempfile::TempDir {
    // Every step is synced to disk, and memory is a disk as good as another.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn driver(folder: &Path, plant: &Plant) -> Driver {
    let text = "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\ntpm = \"none\"\n\
        state = \"state\"\ndeliver = \"deliver\"\ndevice = \"press-1\"\n";
    let config = Config::parse(folder, text).unwrap();
    let keeper = Keeper::load(&config.state, &config.plant, &plant.root).unwrap();
    let attester = Attester::new(config, plant.root.clone(), keeper, Means::Key).unwrap();
    attester.look_at_boot().now_or_never().expect("there is no TPM to wait for");
    let mut driver = Driver::new(Arc::new(attester), ServiceManager::default());
    driver.start();
    driver
}

fn serial(leaf: &[u8]) -> Serial {
    use x509_cert::der::Decode;
    let leaf = x509_cert::Certificate::from_der(leaf).unwrap();
    leaf.tbs_certificate().serial_number().as_bytes().to_vec()
}

fn quarantine() -> Denial {
    Denial { reason: DenialReason::Quarantined.into(), ..Denial::default() }
}

fn unreachable() -> ExchangeError {
    let reason = "the test cut it".to_owned();
    at_complete(CallError::Unreachable { broker: "127.0.0.1:1".parse().unwrap(), reason })
}

fn nonsense() -> Answered {
    let seat = Seat { zone: "press".parse().unwrap(), role: Role::Caller };
    let chain = vec![vec![0x30; 40]];
    let svid = v1::Svid {
        zone: seat.zone.to_string(),
        role: seat.role.to_wire().into(),
        chain,
        ..v1::Svid::default()
    };
    let issued = v1::Issued {
        device: "press-1".into(),
        zones: vec!["press".into()],
        svids: vec![svid],
        ..v1::Issued::default()
    };
    let outcome = Answer::Issued(issued);
    Answered {
        outcome,
        software_keys: Default::default(),
        identity_keys: Default::default(),
        boot: None,
        behind: false,
        seen: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_good_is_lost_and_nothing_bad_is_kept(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        let mut seen: Vec<Step> = Vec::new();
        for step in steps {
            seen.push(step);
            let before = world.held();
            let forgets = matches!(step, Step::PowerCut) && world.unsaved;
            world.step(step);
            world.assert_alive();
            let after = world.held();
            let lost: Vec<_> = before.difference(&after).filter(|serial| world.good.contains(*serial)).collect();
            prop_assert!(forgets || lost.is_empty(), "lost {:?} by {:?}", lost, seen);
        }
        world.settle();
        let held = world.held();
        prop_assert!(held.is_subset(&world.good), "keeps {held:?} of {:?} after {seen:?}", world.good);
        prop_assert_eq!(held.len(), if world.quarantined { 0 } else { 2 }, "after {:?}", seen);
    }
}

#[test]
fn a_loss_that_was_told_late_costs_no_newer_certificate() {
    let mut world = World::new();
    world.settle();
    let (stream, first) = (world.stream.clone().unwrap(), world.held());
    // Revoked and readmitted before the device hears of it; its next proof brings others.
    world.step(Step::Quarantine);
    world.step(Step::Readmit);
    world.driver.attester.keeper.update(State::void_certificates).unwrap();
    world.settle();
    let second = world.held();
    assert!(first.is_disjoint(&second) && second.len() == 2);
    world.driver.hear(News::TrustLost { denial: Box::new(quarantine()), of: stream });
    assert_eq!(world.held(), second);
    assert!(world.driver.in_flight.is_some(), "it proves itself at once");
}

#[test]
fn what_was_lost_while_the_disk_was_full_is_lost_and_saved_later() {
    let mut world = World::new();
    world.settle();
    world.toggle_disk();
    world.step(Step::Quarantine);
    world.step(Step::Tell);
    assert!(world.held().is_empty());
    let problem = world.driver.reporter.problem.clone().unwrap();
    assert!(problem.contains("state.json cannot be written") && problem.contains("free space"), "{problem}");
    assert_eq!(restarted(&world).len(), 2, "the disk knows nothing of it");
    let again = driver(world.folder.path(), &world.plant);
    let attester = &again.attester;
    assert!(
        attester.boot.doubt().unwrap().contains("could not be saved: the stored certificates count once")
    );
    assert!(attester.outdated().unwrap().contains("make room") && attester.credentials().is_none());
    let now = attester.now();
    let answer = answer_by(&attester.keeper, &attester.config.plant, &question(), now);
    assert_eq!((answer.allowed, answer.reasons[0].code), (false, "state-outdated"));
    // What a start saves does not make it whole.
    attester.keeper.insist(|state| state.clock_floor = now).unwrap_err();
    world.toggle_disk();
    attester.keeper.catch_up().unwrap();
    let mut again = driver(world.folder.path(), &world.plant);
    assert!(again.attester.boot.doubt().is_some() && again.attester.outdated().is_some());
    std::mem::swap(&mut world.driver, &mut again);
    world.step(Step::Readmit);
    world.settle();
    assert_eq!((world.driver.attester.boot.doubt(), world.driver.attester.outdated()), (None, None));
    assert_eq!(restarted(&world), world.held());
    assert!(driver(world.folder.path(), &world.plant).attester.outdated().is_none());
}

#[test]
fn what_is_issued_while_the_disk_is_full_is_used_and_saved_later() {
    let mut world = World::new();
    world.settle();
    let (first, stream) = (world.held(), world.stream.clone());
    world.toggle_disk();
    // Due once more, as after a third of a life.
    world.driver.attester.keeper.note(State::void_certificates);
    for step in [Step::TimerFires, Step::Judge, Step::Arrive] {
        world.step(step);
    }
    let (second, words) = (world.held(), world.driver.reporter.problem.clone().unwrap());
    assert!(words.contains("state.json cannot be written") && words.contains("free space"), "{words}");
    assert!(second.is_disjoint(&first) && second.len() == 2, "{second:?}");
    assert_eq!(world.driver.machine.standing(), crate::renewal::machine::Standing::Trusted);
    assert_ne!(world.stream, stream, "it watches under what it got");
    world.toggle_disk();
    world.driver.stay_alive().unwrap();
    assert_eq!(restarted(&world), second);
}

/// A question about a peer.
fn question() -> Question {
    Question {
        certificate: None,
        service: "opcua".parse().unwrap(),
        direction: Direction::Inbound,
        zone: None,
        grant: None,
        grant_required: false,
    }
}

/// Serials of the certificates that a restart would find.
fn restarted(world: &World) -> BTreeSet<Serial> {
    let config = &world.driver.attester.config;
    let keeper = Keeper::load(&config.state, &config.plant, &world.plant.root).unwrap();
    keeper.read(|state: &State| state.holding().map(|(_, svid)| svid.serial().to_vec()).collect())
}

#[test]
fn a_certificate_that_ended_is_shown_to_nobody() {
    let mut world = World::new();
    world.settle();
    let end = world.driver.attester.keeper.read(State::first_end).unwrap();
    assert!(world.driver.attester.credentials().is_some());
    world.driver.attester.clock.raise(end.plus(1));
    assert!(world.driver.attester.credentials().is_none());
    assert_eq!(world.held().len(), 2, "the clock may be wrong, and set again");
}

#[test]
fn a_time_that_ran_ahead_with_the_broker_is_left_once_both_clocks_say_so_and_over_a_restart() {
    let mut world = World::new();
    world.settle();
    let attester = &world.driver.attester;
    let own = attester.clock.own();
    let ahead = own.plus(13 * 3600);
    attester.clock.raise(ahead);
    attester.keeper.update(|state: &mut State| state.clock_floor = ahead).unwrap();
    attester.hear_time(ahead);
    assert!(attester.now() >= ahead, "the broker still says so");
    attester.hear_time(own);
    assert!(attester.now() < own.plus(3600), "{}", attester.now());
    attester.keeper.catch_up().unwrap();
    assert!(driver(world.folder.path(), &world.plant).attester.now() < own.plus(3600));
}

#[test]
fn a_trust_set_that_a_newer_one_overtook_is_no_sign_of_an_old_broker() {
    let mut world = World::new();
    world.settle();
    let newer = || world.plant.sign(&v1::TrustSet { sequence: 9, ..set() });
    world.driver.attester.adopt_trust(newer(), 7).unwrap();
    let held = |world: &World| world.driver.attester.keeper.read(|state: &State| state.trust_sequence);
    // Asked for while 7 was the newest; 9 came over Watch meanwhile, or in an answer.
    let mut late = world.judge().unwrap();
    late.seen = 7;
    assert!(world.driver.attester.adopt(late).unwrap().complaint.is_none());
    world.driver.attester.adopt_trust(world.plant.sign(&set()), 7).unwrap();
    assert_eq!(held(&world), 9, "the newer one stays");
    // Asked for while 9 was known.
    let mut old = world.judge().unwrap();
    old.seen = 9;
    let complaint = world.driver.attester.adopt(old).unwrap().complaint.unwrap().to_string();
    assert!(complaint.contains("sequence 7, and 9 was seen before"), "{complaint}");
    let why = world.driver.attester.adopt_trust(world.plant.sign(&set()), 8).unwrap_err().to_string();
    assert!(why.contains("an old broker or backup runs"), "{why}");
}
