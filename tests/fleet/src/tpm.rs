//! A TPM made of keys in software: it opens credentials, quotes and certifies as a real one does.
//!
//! Its EK is of the TCG's template L-2 (P-256); administrators register it by its digest.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use policy::digest::Digest;
use policy::tpm::alg::HashAlg;
use policy::tpm::credential::{kdfa, kdfe};
use policy::tpm::pcr::PcrSelection;
use policy::tpm::public::{AttestationKey, EkPublic};

/// The bank that it quotes.
pub const BANK: HashAlg = HashAlg::Sha256;

/// A public area of template L-2 up to its point: object attributes, policy, AES-128-CFB, P-256 (TCG EK Credential
/// Profile, B.3.4).
const EK_L2: &str = "0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100003\
                     0010";
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign (TPM 2.0 Part 2, 8.3).
const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// The same without restricted.
const IDENTITY_ATTRIBUTES: u32 = 0x0004_0472;
/// `TPM_GENERATED_VALUE`, `TPM_ST_ATTEST_QUOTE`, `TPM_ST_ATTEST_CERTIFY` (TPM 2.0 Part 2, 6.2 and 6.9).
const GENERATED: u32 = 0xff54_4347;
const QUOTE: u16 = 0x8018;
const CERTIFY: u16 = 0x8017;
/// Bytes of the key that the EK of the template encrypts with.
const AES_KEY: usize = 16;
/// Bytes of a coordinate of P-256.
const COORDINATE: usize = 32;

/// The TPM.
pub struct Tpm {
    ek: PrivateKey,
    ek_public: Vec<u8>,
    ek_x: Vec<u8>,
    ak: EcdsaKeyPair,
    ak_public: Vec<u8>,
    ak_name: Vec<u8>,
    /// Milliseconds: each attestation is later than the one before.
    clock: u64,
    resets: u32,
}

impl Default for Tpm {
    fn default() -> Self {
        Self::new()
    }
}

impl Tpm {
    /// A new one.
    pub fn new() -> Self {
        let ek = PrivateKey::generate(&ECDH_P256).expect("a key");
        Self::with(ek, EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    /// One with these keys.
    pub fn with(ek: PrivateKey, ak: EcdsaKeyPair) -> Self {
        let point = ek.compute_public_key().expect("a point").as_ref().to_vec();
        let ak_public = signing_public(AK_ATTRIBUTES, &[0x0018, BANK.id()], ak.public_key().as_ref());
        let ak_name =
            AttestationKey::accept(&ak_public).expect("an AK as the broker takes it").name().to_bytes();
        let ek_public = [hex::decode(EK_L2).expect("hex"), coordinates(&point)].concat();
        let ek_x = point[1..=COORDINATE].to_vec();
        Self { ek, ek_public, ek_x, ak, ak_public, ak_name, clock: 1_000, resets: 1 }
    }

    /// `TPMT_PUBLIC` of its EK.
    pub fn ek_public(&self) -> &[u8] {
        &self.ek_public
    }

    /// What an administrator registers it by.
    pub fn ek_digest(&self) -> Digest {
        self.ek().digest()
    }

    /// Name of its EK.
    pub fn ek_name(&self) -> Vec<u8> {
        self.ek().name().to_bytes()
    }

    fn ek(&self) -> EkPublic {
        EkPublic::parse(&self.ek_public).expect("an EK as the broker takes it")
    }

    /// `TPMT_PUBLIC` of its AK.
    pub fn ak_public(&self) -> &[u8] {
        &self.ak_public
    }

    /// Name of its AK.
    pub fn ak_name(&self) -> &[u8] {
        &self.ak_name
    }

    /// Loses its power and starts again.
    pub fn reset(&mut self) {
        self.resets += 1;
    }

    /// `TPM2_ActivateCredential`: the secret of a credential for its EK and AK (TPM 2.0 Part 1, 24).
    pub fn activate(&self, blob: &[u8], encrypted_secret: &[u8]) -> Vec<u8> {
        let (x, rest) = sized(encrypted_secret);
        let (y, _) = sized(rest);
        let ephemeral = [&[4], x, y].concat();
        let peer = UnparsedPublicKey::new(&ECDH_P256, ephemeral);
        let seed =
            agree(&self.ek, peer, (), |shared| Ok(kdfe(BANK, shared, "IDENTITY", x, &self.ek_x, BANK.len())));
        let seed = seed.expect("a point of the curve");
        let (mac, identity) = sized(blob);
        let mac_key = kdfa(BANK, &seed, "INTEGRITY", &[], &[], BANK.len());
        let authentic = [identity, &self.ak_name].concat();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &mac_key), &authentic, mac)
            .expect("a credential for this TPM and this AK");
        let key = kdfa(BANK, &seed, "STORAGE", &self.ak_name, &[], AES_KEY);
        let key =
            DecryptingKey::cfb128(UnboundCipherKey::new(&AES_128, &key).expect("a key")).expect("a key");
        let mut opened = identity.to_vec();
        let iv = DecryptionContext::Iv128(FixedLength::from(&[0; 16]));
        let opened = key.decrypt(&mut opened, iv).expect("it decrypts");
        sized(opened).0.to_vec()
    }

