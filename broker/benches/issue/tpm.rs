//! A device whose TPM is made of test keys: it enrolls and renews as the wire has it.

use policy::digest::Digest;
use policy::evidence::{Purpose, qualifying_data};
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::{PcrSelection, PcrValues};
use policy::tpm::public::{AttestationKey, EkPublic};
use prost::Message;
use proto::v1;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

use crate::measure::tpm::{AK_ATTRIBUTES, Forged, IDENTITY_ATTRIBUTES, Key, ecc_public, quote_info, tpm2b};

/// An EK of template L-2, and the bytes of its point at the end.
const EK_P256: &str = "0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa0006008000430010000300100020cf83f2908edadf8d13d9f2fbcc66b4efb6b3d85d9b20d8e24c321a505fceb7540020f310e575883a0fcb64960cd9ae9bb9d27b3ddf69ce9e01e46c6dfb6fdc58465f";
const POINT: usize = 68;
/// Where `clockInfo.clock` stands in a `TPMS_ATTEST` with our signer and qualifying data.
const CLOCK: usize = 4 + 2 + 5 + 34;
/// `TPM_ST_ATTEST_QUOTE` and `TPM_ST_ATTEST_CERTIFY` (TPM 2.0 Part 2, 6.9).
const QUOTE: u16 = 0x8018;
const CERTIFY: u16 = 0x8017;
const BANK: HashAlg = HashAlg::Sha256;

/// What a device booted.
#[derive(Clone)]
pub(crate) struct Boot {
    pub(crate) pcrs: PcrValues,
    pub(crate) log: Vec<u8>,
}

/// The device.
pub(crate) struct Device {
    name: String,
    ek: Vec<u8>,
    ak: Key,
    boot: Boot,
    /// Keys of a caller and a listener of cell-3.
    identities: [(v1::Role, KeyPair); 2],
    clock: u64,
}

impl Device {
    pub(crate) fn new(name: String, boot: Boot) -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut ek = hex::decode(EK_P256).unwrap();
        let (x, y) = (Key::new(), ek.len() - POINT);
        ek.truncate(y);
        ek.extend([tpm2b(&x.point()[1..33]), tpm2b(&x.point()[33..])].concat());
        let identities = [(v1::Role::Caller, key()), (v1::Role::Listener, key())];
        Self { name, ek, ak: Key::new(), boot, identities, clock: 1_000 }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn ek_digest(&self) -> Digest {
        EkPublic::parse(&self.ek).unwrap().digest()
    }

    pub(crate) fn begin_enrollment(&self) -> v1::BeginEnrollmentRequest {
        let (ek_public, ak_public) = (self.ek.clone(), self.ak.public(AK_ATTRIBUTES));
        v1::BeginEnrollmentRequest {
            versions: vec![1],
            ek_public,
            ak_public,
            ..v1::BeginEnrollmentRequest::default()
        }
    }

    pub(crate) fn begin_attestation(&self) -> v1::BeginAttestationRequest {
        v1::BeginAttestationRequest {
            versions: vec![1],
            device: self.name.clone(),
            ak_name: self.ak_name(),
            purpose: v1::Purpose::Renew.into(),
        }
    }

    fn ak_name(&self) -> Vec<u8> {
        AttestationKey::accept(&self.ak.public(AK_ATTRIBUTES)).unwrap().name().to_bytes()
    }

    /// The answer to a challenge; `secret` is what the credential held when the device enrolls.
    pub(crate) fn answer(&mut self, sealed: Vec<u8>, secret: Option<Vec<u8>>) -> v1::CompleteRequest {
        let requests: Vec<Request> =
            self.identities.iter().map(|(role, key)| Request::new(*role, key)).collect();
        let enrolls = secret.is_some();
        let statement = self.statement(&requests, enrolls).encode_to_vec();
        let quoted = qualifying_data(Purpose::Quote, &sealed, &statement);
        let selection = PcrSelection::quoted(BANK);
        let digest = self.boot.pcrs.quote_digest(&selection, HashAlg::Sha256).unwrap();
        let body = quote_info(&[(BANK.id(), selection.bitmap())], digest.as_bytes());
        let quote = self.attest(QUOTE, quoted, body);
        let certified = qualifying_data(Purpose::Certify, &sealed, &statement);
        let identity_keys = requests.into_iter().map(|request| {
            let body = [tpm2b(&request.name), tpm2b(&request.name)].concat();
            let certify = self.attest(CERTIFY, certified, body);
            v1::IdentityKey {
                zone: "cell-3".to_owned(),
                role: request.role.into(),
                public: tpm2b(&request.public),
                csr: request.csr,
                certify_signature: self.ak.sign(&certify),
                certify,
            }
        });
        v1::CompleteRequest {
            identity_keys: identity_keys.collect(),
            ek_public: self.ek.clone(),
            ak_public: self.ak.public(AK_ATTRIBUTES),
            credential_secret: secret.unwrap_or_default(),
            pcr_values: self.boot.pcrs.iter().map(|(_, value)| value.as_bytes().to_vec()).collect(),
            firmware_log: self.boot.log.clone(),
            quote_signature: self.ak.sign(&quote),
            quote,
            statement,
            sealed,
            ..v1::CompleteRequest::default()
        }
    }

    fn statement(&self, requests: &[Request], enrolls: bool) -> v1::Statement {
        let [a, b, c] = PcrSelection::quoted(BANK).bitmap();
        let stated = |request: &Request| v1::StatedKey {
            zone: "cell-3".to_owned(),
            role: request.role.into(),
            name: request.name.clone(),
            csr_digest: Digest::of(&request.csr).0.to_vec(),
        };
        let log = v1::StatedLog {
            kind: v1::LogKind::Firmware.into(),
            digest: Digest::of(&self.boot.log).0.to_vec(),
            offset: 0,
            length: u64::try_from(self.boot.log.len()).unwrap(),
        };
        let purpose = if enrolls { v1::Purpose::Enroll } else { v1::Purpose::Renew };
        v1::Statement {
            version: 1,
            purpose: purpose.into(),
            device: self.name.clone(),
            ek_name: EkPublic::parse(&self.ek).unwrap().name().to_bytes(),
            ak_name: self.ak_name(),
            pcr_bank: BANK.id().into(),
            pcr_mask: u32::from_le_bytes([a, b, c, 0]),
            logs: vec![log],
            identity_keys: requests.iter().map(stated).collect(),
            services: vec![v1::OfferedService { name: "opcua".to_owned(), port: 4840 }],
            ..v1::Statement::default()
        }
    }

    /// A `TPMS_ATTEST`, later than the one before.
    fn attest(&mut self, kind: u16, extra_data: [u8; 32], body: Vec<u8>) -> Vec<u8> {
        self.clock += 1_000;
        let forged = Forged { magic: 0xff54_4347, kind, extra_data: extra_data.to_vec(), body };
        let mut bytes = forged.bytes();
        bytes[CLOCK..CLOCK + 8].copy_from_slice(&self.clock.to_be_bytes());
        bytes
    }
}

/// An identity key as it is offered.
struct Request {
    role: v1::Role,
    public: Vec<u8>,
    name: Vec<u8>,
    csr: Vec<u8>,
}

impl Request {
    fn new(role: v1::Role, key: &KeyPair) -> Self {
        let public = ecc_public(IDENTITY_ATTRIBUTES, &[0x0010], 0x0003, key.der_bytes());
        let name = [&HashAlg::Sha256.id().to_be_bytes()[..], &Digest::of(&public).0].concat();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(key).unwrap().der().to_vec();
        Self { role, public, name, csr }
    }
}
