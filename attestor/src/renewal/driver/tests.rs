//! The driver with its real keeping of certificates, in a world that issues, revokes, is slow, is away, and has its disk
//! full, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;
use policy::id::ZoneName;
use policy::time::UnixTime;
use proptest::prelude::*;
use proto::v1;
use proto::v1::complete_response::Outcome as Answer;
use proto::v1::{Denial, DenialReason};
use rcgen::{CertificateParams, KeyPair, SanType, SerialNumber};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::super::attester::{Line, Means};
use super::super::exchange::{at_begin, at_complete};
use super::super::machine::Standing;
use super::super::watch::News;
use super::*;
use crate::authorize::{Question, answer_by};
use crate::client::CallError;
use crate::config::Config;
use crate::gate::Host as _;
use crate::role::{Role, Seat};
use crate::software_key::SoftwareKey;
use crate::state::{Keeper, State};
use crate::status::Status;
use crate::svid::{Asked, HeldSvid};
use crate::tpm::{TpmError, TpmFault};
use crate::trust::Direction;
use crate::trust::tests::{Plant, set};

type Serial = Vec<u8>;

/// The zones of the device.
const ZONES: [&str; 2] = ["press", "vision"];
/// How long a certificate lives in each, in seconds.
const LIVES: [u64; 2] = [12 * 3600, 20 * 3600];
/// What the clock of a world shows at first.
const BEGIN: UnixTime = UnixTime(1_800_000_000);

/// The clock of the device, which is set by the test.
#[derive(Debug, Clone)]
struct Wall(Arc<AtomicU64>);

