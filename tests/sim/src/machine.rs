//! A device: its TPM, its disk, its daemon, and the gate before its server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use attestor::config::Config;
use attestor::evidence::Prover;
use attestor::gate;
use attestor::plant::PlantRoot;
use attestor::renewal::{Attester, Line as Believed, Means, Proof, Trial};
use attestor::role::Role;
use attestor::state::{Keeper, State};
use attestor::tpm::{
    Attestation, Credential, EkTemplate, Endorsement, EndorsementKey, IdentityKeyBlob, ManufacturerKey,
    ManufacturerSignature, Operation, PcrBank, PcrIndex, PcrSelection, PcrValue, Secret, Tpm as Port,
    TpmError, TpmFault, TpmHandle, TpmModel,
};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::digest::{Digest as Hash, SHA256};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};
use policy::digest::Digest;
use tempfile::TempDir;

use crate::chip::{BANK, Tpm, identity_public, tpm2b};
use crate::plan::Boot;
use crate::rng::{Drawn, Hand, Rng};
use crate::task::{Line, Work};

/// A parent for identity keys, as TPMs have it.
const PARENT: u32 = 0x8100_0001;
/// What devices of the zone `press` serve.
pub const SERVICE: &str = "opcua";

/// What a boot left in the TPM and in the firmware's log: one of the recorded boots that all tests share.
#[derive(Debug)]
pub struct Measured {
    values: Vec<Vec<u8>>,
    log: &'static [u8],
}

macro_rules! recorded {
    ($name:literal) => {
        Measured::read(
            include_str!(concat!("../../vectors/measured-boot/", $name, "/pcrs.txt")),
            include_bytes!(concat!("../../vectors/measured-boot/", $name, "/eventlog.bin")),
        )
    };
}

impl Measured {
    /// What this boot leaves.
    #[must_use]
    pub fn of(boot: Boot) -> Self {
        match boot {
            Boot::First => recorded!("boot-a"),
            Boot::Second => recorded!("boot-b"),
            Boot::Tampered => recorded!("boot-c"),
        }
    }

    fn read(pcrs: &str, log: &'static [u8]) -> Self {
        let mut values = vec![Vec::new(); 16];
        for line in pcrs.lines() {
            let Some((pcr, value)) = line.strip_prefix("sha256:").and_then(|rest| rest.split_once(':'))
            else {
                continue;
            };
            let pcr: usize = pcr.parse().expect("a number");
            if let Some(held) = values.get_mut(pcr) {
                *held = hex::decode(value.trim().to_lowercase()).expect("hex");
            }
        }
        Self { values, log }
    }
}

/// A TPM, which goes on when the machine around it does not.
#[derive(Clone)]
pub struct Chip(Arc<Mutex<Silicon>>);

struct Silicon {
    tpm: Tpm,
    values: Vec<Vec<u8>>,
    keys: BTreeMap<Vec<u8>, EcdsaKeyPair>,
    made: u64,
}

impl Chip {
    /// The TPM of this number: the same in every run.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let mut rng = Rng::new(0x7470_6d00 + number);
        let ek = PrivateKey::from_private_key(&ECDH_P256, &scalar(&mut rng)).expect("a key");
        // ECPrivateKey (RFC 5915) of P-256 without its public key.
        let der = [
            &[0x30, 0x31, 2, 1, 1, 4, 32][..],
            &scalar(&mut rng),
            &[0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        ];
        let ak = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der.concat());
        let tpm = Tpm::with(ek, ak.expect("a key"));
        Self(Arc::new(Mutex::new(Silicon { tpm, values: Vec::new(), keys: BTreeMap::new(), made: 0 })))
    }

    /// What it is registered by.
    #[must_use]
    pub fn ek_digest(&self) -> Digest {
        self.0.lock().expect("the TPM").tpm.ek_digest()
    }

    /// It loses its power, and this is booted.
    fn boot(&self, measured: &Measured) {
        let mut silicon = self.0.lock().expect("the TPM");
        silicon.tpm.reset();
        silicon.values.clone_from(&measured.values);
    }

    /// `TPM2_Clear`: it cannot load the keys any more that it made.
    fn clear(&self) {
        self.0.lock().expect("the TPM").keys.clear();
    }

    fn with<T>(&self, work: impl FnOnce(&mut Silicon) -> T) -> T {
        work(&mut self.0.lock().expect("the TPM"))
    }
}

