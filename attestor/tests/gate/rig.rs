//! A plant in memory: two zones, a device in each, and a gate before the software of either.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use attestor::config::{GateConfig, Limits};
use attestor::gate::{Gate, Host};
use attestor::identity_key::IdentityKey;
use attestor::plant::PlantRoot;
use attestor::role::{Role, Seat};
use attestor::software_key::SoftwareKey;
use attestor::state::State;
use attestor::svid::{Asked, HeldSvid};
use attestor::tpm::TpmHandle;
use attestor::trust::{Expected, Seen, TrustSet};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use policy::id::{DeviceName, PlantDomain};
use policy::time::UnixTime;
use prost::Message;
use proto::v1;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// In 2026.
pub(crate) const NOW: UnixTime = UnixTime(1_790_000_000);
/// When certificates end unless told otherwise: in 2027.
const END: i64 = 1_821_536_000;

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
}

/// An authority of a zone, or of nobody.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

impl Authority {
    fn new(name: &str, key: KeyPair) -> Self {
        let params = authority_params(name);
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn crl(&self, revoked: &[u8]) -> Vec<u8> {
        let entry = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial; 16]),
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let crl = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        crl.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) der: Vec<u8>,
    pub(crate) key: SoftwareKey,
}

/// The zones `cell` and `press` of a plant.
pub(crate) struct Plant {
    pub(crate) domain: PlantDomain,
    root: PlantRoot,
    issuing: (Vec<u8>, KeyPair),
    nobody: Authority,
    authorities: BTreeMap<(&'static str, &'static str), Authority>,
}

impl Plant {
    pub(crate) fn new() -> Self {
        Self::with_keys(|_| KeyPair::generate().unwrap())
    }

    /// The same plant in every process: its keys are in `folder`.
    pub(crate) fn kept(folder: &Path) -> Self {
        Self::with_keys(|name| {
            let file = folder.join(name);
            if let Ok(pem) = std::fs::read_to_string(&file) {
                return KeyPair::from_pem(&pem).unwrap();
            }
            let key = KeyPair::generate().unwrap();
            std::fs::write(file, key.serialize_pem()).unwrap();
            key
        })
    }

    fn with_keys(key: impl Fn(&str) -> KeyPair) -> Self {
        let (root_key, issuing_key) = (key("root"), key("issuing"));
        let root_params = authority_params("plant root");
        let root = PlantRoot::pin(root_params.self_signed(&root_key).unwrap().der()).unwrap();
        let issuing = authority_params("plant.example issuing 2");
        let issuer = Issuer::from_params(&root_params, &root_key);
        let issuing = issuing.signed_by(&issuing_key, &issuer).unwrap().der().to_vec();
        let pairs = ["cell", "press"].into_iter().flat_map(|zone| {
            ["caller", "listener"].map(|role| {
                let name = format!("{zone}.plant.example {role} 1");
                ((zone, role), Authority::new(&name, key(&name)))
            })
        });
        let authorities = pairs.collect();
        Self {
            domain: "plant.example".parse().unwrap(),
            root,
            issuing: (issuing, issuing_key),
            nobody: Authority::new("nobody", key("nobody")),
            authorities,
        }
    }

