//! What the TPM tests share: a software TPM or the reason to skip, the tpm2 tools, and a look into what it signs.

use std::fs;

use attestor::{
    testing::{Manufacturer, Swtpm, command, missing_tool},
    tpm::{Attestation, Credential, EsapiTpm, TpmHandle},
};
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};

/// Programs without which a TPM test cannot run.
const TOOLS: [&str; 5] = ["swtpm", "swtpm_setup", "swtpm_localca", "tpm2_getcap", "tpm2_clear"];

/// A running TPM and who made it.
pub(crate) struct Device {
    pub(crate) manufacturer: Manufacturer,
    pub(crate) swtpm: Swtpm,
}

impl Device {
    /// A new TPM; None, with the reason said, where the tools are missing.
    pub(crate) fn make(more_tools: &[&'static str]) -> Option<Self> {
        if let Some(tool) = missing_tool(&[&TOOLS, more_tools].concat()) {
            eprintln!(
                "skipped: {tool} is not installed (packages swtpm, swtpm-tools, tpm2-tools, tpm2-openssl)"
            );
            return None;
        }
        let manufacturer = Manufacturer::new().unwrap();
        let swtpm = manufacturer.make_tpm().unwrap();
        Some(Self { manufacturer, swtpm })
    }

    pub(crate) fn esapi(&self) -> EsapiTpm {
        EsapiTpm::new(self.swtpm.address())
    }

    pub(crate) fn handle(&self) -> TpmHandle {
        TpmHandle::start(self.esapi()).unwrap()
    }

    /// Runs a program beside the attestor, as another user of the TPM; its standard output.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        // The limit turns a TPM that is held by someone else into a failed test.
        let output = command("timeout")
            .args(["20", program])
            .args(arguments)
            .env("TPM2TOOLS_TCTI", self.swtpm.address().to_string())
            .env("TPM2OPENSSL_TCTI", self.swtpm.address().to_string())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {} {error}", output.status);
        output.stdout
    }

    /// No transient object and no session is left in the TPM.
    pub(crate) fn assert_clean(&self, after: &str) {
        for kind in ["handles-transient", "handles-loaded-session", "handles-saved-session"] {
            let left = self.tool("tpm2_getcap", &[kind]);
            assert!(left.is_empty(), "{kind} after {after}: {}", String::from_utf8_lossy(&left));
        }
    }

    /// A variable property of the TPM, such as TPM2_PT_LOCKOUT_COUNTER.
    pub(crate) fn property(&self, name: &str) -> u32 {
        let listing = String::from_utf8(self.tool("tpm2_getcap", &["properties-variable"])).unwrap();
        let line = listing.lines().find(|line| line.starts_with(name)).unwrap();
        let digits = line.rsplit_once("0x").unwrap().1;
        u32::from_str_radix(digits, 16).unwrap()
    }
}

/// The Name of a key: nameAlg (SHA-256) and digest of its public area.
pub(crate) fn name_of(public: &[u8]) -> Vec<u8> {
    [&[0x00, 0x0b], digest(&SHA256, public).as_ref()].concat()
}

/// TPM2B form of `content`.
pub(crate) fn sized(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

/// The content of the TPM2B at `offset` and the offset behind it.
pub(crate) fn sized_at(bytes: &[u8], offset: usize) -> (&[u8], usize) {
    let start = offset + 2;
    let size = usize::from(u16::from_be_bytes(bytes[offset..start].try_into().unwrap()));
    (&bytes[start..start + size], start + size)
}

/// Verifies an attestation under the public area of a P-256 key.
pub(crate) fn assert_signed(attestation: &Attestation, key: &[u8]) {
    let coordinates = &key[key.len() - 68..];
    let point = [&[4][..], &coordinates[2..34], &coordinates[36..]].concat();
    assert_eq!(attestation.signature[..4], [0x00, 0x18, 0x00, 0x0b], "ECDSA with SHA-256");
    let (r, next) = sized_at(&attestation.signature, 4);
    let (s, end) = sized_at(&attestation.signature, next);
    assert_eq!(end, attestation.signature.len());
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(&attestation.attest, &[r, s].concat()).unwrap();
}

/// What every TPMS_ATTEST holds before its type-specific part.
pub(crate) struct Attested<'a> {
    pub(crate) kind: [u8; 2],
    pub(crate) extra_data: &'a [u8],
    pub(crate) reset_count: u32,
    pub(crate) firmware_version: u64,
    pub(crate) body: &'a [u8],
}

/// Takes a TPMS_ATTEST apart (TPM 2.0 part 2, section 10.12.8).
pub(crate) fn attested(attest: &[u8]) -> Attested<'_> {
    assert_eq!(attest[..4], [0xff, 0x54, 0x43, 0x47]);
    let (_, next) = sized_at(attest, 6);
    let (extra_data, clock) = sized_at(attest, next);
    let firmware = clock + 17;
    Attested {
        kind: attest[4..6].try_into().unwrap(),
        extra_data,
        reset_count: u32::from_be_bytes(attest[clock + 8..clock + 12].try_into().unwrap()),
        firmware_version: u64::from_be_bytes(attest[firmware..firmware + 8].try_into().unwrap()),
        body: &attest[firmware + 8..],
    }
}

/// What [`make_credential`] seals.
pub(crate) const SECRET: [u8; 32] = [0x5a; 32];

/// A challenge for an endorsement key and the Name of an attestation key, made with the tpm2 tools.
pub(crate) fn make_credential(device: &Device, endorsement_key: &[u8], name: &[u8]) -> Credential {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("ek"), sized(endorsement_key)).unwrap();
    fs::write(path("secret"), SECRET).unwrap();
    let (name, key, secret, out) = (hex::encode(name), path("ek"), path("secret"), path("credential"));
    device.tool("tpm2_makecredential", &["-Q", "-u", &key, "-s", &secret, "-n", &name, "-o", &out]);
    // Magic number and version, then the two buffers.
    let made = fs::read(out).unwrap();
    let (id_object, next) = sized_at(&made, 8);
    let (encrypted_secret, end) = sized_at(&made, next);
    assert_eq!(end, made.len());
    Credential { id_object: id_object.to_vec(), encrypted_secret: encrypted_secret.to_vec() }
}
