//! A TPM made of a test key: it builds public areas, attests, signatures and logs, right or wrong.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use policy::evidence::verify::{Challenged, EvidenceError, VerifiedEvidence, verify};
use policy::evidence::{Evidence, HardwareProof, Quote};
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrSelection, PcrValues};
use policy::tpm::public::AttestationKey;

pub(crate) const SHA256: u16 = 0x000b;
pub(crate) const QUALIFYING_DATA: [u8; 32] = [0x5a; 32];

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
pub(crate) const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// The same without restricted.
pub(crate) const IDENTITY_ATTRIBUTES: u32 = 0x0004_0472;

pub(crate) fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// `TPMT_PUBLIC` of a P-256 key with no symmetric algorithm and no KDF.
pub(crate) fn ecc_public(attributes: u32, scheme: &[u16], curve: u16, point: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0x0023_u16.to_be_bytes());
    out.extend(SHA256.to_be_bytes());
    out.extend(attributes.to_be_bytes());
    out.extend(tpm2b(&[]));
    out.extend(0x0010_u16.to_be_bytes());
    for word in scheme {
        out.extend(word.to_be_bytes());
    }
    out.extend(curve.to_be_bytes());
    out.extend(0x0010_u16.to_be_bytes());
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    out.extend(tpm2b(x));
    out.extend(tpm2b(y));
    out
}

/// A P-256 key that signs whatever it is given, as no TPM would.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn point(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    pub(crate) fn public(&self, attributes: u32) -> Vec<u8> {
        ecc_public(attributes, &[0x0018, SHA256], 0x0003, self.point())
    }

    pub(crate) fn ak(&self) -> AttestationKey {
        AttestationKey::accept(&self.public(AK_ATTRIBUTES)).unwrap()
    }

    /// `TPMT_SIGNATURE` over `message`.
    #[expect(clippy::disallowed_types, reason = "the test key needs randomness to sign")]
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let raw = self.0.sign(&aws_lc_rs::rand::SystemRandom::new(), message).unwrap();
        let (r, s) = raw.as_ref().split_at(32);
        let mut out = vec![0x00, 0x18, 0x00, 0x0b];
        out.extend(tpm2b(r));
        out.extend(tpm2b(s));
        out
    }
}

/// The parts of a `TPMS_ATTEST`, each of which a test may set wrong.
pub(crate) struct Forged {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) extra_data: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Forged {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_be_bytes().to_vec();
        out.extend(self.kind.to_be_bytes());
        out.extend(tpm2b(&[0x00, 0x0b, 0x11]));
        out.extend(tpm2b(&self.extra_data));
        out.extend(69_142_u64.to_be_bytes());
        out.extend(7_u32.to_be_bytes());
        out.extend(1_u32.to_be_bytes());
        out.push(1);
        out.extend(0x0020_1910_0116_3636_u64.to_be_bytes());
        out.extend_from_slice(&self.body);
        out
    }
}

/// `TPMS_QUOTE_INFO` of these selections and this digest.
pub(crate) fn quote_info(selections: &[(u16, [u8; 3])], digest: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(selections.len()).unwrap().to_be_bytes().to_vec();
    for (bank, bitmap) in selections {
        out.extend(bank.to_be_bytes());
        out.push(3);
        out.extend(bitmap);
    }
    out.extend(tpm2b(digest));
    out
}

/// An event to be written; its digests are the data's hashes unless set.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) pcr: u32,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) digests: Vec<(HashAlg, Vec<u8>)>,
}

pub(crate) const BANKS: [HashAlg; 2] = [HashAlg::Sha1, HashAlg::Sha256];

pub(crate) fn event(pcr: u32, kind: u32, data: &[u8]) -> Written {
    let digests = BANKS.into_iter().map(|bank| (bank, bank.hash(&[data]).as_bytes().to_vec())).collect();
    Written { pcr, kind, data: data.to_vec(), digests }
}

/// An event whose digest is of something else than its data, as of a loaded image.
pub(crate) fn measured(pcr: u32, kind: u32, data: &[u8], what: &[u8]) -> Written {
    Written { digests: event(pcr, kind, what).digests, ..event(pcr, kind, data) }
}