    /// A certificate of `device` in `zone` by one of the zone's authorities, that ends at `end`.
    pub(crate) fn leaf(
        &self,
        device: &str,
        zone: &'static str,
        role: &'static str,
        serial: u8,
        end: i64,
    ) -> Leaf {
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://{zone}.plant.example/device/{device}");
        let name = format!("{device}.{zone}.plant.example");
        params.subject_alt_names = vec![
            SanType::URI(uri.as_str().try_into().unwrap()),
            SanType::DnsName(name.as_str().try_into().unwrap()),
        ];
        params.extended_key_usages = vec![match role {
            "caller" => ExtendedKeyUsagePurpose::ClientAuth,
            _ => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(SerialNumber::from_slice(&[serial; 16]));
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = time::OffsetDateTime::from_unix_timestamp(end).unwrap();
        let key = SoftwareKey::generate().unwrap();
        let pair = KeyPair::try_from(key.pkcs8()).unwrap();
        let issuer = &self.authorities[&(zone, role)].issuer;
        Leaf { der: params.signed_by(&pair, issuer).unwrap().der().to_vec(), key }
    }

    /// The certificate of an authority, DER.
    pub(crate) fn certificate(&self, zone: &'static str, role: &'static str) -> Vec<u8> {
        self.authorities[&(zone, role)].certificate.clone()
    }

    /// The usual certificate of a device.
    pub(crate) fn usual(&self, device: &str, zone: &'static str, role: &'static str) -> Leaf {
        self.leaf(device, zone, role, 0x41, END)
    }

    fn sign(&self, set: &v1::TrustSet) -> v1::SignedTrustSet {
        let trust_set = set.encode_to_vec();
        let message = [b"touchstone/v1/trust-set\0".as_slice(), &trust_set].concat();
        let (certificate, key) = &self.issuing;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).unwrap();
        v1::SignedTrustSet {
            trust_set,
            signature: key.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec(),
            issuing_certificate: certificate.clone(),
            nobody_certificate: self.nobody.certificate.clone(),
            nobody_crl: self.nobody.crl(&[]),
        }
    }
}

/// What a device is told.
#[derive(Clone)]
pub(crate) struct Told {
    /// Whether a conduit leads from cell to press for opcua, and when.
    pub(crate) conduit: Option<&'static str>,
    /// Serials that every authority revoked.
    pub(crate) revoked: Vec<u8>,
    /// Seconds that its zone gives sessions to end.
    pub(crate) drain: u32,
    /// Whether its zone lets others in only while the broker is heard.
    pub(crate) closed: bool,
}

impl Default for Told {
    fn default() -> Self {
        Self { conduit: Some(""), revoked: Vec::new(), drain: 0, closed: false }
    }
}

/// A device in memory.
pub(crate) struct Device {
    plant: Arc<Plant>,
    name: DeviceName,
    zone: &'static str,
    role: Role,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    now: AtomicU64,
    heard: AtomicBool,
    doubt: Mutex<Option<String>>,
}

impl Device {
    /// press-1, which offers opcua and ssh; or camera-1 of cell, which may open opcua of press.
    pub(crate) fn new(plant: &Arc<Plant>, role: Role, leaf: Leaf) -> Arc<Self> {
        let (name, zone) = match role {
            Role::Listener => ("press-1", "press"),
            Role::Caller => ("camera-1", "cell"),
        };
        let name: DeviceName = name.parse().unwrap();
        let seat = Seat { zone: zone.parse().unwrap(), role };
        let asked = Asked {
            seat: &seat,
            point: leaf.key.point(),
            plant: &plant.domain,
            device: &name,
            workload: None,
        };
        let svid = HeldSvid::accept(vec![leaf.der], &asked, NOW).unwrap();
        let mut state =
            State { device: Some(name.clone()), zones: vec![zone.parse().unwrap()], ..State::default() };
        state.keys.insert(seat.clone(), IdentityKey::Software(leaf.key));
        state.svids.insert(seat, svid);
        let device = Arc::new(Self {
            plant: Arc::clone(plant),
            name,
            zone,
            role,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            now: AtomicU64::new(NOW.0),
            heard: AtomicBool::new(true),
            doubt: Mutex::default(),
        });
        device.tell(&Told::default());
        device
    }