/// A number below the order of P-256.
fn scalar(rng: &mut Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&rng.draw().to_be_bytes()));
    bytes[0] &= 0x7f;
    bytes
}

fn qualifying(data: &[u8]) -> [u8; 32] {
    data.try_into().expect("a digest")
}

fn said((attest, signature): (Vec<u8>, Vec<u8>)) -> Attestation {
    Attestation { attest, signature }
}

impl Port for Chip {
    fn endorsement(&mut self) -> Result<Endorsement, TpmError> {
        let public = self.with(|silicon| silicon.tpm.ek_public().to_vec());
        let key = EndorsementKey { template: EkTemplate::L2, public, certificate: None };
        let manufacturer = u32::from_be_bytes(*b"SIMU");
        let (model, others) = (TpmModel::default(), Vec::new());
        Ok(Endorsement {
            keys: vec![key],
            chain: Vec::new(),
            manufacturer,
            firmware_version: 1,
            model,
            others,
        })
    }

    fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
        Ok(self.with(|silicon| silicon.tpm.ak_public().to_vec()))
    }

    fn activate(&mut self, _: EkTemplate, credential: &Credential) -> Result<Secret, TpmError> {
        let Credential { id_object, encrypted_secret } = credential;
        Ok(self.with(|silicon| silicon.tpm.activate(id_object, encrypted_secret)).into())
    }

    fn read_pcrs(&mut self, _: PcrBank, selection: PcrSelection) -> Result<Vec<PcrValue>, TpmError> {
        let values = self.with(|silicon| silicon.values.clone());
        let value =
            |index: PcrIndex| PcrValue { index, digest: values[usize::from(u8::from(index))].clone() };
        Ok(selection.iter().map(value).collect())
    }

    fn extend(&mut self, _: PcrIndex, _: PcrBank, _: &[u8]) -> Result<(), TpmError> {
        unreachable!("nothing here is measured later")
    }

    fn quote(&mut self, data: &[u8], _: PcrBank, selection: PcrSelection) -> Result<Attestation, TpmError> {
        let selected = policy::tpm::pcr::PcrSelection::quoted(BANK);
        assert_eq!(selection.iter().count(), 16, "the broker asks for PCRs 0 to 15");
        Ok(said(self.with(|silicon| {
            let parts: Vec<&[u8]> = silicon.values.iter().map(Vec::as_slice).collect();
            let digest = Digest::of_parts(&parts);
            silicon.tpm.quote(qualifying(data), &selected, &digest.0)
        })))
    }

    fn create_identity_key(&mut self) -> Result<IdentityKeyBlob, TpmError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
        let public = identity_public(key.public_key().as_ref());
        let private = self.with(|silicon| {
            silicon.made += 1;
            let private = tpm2b(&silicon.made.to_be_bytes());
            silicon.keys.insert(private.clone(), key);
            private
        });
        Ok(IdentityKeyBlob::parse(tpm2b(&public), private, PARENT).expect("a key as the TPM makes it"))
    }

    fn certify(&mut self, key: &IdentityKeyBlob, data: &[u8]) -> Result<Attestation, TpmError> {
        let name = [&BANK.id().to_be_bytes()[..], &Digest::of(key.public_area()).0].concat();
        self.with(|silicon| match silicon.keys.contains_key(key.private()) {
            true => Ok(said(silicon.tpm.certify(qualifying(data), &name))),
            false => Err(lost(Operation::CertifyIdentityKey)),
        })
    }

    fn sign_digest(&mut self, key: &IdentityKeyBlob, digest: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
        let digest = Hash::import_less_safe(digest, &SHA256).expect("a digest");
        self.with(|silicon| match silicon.keys.get(key.private()) {
            Some(key) => Ok(key.sign_digest(&digest).expect("a signature").as_ref().to_vec()),
            None => Err(lost(Operation::SignDigest)),
        })
    }

    fn sign_as_manufacturer(
        &mut self,
        _: &ManufacturerKey,
        _: &[u8],
        _: &[u8],
    ) -> Result<ManufacturerSignature, TpmError> {
        unreachable!("no device here has an IDevID")
    }

    fn release(&mut self) {}
}

fn lost(operation: Operation) -> TpmError {
    TpmError { operation, fault: TpmFault::KeyOfAnotherTpm }
}