    /// `TPM2_Quote` of PCRs with this digest: `TPMS_ATTEST` and `TPMT_SIGNATURE`.
    pub fn quote(
        &mut self,
        qualifying: [u8; 32],
        selection: &PcrSelection,
        digest: &[u8],
    ) -> (Vec<u8>, Vec<u8>) {
        let [a, b, c] = selection.bitmap();
        let [high, low] = BANK.id().to_be_bytes();
        // One selection, of three bytes.
        let body = [&[0, 0, 0, 1, high, low, 3, a, b, c][..], &tpm2b(digest)].concat();
        self.attest(QUOTE, qualifying, &body)
    }

    /// `TPM2_Certify` of the object with this Name.
    pub fn certify(&mut self, qualifying: [u8; 32], name: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let body = [tpm2b(name), tpm2b(name)].concat();
        self.attest(CERTIFY, qualifying, &body)
    }

    fn attest(&mut self, kind: u16, qualifying: [u8; 32], body: &[u8]) -> (Vec<u8>, Vec<u8>) {
        self.clock += 1_000;
        let mut out = GENERATED.to_be_bytes().to_vec();
        out.extend(kind.to_be_bytes());
        // The qualified Name of the signer says nothing that is looked at.
        out.extend(tpm2b(&[0x00, 0x0b, 0x11]));
        out.extend(tpm2b(&qualifying));
        out.extend(self.clock.to_be_bytes());
        out.extend(self.resets.to_be_bytes());
        // restartCount, safe, firmwareVersion.
        out.extend(0_u32.to_be_bytes());
        out.push(1);
        out.extend(0x0007_0055_0011_0000_u64.to_be_bytes());
        out.extend(body);
        let signature = self.sign(&out);
        (out, signature)
    }

    /// `TPMT_SIGNATURE`: ECDSA with SHA-256.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let raw = self.ak.sign(&SystemRandom::new(), message).expect("a signature");
        let (r, s) = raw.as_ref().split_at(COORDINATE);
        [&[0x00, 0x18, 0x00, 0x0b][..], &tpm2b(r), &tpm2b(s)].concat()
    }
}

/// `TPMT_PUBLIC` of an identity key with this uncompressed point.
pub fn identity_public(point: &[u8]) -> Vec<u8> {
    signing_public(IDENTITY_ATTRIBUTES, &[0x0010], point)
}

/// Length and bytes.
pub fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("everything here is short");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// What a length is before, and what follows it.
fn sized(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().expect("a length");
    rest.split_at(u16::from_be_bytes(*length).into())
}

fn coordinates(point: &[u8]) -> Vec<u8> {
    let (x, y) = point[1..].split_at(COORDINATE);
    [tpm2b(x), tpm2b(y)].concat()
}

/// `TPMT_PUBLIC` of a P-256 key without policy, symmetric algorithm and KDF.
fn signing_public(attributes: u32, scheme: &[u16], point: &[u8]) -> Vec<u8> {
    let mut out = [0x0023_u16.to_be_bytes(), BANK.id().to_be_bytes()].concat();
    out.extend(attributes.to_be_bytes());
    let words = [0x0000, 0x0010].iter().chain(scheme).chain(&[0x0003, 0x0010]);
    out.extend(words.flat_map(|word: &u16| word.to_be_bytes()));
    out.extend(coordinates(point));
    out
}