impl Wall {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(BEGIN.0)))
    }

    fn set(&self, to: UnixTime) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}

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
    /// The broker is busy.
    Busy,
    /// The broker knows the device no more, as after a restore of an older backup.
    Forgotten,
    /// People are to decide about the device.
    Pending,
    /// The TPM was cleared.
    KeysLost,
    Quarantine,
    Readmit,
    /// The certificates of one zone are revoked, and the device stays in both.
    RevokeZone(usize),
    /// Certificates end.
    Night,
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
        1 => Just(Step::Busy),
        1 => Just(Step::Forgotten),
        1 => Just(Step::Pending),
        1 => Just(Step::KeysLost),
        1 => Just(Step::Quarantine),
        2 => (0..ZONES.len()).prop_map(Step::RevokeZone),
        1 => Just(Step::Night),
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
    clock: Wall,
    quarantined: bool,
    /// What was issued and not revoked, with its zone and end.
    good: BTreeMap<Serial, (ZoneName, UnixTime)>,
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
        let clock = Wall::new();
        let driver = driver(folder.path(), &plant, &clock);
        let (good, answer, stream) = (BTreeMap::new(), None, None);
        let (quarantined, issued, unsaved) = (false, 0, false);
        Self { folder, plant, driver, clock, quarantined, good, issued, answer, stream, unsaved }
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
            Step::Busy if in_flight => self.arrive(Err(refused(DenialReason::TryLater))),
            Step::Forgotten if in_flight => self.arrive(Err(unknown())),
            Step::Pending if in_flight => self.arrive(Ok(answered(Answer::Pending(v1::Pending::default())))),
            Step::KeysLost if in_flight => self.arrive(Err(cleared())),
            Step::TimerFires if self.driver.timer.is_some() => self.driver.input(Input::TimerFired),
            Step::Quarantine => {
                self.quarantined = true;
                self.good.clear();
            }
            Step::Readmit => self.quarantined = false,
            Step::RevokeZone(zone) => self.good.retain(|_, (of, _)| of.as_str() != ZONES[zone]),
            Step::Night => self.clock.set(self.clock.now().plus(LIVES[0] / 2)),
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
                self.driver = driver(self.folder.path(), &self.plant, &self.clock);
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
        let of_stream = serial(&of);
        if self.good.contains_key(&of_stream) {
            return;
        }
        let held = self.held();
        let reason = if self.quarantined { DenialReason::Quarantined } else { DenialReason::MustReattest };
        self.driver.hear(News::TrustLost { denial: Box::new(denial(reason)), of });
        // An exchange in flight was given up.
        self.answer = None;
        assert!(!self.held().contains(&of_stream), "told that it is revoked, it holds {held:?}");
        let shown = self.driver.credentials.borrow().clone();
        assert!(shown.is_none_or(|shown| serial(&shown.chain[0]) != of_stream), "and shows it to nobody");
        assert!(!self.quarantined || self.held().is_empty(), "stopped, it holds {held:?}");
    }

    /// Serials of what was issued, not revoked, and has not ended.
    fn valid(&self) -> BTreeSet<Serial> {
        let now = self.clock.now();
        self.good.iter().filter(|(_, (_, end))| now <= *end).map(|(serial, _)| serial.clone()).collect()
    }

    fn judge(&mut self) -> Result<Answered, ExchangeError> {
        if self.quarantined {
            return Err(refused(DenialReason::Quarantined));
        }
        let attester = Arc::clone(&self.driver.attester);
        let (now, zones) = (attester.now(), ZONES.map(|zone| zone.parse().unwrap()));
        let in_both = |state: &State| State { zones: zones.to_vec(), ..state.clone() };
        let due = attester.keeper.read(|state: &State| in_both(state).due(now));
        let (mut svids, mut identity_keys) = (Vec::new(), std::collections::BTreeMap::new());
        for seat in due {
            let key = SoftwareKey::generate().unwrap();
            let life = LIVES[ZONES.iter().position(|zone| *zone == seat.zone.as_str()).unwrap()];
            svids.push(self.issue(&seat, &key, life));
            identity_keys.insert(seat, key);
        }
        let issued = v1::Issued {
            device: "press-1".into(),
            svids,
            trust: Some(self.plant.sign(&set())),
            zones: ZONES.map(str::to_owned).to_vec(),
            valid_serials: self.valid().into_iter().collect(),
            ..v1::Issued::default()
        };
        Ok(Answered { identity_keys, ..answered(Answer::Issued(issued)) })
    }

    fn issue(&mut self, seat: &Seat, key: &SoftwareKey, life: u64) -> v1::Svid {
        self.issued += 1;
        let serial = self.issued.to_be_bytes().to_vec();
        let uri = format!("spiffe://{}.plant.example/device/press-1", seat.zone);
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let (now, epoch) = (self.clock.now(), rcgen::date_time_ymd(1970, 1, 1));
        params.not_before = epoch + Duration::from_secs(now.0);
        params.not_after = epoch + Duration::from_secs(now.plus(life).0);
        let pair = KeyPair::try_from(key.pkcs8()).unwrap();
        let der = params.self_signed(&pair).unwrap().der().to_vec();
        self.good.insert(self::serial(&der), (seat.zone.clone(), now.plus(life)));
        v1::Svid {
            zone: seat.zone.to_string(),
            role: seat.role.to_wire().into(),
            chain: vec![der],
            ..v1::Svid::default()
        }
    }

    /// Serials of what the device holds and has not ended.
    fn held(&self) -> BTreeSet<Serial> {
        let (keeper, now) = (&self.driver.attester.keeper, self.clock.now());
        keeper.read(|state: &State| {
            let valid = state.holding().filter(|(_, svid)| now <= svid.not_after());
            valid.map(|(_, svid)| svid.serial().to_vec()).collect()
        })
    }

    /// What it holds in each place.
    fn seats(&self) -> BTreeMap<Seat, Serial> {
        let (held, keeper) = (self.held(), &self.driver.attester.keeper);
        keeper.read(|state: &State| {
            let holding = state.holding().map(|(seat, svid)| (seat.clone(), svid.serial().to_vec()));
            holding.filter(|(_, serial)| held.contains(serial)).collect()
        })
    }

    fn standing(&self) -> Standing {
        self.driver.machine.standing()
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

fn driver(folder: &Path, plant: &Plant, clock: &Wall) -> Driver {
    let text = "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\ntpm = \"none\"\n\
        state = \"state\"\ndeliver = \"deliver\"\ndevice = \"press-1\"\n";
    let config = Config::parse(folder, text).unwrap();
    let keeper = Keeper::load(&config.state, &config.plant, &plant.root).unwrap();
    let line = Line::by(Arc::new(clock.clone()), &config, &plant.root, &keeper).unwrap();
    let attester = Attester::on(line, config, plant.root.clone(), keeper, Means::Key);
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

fn denial(reason: DenialReason) -> Denial {
    Denial { reason: reason.into(), ..Denial::default() }
}

fn refused(reason: DenialReason) -> ExchangeError {
    at_complete(CallError::Denied(Box::new(denial(reason))))
}

/// What a broker says before it looks at evidence.
fn unknown() -> ExchangeError {
    at_begin(CallError::Denied(Box::new(denial(DenialReason::NotFound))))
}

fn cleared() -> ExchangeError {
    TpmError { operation: Operation::DeriveAttestationKey, fault: TpmFault::KeyOfAnotherTpm }.into()
}

fn answered(outcome: Answer) -> Answered {
    Answered {
        outcome,
        software_keys: Default::default(),
        identity_keys: Default::default(),
        boot: None,
        behind: false,
        seen: 0,
    }
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
    answered(Answer::Issued(issued))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_good_is_lost_and_nothing_bad_is_kept(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        let mut seen: Vec<Step> = Vec::new();
        for step in steps {
            seen.push(step);
            let before = world.seats();
            let forgets = matches!(step, Step::PowerCut) && world.unsaved || matches!(step, Step::KeysLost);
            world.step(step);
            world.assert_alive();
            let (valid, after) = (world.valid(), world.seats());
            let lost = before.iter().filter(|(seat, serial)| valid.contains(*serial) && !after.contains_key(*seat));
            let lost: Vec<_> = lost.collect();
            prop_assert!(forgets || lost.is_empty(), "lost {:?} by {:?}", lost, seen);
        }
        world.settle();
        let held = world.held();
        prop_assert!(held.is_subset(&world.valid()), "keeps {held:?} of {:?} after {seen:?}", world.good);
        prop_assert_eq!(held.len(), if world.quarantined { 0 } else { 4 }, "after {:?}", seen);
        let expected = if world.quarantined { Standing::Quarantined } else { Standing::Trusted };
        prop_assert_eq!(world.standing(), expected, "after {:?}", seen);
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
    assert!(first.is_disjoint(&second) && second.len() == 4);
    world.driver.hear(News::TrustLost { denial: Box::new(denial(DenialReason::Quarantined)), of: stream });
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
    assert_eq!(restarted(&world).len(), 4, "the disk knows nothing of it");
    let again = driver(world.folder.path(), &world.plant, &world.clock);
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
    let mut again = driver(world.folder.path(), &world.plant, &world.clock);
    assert!(again.attester.boot.doubt().is_some() && again.attester.outdated().is_some());
    std::mem::swap(&mut world.driver, &mut again);
    world.step(Step::Readmit);
    world.settle();
    assert_eq!((world.driver.attester.boot.doubt(), world.driver.attester.outdated()), (None, None));
    assert_eq!(restarted(&world), world.held());
    assert!(driver(world.folder.path(), &world.plant, &world.clock).attester.outdated().is_none());
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
    assert!(second.is_disjoint(&first) && second.len() == 4, "{second:?}");
    assert_eq!(world.standing(), Standing::Trusted);
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
    let end = world.driver.attester.keeper.read(State::last_end).unwrap();
    assert!(world.driver.attester.credentials().is_some());
    world.driver.attester.clock.raise(end.plus(1));
    assert!(world.driver.attester.credentials().is_none());
    assert_eq!(world.held().len(), 4, "the clock may be wrong, and set again");
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
    assert!(driver(world.folder.path(), &world.plant, &world.clock).attester.now() < own.plus(3600));
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

/// Serials of a zone that hold.
fn of_zone(world: &World, zone: usize) -> BTreeSet<Serial> {
    let of_zone = world.good.iter().filter(|(_, (of, _))| of.as_str() == ZONES[zone]);
    of_zone.map(|(serial, _)| serial.clone()).collect()
}

#[test]
fn a_loss_in_one_zone_costs_nothing_in_the_other_and_a_proof_tells() {
    let mut world = World::new();
    world.settle();
    let (press, vision) = (of_zone(&world, 0), of_zone(&world, 1));
    assert!(vision.contains(&serial(world.stream.as_ref().unwrap())), "it watches under what ends last");
    assert!(world.driver.in_flight.is_none());
    world.step(Step::RevokeZone(1));
    world.step(Step::Tell);
    assert_eq!((world.held(), world.standing()), (press.clone(), Standing::Trusted));
    assert!(press.contains(&serial(world.stream.as_ref().unwrap())), "it watches under what it has");
    assert!(world.driver.in_flight.is_some(), "it proves itself at once");
    assert!(world.driver.attester.keeper.read(|state: &State| state.distrusted().is_none()));
    let problem = world.driver.reporter.problem.clone().unwrap();
    assert!(problem.contains("of zone vision were revoked"), "{problem}");
    world.step(Step::Judge);
    world.step(Step::Arrive);
    assert_eq!((world.held().len(), world.standing()), (4, Standing::Trusted));
    assert!(press.is_subset(&world.held()), "what held is not even replaced");
    assert_eq!(world.driver.reporter.problem, None);
}

#[test]
fn an_exchange_that_began_before_a_loss_is_given_up_for_another() {
    let mut world = World::new();
    world.settle();
    world.step(Step::TimerFires);
    let (sender, mut answer) = oneshot::channel::<()>();
    world.driver.in_flight = Some(Box::pin(async move {
        let _waits = sender;
        pending().await
    }));
    world.step(Step::RevokeZone(1));
    assert!(answer.try_recv().is_err_and(|error| error == TryRecvError::Empty), "it is in flight");
    world.step(Step::Tell);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Closed), "its answer is of before, and is not taken");
    assert!(world.driver.in_flight.is_some(), "another begins");
}

#[test]
fn a_loss_in_the_last_zone_or_for_another_reason_is_of_the_device() {
    for (alone, reason) in [(true, DenialReason::MustReattest), (false, DenialReason::NotAdmitted)] {
        let mut world = World::new();
        world.settle();
        if alone {
            world
                .driver
                .attester
                .keeper
                .note(|state: &mut State| state.void_zone(&ZONES[0].parse().unwrap()));
        }
        let of = world.stream.clone().unwrap();
        world.driver.hear(News::TrustLost { denial: Box::new(denial(reason)), of });
        assert_eq!((world.held().len(), world.standing()), (0, Standing::Refused), "{reason:?}");
        let kept = world.driver.attester.keeper.read(|state: &State| state.refusal.clone().unwrap());
        assert_eq!(kept.reason(), reason);
    }
}

fn report(world: &mut World) -> Status {
    let standing = world.standing();
    world.driver.reporter.write(&world.driver.attester, standing, false)
}

#[test]
fn a_device_is_trusted_until_its_last_certificate_ended() {
    let mut world = World::new();
    world.settle();
    world.clock.set(BEGIN.plus(LIVES[0] + 60));
    world.step(Step::TimerFires);
    world.step(Step::Drop);
    let status = report(&mut world);
    assert_eq!(status.state, Word::Holding, "{status:?}");
    let sentence = status.sentence(world.clock.now());
    assert!(
        sentence.starts_with("trusted (broker away, 7 h left): certificates ended: of zone press at"),
        "{sentence}"
    );
    world.step(Step::PowerCut);
    world.step(Step::Drop);
    assert_eq!(report(&mut world).state, Word::Holding, "after a restart as well");
    world.clock.set(BEGIN.plus(LIVES[1] + 60));
    assert_eq!(report(&mut world).state, Word::Refused);
}

#[test]
fn a_clock_that_was_ahead_at_the_start_is_set_and_the_device_holds() {
    let mut world = World::new();
    world.settle();
    world.clock.set(BEGIN.plus(2 * 86_400));
    world.step(Step::PowerCut);
    world.step(Step::Drop);
    assert_eq!((world.standing(), &world.stream), (Standing::Starting, &None));
    world.clock.set(BEGIN.plus(60));
    world.step(Step::Life);
    assert_eq!((report(&mut world).state, world.held().len()), (Word::Holding, 4));
    assert!(world.stream.is_some(), "it watches again");
}

#[test]
fn a_clock_that_is_set_ahead_is_named_and_costs_nothing() {
    let mut world = World::new();
    world.settle();
    let attester = Arc::clone(&world.driver.attester);
    attester.take_time(BEGIN).unwrap();
    world.clock.set(BEGIN.plus(LIVES[0] - 60));
    attester.take_time(BEGIN).expect("what is issued holds a little while here");
    let ahead = BEGIN.plus(2 * 86_400);
    world.clock.set(ahead);
    let problem = report(&mut world).problem.unwrap();
    let both = |words: &str| words.contains(&ahead.to_string()) && words.contains(&BEGIN.to_string()[..16]);
    assert!(both(&problem) && problem.contains("set the clock here"), "{problem}");
    let error = attester.take_time(BEGIN).unwrap_err();
    assert!(matches!(error, ExchangeError::ClockAhead { .. }) && both(&error.to_string()), "{error}");
    // An answer without certificates, as of a broker that has issued enough of them.
    let issued = v1::Issued {
        device: "press-1".into(),
        trust: Some(world.plant.sign(&set())),
        zones: ZONES.map(str::to_owned).to_vec(),
        valid_serials: world.good.keys().cloned().collect(),
        ..v1::Issued::default()
    };
    world.step(Step::TimerFires);
    world.arrive(Ok(answered(Answer::Issued(issued))));
    let problem = world.driver.reporter.problem.clone().unwrap();
    assert!(problem.contains("compare the clocks"), "{problem}");
    world.clock.set(BEGIN.plus(60));
    assert_eq!((world.held().len(), report(&mut world).state), (4, Word::Holding));
}

#[test]
fn the_first_broker_of_a_device_whose_clock_is_days_ahead_is_asked_for_nothing() {
    let world = World::new();
    world.clock.set(BEGIN.plus(2 * 86_400));
    let error = world.driver.attester.take_time(BEGIN).unwrap_err().to_string();
    assert!(error.contains("set the clock that is wrong"), "{error}");
    world.clock.set(BEGIN.plus(8 * 3600));
    world.driver.attester.take_time(BEGIN).expect("local time, east of Greenwich");
}

#[test]
fn a_last_certificate_that_was_cut_short_shuts_no_device_out_whose_clock_is_a_little_ahead() {
    let mut world = World::new();
    let (seat, key) = (Seat { zone: "press".parse().unwrap(), role: Role::Caller }, SoftwareKey::generate());
    let key = key.unwrap();
    let chain = world.issue(&seat, &key, 75).chain;
    let (plant, device) = (&world.plant.domain, &"press-1".parse().unwrap());
    let asked = Asked { seat: &seat, point: key.point(), plant, device, workload: None };
    let held = HeldSvid::accept(chain, &asked, BEGIN).unwrap();
    let attester = Arc::clone(&world.driver.attester);
    attester.keeper.note(|state| {
        state.svids.insert(seat.clone(), held.clone());
        state.void_certificates();
    });
    world.clock.set(BEGIN.plus(120));
    attester.take_time(BEGIN).expect("its authority ended, and the next certificate lives as long as any");
    world.clock.set(BEGIN.plus(3_600));
    let error = attester.take_time(BEGIN).unwrap_err();
    assert!(matches!(error, ExchangeError::ClockAhead { .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_the_device_watches() {
    let mut world = World::new();
    let deliver = world.folder.path().join("deliver");
    std::fs::remove_dir_all(&deliver).ok();
    std::fs::write(&deliver, "in the way").unwrap();
    for step in [Step::Judge, Step::Arrive] {
        world.step(step);
    }
    assert_eq!((world.held().len(), world.standing()), (4, Standing::Trusted));
    assert!(world.stream.is_some() && world.driver.timer.is_some());
    let problem = world.driver.reporter.problem.clone().unwrap();
    assert!(problem.contains("deliver"), "{problem}");
    assert!(world.driver.next_edge().is_some(), "it is tried again");
    std::fs::remove_file(&deliver).unwrap();
    world.driver.open_and_close();
    assert!(world.driver.attester.sink.shows_something());
}