/// What runs while the machine has power.
pub struct Running {
    /// The daemon's loop.
    pub daemon: Trial,
    /// Its line to the broker.
    pub line: Line,
    /// The exchange in flight.
    pub exchange: Option<Work<Proof>>,
    /// The gate before its server.
    pub gate: Option<gate::Trial>,
}

/// The machine.
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: &'static str,
    /// What it booted last.
    pub boot: Boot,
    /// Its clock.
    pub clock: Arc<Hand>,
    /// What runs, if it has power.
    pub on: Option<Running>,
    /// Counts starts: what belongs to an earlier one is void.
    pub starts: u32,
    chip: Chip,
    folder: TempDir,
    entropy: Arc<Drawn>,
}

impl Machine {
    /// A new machine of a plant with this root certificate, off.
    #[must_use]
    pub fn new(name: &str, zone: &'static str, chip: Chip, root: &Path, seed: u64) -> Self {
        let folder = crate::plant::folder();
        fs::copy(root, folder.path().join("plant-root.pem")).expect("the plant root");
        let mut text = format!(
            "broker = \"127.0.0.1:1\"\nplant = \"{}\"\nplant_root = \"plant-root.pem\"\ndevice = \"{name}\"\n\
             state = \"state\"\ndeliver = \"deliver\"\nfirmware_log = \"log\"\n",
            crate::plant::DOMAIN
        );
        if zone == crate::plant::PRESS {
            text += &format!(
                "[[service]]\nname = \"{SERVICE}\"\nport = 4840\n[[gate]]\nname = \"gate\"\nrole = \"server\"\n\
                 service = \"{SERVICE}\"\nlisten = \"127.0.0.1:4840\"\nconnect = \"127.0.0.1:4841\"\n"
            );
        }
        fs::write(folder.path().join("attestor.toml"), text).expect("a configuration");
        Self {
            name: name.to_owned(),
            zone,
            boot: Boot::First,
            clock: Arc::default(),
            on: None,
            starts: 0,
            chip,
            folder,
            entropy: Arc::new(Drawn::new(seed)),
        }
    }

    /// Boots `boot` and starts the daemon.
    pub async fn start(&mut self, boot: Boot) {
        self.stop();
        let measured = Measured::of(boot);
        self.chip.boot(&measured);
        (self.boot, self.starts) = (boot, self.starts + 1);
        fs::write(self.folder.path().join("log"), measured.log).expect("the firmware's log");
        self.run().await;
    }

    /// Starts the daemon.
    async fn run(&mut self) {
        let text = fs::read_to_string(self.folder.path().join("attestor.toml")).expect("its configuration");
        let config = Config::parse(self.folder.path(), &text).expect("a configuration");
        let root = PlantRoot::load(&config.plant_root).expect("the plant root");
        let keeper = Keeper::load(&config.state, &config.plant, &root).expect("its state is whole");
        let tpm = TpmHandle::start(self.chip.clone()).expect("a thread");
        let prover = Prover::new(tpm, self.folder.path().join("log")).await.expect("a TPM");
        let line = Believed::by(Arc::<Hand>::clone(&self.clock), &config, &root, &keeper).expect("a name");
        let gate = config.gates.first().cloned().map(gate::Trial::new);
        let mut attester = Attester::on(line, config, root, keeper, Means::from(prover));
        attester.entropy = Arc::<Drawn>::clone(&self.entropy);
        attester.look_at_boot().await;
        let daemon = Trial::start(Arc::new(attester));
        self.on = Some(Running { daemon, line: Line::default(), exchange: None, gate });
    }

    /// Cuts its power.
    pub fn stop(&mut self) {
        self.on = None;
    }

    /// Clears its TPM while it is off.
    pub fn clear_tpm(&self) {
        self.chip.clear();
    }

    /// Looks at what its daemon holds.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> Option<T> {
        self.on.as_ref().map(|on| on.daemon.attester().keeper.read(look))
    }

    /// The certificate that it shows as a caller, if it holds one.
    #[must_use]
    pub fn caller(&self) -> Option<Vec<u8>> {
        let held = |state: &State| {
            let of = state.holding().filter(|(seat, _)| seat.role == Role::Caller);
            of.max_by_key(|(_, svid)| svid.not_after()).and_then(|(_, svid)| svid.chain().first().cloned())
        };
        self.look(held).flatten()
    }
}