    /// Brings it another trust set, as Watch does.
    pub(crate) fn tell(&self, told: &Told) {
        let (direction, peer, role) = match self.role {
            Role::Listener => (v1::Direction::Inbound, "cell", "caller"),
            Role::Caller => (v1::Direction::Outbound, "press", "listener"),
        };
        let way = |schedule: &str| v1::Way { zone: peer.into(), schedule: schedule.into(), expires_at: 0 };
        let file = |service: &str, ways: Vec<v1::Way>| v1::TrustFile {
            zone: self.zone.into(),
            service: service.into(),
            direction: direction.into(),
            ways,
            ..v1::TrustFile::default()
        };
        let believed = &self.plant.authorities[&(peer, role)];
        let set = v1::TrustSet {
            sequence: 7,
            issued_at: NOW.0,
            authorities: vec![v1::Authority {
                zone: peer.into(),
                role: match role {
                    "caller" => v1::Role::Caller.into(),
                    _ => v1::Role::Listener.into(),
                },
                generation: 1,
                certificate: believed.certificate.clone(),
                crl: believed.crl(&told.revoked),
            }],
            files: vec![file("opcua", told.conduit.into_iter().map(way).collect()), file("ssh", Vec::new())],
            device: self.name.to_string(),
            timings: vec![v1::ZoneTiming {
                zone: self.zone.into(),
                gate_drain_seconds: told.drain,
                gate_fail_closed: told.closed,
                ..v1::ZoneTiming::default()
            }],
            ..v1::TrustSet::default()
        };
        let (root, plant) = (&self.plant.root, &self.plant.domain);
        let expected = Expected { root, plant, device: &self.name, seen: Seen::default() };
        let trust = TrustSet::verify(self.plant.sign(&set), &expected, NOW).unwrap();
        self.change(|state| state.take_trust(trust));
    }

    /// Something happens to the device.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.send_replace(());
    }

    /// Whether the broker gives signs of life from now on.
    pub(crate) fn hears(&self, heard: bool) {
        self.heard.store(heard, Ordering::SeqCst);
    }

    /// Whether what it holds counts in the boot that it is in from now on.
    pub(crate) fn doubts(&self, doubt: Option<&str>) {
        *self.doubt.lock().unwrap() = doubt.map(str::to_owned);
        self.changed.send_replace(());
    }

    /// Sets its clock.
    pub(crate) fn set_clock(&self, now: UnixTime) {
        self.now.store(now.0, Ordering::SeqCst);
        self.changed.send_replace(());
    }
}

impl Host for Device {
    fn plant(&self) -> &PlantDomain {
        &self.plant.domain
    }

    fn now(&self) -> UnixTime {
        UnixTime(self.now.load(Ordering::SeqCst))
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap())
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn heard(&self) -> bool {
        self.heard.load(Ordering::SeqCst)
    }

    fn doubt(&self) -> Option<String> {
        self.doubt.lock().unwrap().clone()
    }

    fn tpm(&self) -> Option<&TpmHandle> {
        None
    }
}

/// A gate that runs; it ends with the value.
pub(crate) struct Running {
    pub(crate) gate: Arc<Gate<Device>>,
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
    reports: tempfile::TempDir,
}

impl Running {
    /// Opens a gate of `device` for opcua that connects to `connect`.
    pub(crate) async fn open(device: &Arc<Device>, connect: SocketAddr, limits: Limits) -> Self {
        Self::open_for(device, "opcua", connect, limits).await
    }

    /// The same for another service.
    pub(crate) async fn open_for(
        device: &Arc<Device>,
        service: &str,
        connect: SocketAddr,
        limits: Limits,
    ) -> Self {
        let config = GateConfig {
            name: "gate".to_owned(),
            role: device.role,
            service: service.parse().unwrap(),
            zone: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            connect: connect.to_string(),
            peer: (device.role == Role::Caller).then(|| "press-1.press".parse().unwrap()),
            limits,
        };
        let gate = Arc::new(Gate::new(config, Arc::clone(device)));
        let listener = gate.bind().await.unwrap();
        let address = listener.local_addr().unwrap();
        let reports = tempfile::tempdir().unwrap();
        let task = tokio::spawn(Arc::clone(&gate).run(listener, reports.path().to_owned()));
        Self { gate, address, task, reports }
    }

    /// Where its status is.
    pub(crate) fn reports(&self) -> &std::path::Path {
        self.reports.path()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A local listener with its address.
pub(crate) async fn local() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