/// `EFI_GLOBAL_VARIABLE`, `EFI_IMAGE_SECURITY_DATABASE_GUID` and `SHIM_LOCK_GUID` in their byte order.
const GLOBAL: &str = "61dfe48bca93d211aa0d00e098032b8c";
const SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";
const SHIM: &str = "50ab5d6046e00043abb63dd810dd8b23";
/// `EFI_CERT_X509_GUID` and `EFI_CERT_SHA256_GUID`.
pub(crate) const X509: &str = "a159c0a5e494a74a87b5ab155c2bf072";
pub(crate) const SHA256_HASH: &str = "2616c4c14c509240aca941f936934328";
/// Who put entries into the databases.
pub(crate) const OWNER: [u8; 16] = [0x77; 16];

/// `UEFI_VARIABLE_DATA` under the vendor that the name belongs to.
pub(crate) fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    let guid = match name {
        "SecureBoot" | "PK" | "KEK" | "SetupMode" | "AuditMode" | "DeployedMode" => GLOBAL,
        "db" | "dbx" | "dbt" => SECURITY,
        "Shim" | "SbatLevel" | "MokList" | "MokListTrusted" => SHIM,
        _ => "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    let mut out = hex::decode(guid).unwrap();
    out.extend(u64::try_from(name.encode_utf16().count()).unwrap().to_le_bytes());
    out.extend(u64::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    out.extend(value);
    out
}

/// One `EFI_SIGNATURE_LIST`; all entries are of one length.
pub(crate) fn signature_list(kind: &str, entries: &[&[u8]]) -> Vec<u8> {
    let entry_len = 16 + entries.first().map_or(1, |entry| entry.len());
    let mut out = hex::decode(kind).unwrap();
    for len in [28 + entries.len() * entry_len, 0, entry_len] {
        out.extend(u32::try_from(len).unwrap().to_le_bytes());
    }
    for entry in entries {
        out.extend(OWNER);
        out.extend(*entry);
    }
    out
}

/// What firmware measures of the entry of db that vouched for an image.
pub(crate) fn authority(entry: &[u8]) -> Written {
    event(7, AUTHORITY, &variable("db", &[&OWNER[..], entry].concat()))
}

pub(crate) const SEPARATOR: u32 = 4;
pub(crate) const DRIVER_CONFIG: u32 = 0x8000_0001;
pub(crate) const AUTHORITY: u32 = 0x8000_00e0;
pub(crate) const APPLICATION: u32 = 0x8000_0003;

/// The events of an honest boot with Secure Boot on.
pub(crate) fn boot() -> Vec<Written> {
    let mut events = vec![event(0, 8, b"1.0\0"), event(0, 0x8000_0008, b"blob")];
    let keys = |name: &str| signature_list(X509, &[name.as_bytes()]);
    for (name, value) in [
        ("SecureBoot", vec![1]),
        ("PK", keys("platform key")),
        ("KEK", keys("exchange key")),
        ("db", keys("certificate")),
        ("dbx", signature_list(SHA256_HASH, &[&[0x66; 32]])),
    ] {
        events.push(event(7, DRIVER_CONFIG, &variable(name, &value)));
    }
    events.push(event(7, SEPARATOR, &[0; 4]));
    events.push(event(1, 0x8000_0002, &variable("Boot0000", b"disk")));
    events.push(event(4, 0x8000_0007, b"Calling EFI Application from Boot Option"));
    events.extend((0..7).map(|pcr| event(pcr, SEPARATOR, &[0; 4])));
    events.push(event(5, 0x8000_0006, b"partitions"));
    events.push(authority(b"certificate"));
    events.push(measured(4, APPLICATION, &[0; 32], b"boot loader"));
    events.push(event(8, 0x0d, b"linux quiet"));
    events.push(event(11, 0x0d, b".linux\0"));
    events.push(event(5, 0x8000_0007, b"Exit Boot Services Returned with Success"));
    events
}

/// The Spec ID event of these banks.
pub(crate) fn header(banks: &[(u16, u16)]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0".to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend(u32::try_from(banks.len()).unwrap().to_le_bytes());
    for (id, len) in banks {
        data.extend(id.to_le_bytes());
        data.extend(len.to_le_bytes());
    }
    data.push(0);
    let mut out = [0_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    out.extend([0; 20]);
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

pub(crate) fn encode(event: &Written) -> Vec<u8> {
    let mut out = event.pcr.to_le_bytes().to_vec();
    out.extend(event.kind.to_le_bytes());
    out.extend(u32::try_from(event.digests.len()).unwrap().to_le_bytes());
    for (bank, digest) in &event.digests {
        out.extend(bank.id().to_le_bytes());
        out.extend(digest);
    }
    out.extend(u32::try_from(event.data.len()).unwrap().to_le_bytes());
    out.extend(&event.data);
    out
}

pub(crate) fn write_log(events: &[Written]) -> Vec<u8> {
    let banks: Vec<_> = BANKS.iter().map(|bank| (bank.id(), u16::try_from(bank.len()).unwrap())).collect();
    let mut out = header(&banks);
    out.extend(events.iter().flat_map(encode));
    out
}

/// The values of PCRs 0 to 15 that a TPM would hold after these events.
pub(crate) fn pcrs_after(events: &[Written], bank: HashAlg, locality: u8) -> PcrValues {
    let mut values = PcrValues::new(bank);
    for index in 0..16 {
        let mut start = vec![0; bank.len()];
        if index == 0 {
            *start.last_mut().unwrap() = locality;
        }
        let mut value = HashValue::new(bank, &start).unwrap();
        for event in events.iter().filter(|event| event.pcr == index && event.kind != 3) {
            for (_, digest) in event.digests.iter().filter(|(alg, _)| *alg == bank) {
                value = value.extend(digest);
            }
        }
        values.set(PcrIndex::new(index).unwrap(), value);
    }
    values
}

/// Everything that makes evidence; honest until a test changes a part.
pub(crate) struct Scene {
    pub(crate) key: Key,
    pub(crate) attest: Forged,
    pub(crate) pcrs: PcrValues,
    pub(crate) log: Vec<u8>,
    pub(crate) bank: HashAlg,
}

impl Scene {
    /// An honest device that booted `events`.
    pub(crate) fn of(events: &[Written]) -> Self {
        Self::with(pcrs_after(events, HashAlg::Sha256, 0), write_log(events))
    }

    /// A device whose TPM holds `pcrs` and that sends `log`.
    pub(crate) fn with(pcrs: PcrValues, log: Vec<u8>) -> Self {
        let selection = PcrSelection::quoted(pcrs.bank());
        let digest = pcrs.quote_digest(&selection, HashAlg::Sha256).unwrap();
        let body = quote_info(&[(pcrs.bank().id(), selection.bitmap())], digest.as_bytes());
        let attest = Forged { magic: 0xff54_4347, kind: 0x8018, extra_data: QUALIFYING_DATA.to_vec(), body };
        Self { key: Key::new(), attest, bank: pcrs.bank(), pcrs, log }
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let attest = self.attest.bytes();
        let signature = self.key.sign(&attest);
        Evidence {
            quote: Quote { attest, signature },
            pcrs: self.pcrs.clone(),
            firmware_log: self.log.clone(),
            ima: None,
        }
    }

    pub(crate) fn verify(&self) -> Result<VerifiedEvidence, EvidenceError> {
        self.judge(&self.evidence())
    }

    /// Verifies other evidence as the answer to this scene's challenge.
    pub(crate) fn judge(&self, evidence: &Evidence) -> Result<VerifiedEvidence, EvidenceError> {
        let ak = self.key.ak();
        let challenged = Challenged {
            ak: &ak,
            qualifying_data: QUALIFYING_DATA,
            selection: PcrSelection::quoted(self.bank),
            hardware: HardwareProof::Endorsed,
            ima: None,
        };
        verify(evidence, &challenged)
    }
}

pub(crate) fn pcr(index: u32) -> PcrIndex {
    PcrIndex::new(index).unwrap()
}
