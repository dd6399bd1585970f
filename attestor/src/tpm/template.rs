//! Public area templates (TPMT_PUBLIC, TPM 2.0 part 2, section 12.2.4) of every key this room makes.
//!
//! Sources: TCG EK Credential Profile 2.5, annex B (endorsement keys); TCG TPM v2.0 Provisioning Guidance,
//! section 7.5.1 (storage root key). The templates are byte strings, so the same key comes out on every start.

use super::wire::{sized, split_sized};

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// Every key of ours is bound to this TPM and was made in it. noDA, because a key or parent without it adds
/// one failure to the dictionary-attack counter at each power cut: after a few the TPM locks itself.
const OURS: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA;
const ENDORSEMENT_LOW: u32 =
    FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT;
const ENDORSEMENT_HIGH: u32 = ENDORSEMENT_LOW | USER_WITH_AUTH;
const STORAGE: u32 = OURS | RESTRICTED | DECRYPT;

const ALG_RSA: u16 = 0x0001;
const ALG_ECC: u16 = 0x0023;
const ALG_SHA256: u16 = 0x000b;
const ALG_SHA384: u16 = 0x000c;
const ALG_NULL: [u8; 2] = [0x00, 0x10];
const ALG_ECDSA_SHA256: [u8; 4] = [0x00, 0x18, 0x00, 0x0b];
const AES_128_CFB: [u8; 6] = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43];
const AES_256_CFB: [u8; 6] = [0x00, 0x06, 0x01, 0x00, 0x00, 0x43];
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;

/// Length of a P-256 coordinate in bytes.
const P256_COORDINATE: usize = 32;
/// `unique.x` of the attestation key: what makes it another key than any other program's AK of the same kind.
const ATTESTATION_KEY_LABEL: &[u8; P256_COORDINATE] = b"touchstone/v1/attestation-key\0\0\0";

/// PolicyA of the EK profile: PolicySecret(endorsement hierarchy).
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, //
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// PolicyB of the EK profile: PolicyOR(PolicyA, PolicyC).
const POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3, //
    0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, //
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, //
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];
/// PolicyC of the EK profile: PolicyAuthorizeNV on the profile's policy index.
const POLICY_C_SHA256: [u8; 32] = [
    0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a, 0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef, 0x78, 0x64, //
    0x3d, 0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8, 0x2c, 0x67, 0x3a, 0x30, 0xd8, 0x63, 0x3f, 0xde,
];
const POLICY_C_SHA384: [u8; 48] = [
    0xd6, 0x03, 0x2c, 0xe6, 0x1f, 0x2f, 0xb3, 0xc2, 0x40, 0xeb, 0x3c, 0xf6, 0xa3, 0x32, 0x37, 0xef, //
    0x2b, 0x6a, 0x16, 0xf4, 0x29, 0x3c, 0x22, 0xb4, 0x55, 0xe2, 0x61, 0xcf, 0xfd, 0x21, 0x7a, 0xd5, //
    0xb4, 0x94, 0x7c, 0x2d, 0x73, 0xe6, 0x30, 0x05, 0xee, 0xd2, 0xdc, 0x2b, 0x35, 0x93, 0xd1, 0x65,
];

/// A default endorsement key template of the TCG EK Credential Profile. P-521 and SM2 (H-4, H-5) are left
/// out: no broker of ours accepts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EkTemplate {
    /// RSA-2048, low range.
    L1,
    /// P-256, low range.
    L2,
    /// RSA-2048, high range.
    H1,
    /// P-256, high range.
    H2,
    /// P-384.
    H3,
    /// RSA-3072.
    H6,
    /// RSA-4096.
    H7,
}

/// The hash of an EK's Name, which its policy session has to use as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameHash {
    Sha256,
    Sha384,
}

impl EkTemplate {
    /// All templates, in the profile's order.
    pub const ALL: [Self; 7] = [Self::L1, Self::L2, Self::H1, Self::H2, Self::H3, Self::H6, Self::H7];

    /// The profile's name of the template, such as `L-1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "L-1",
            Self::L2 => "L-2",
            Self::H1 => "H-1",
            Self::H2 => "H-2",
            Self::H3 => "H-3",
            Self::H6 => "H-6",
            Self::H7 => "H-7",
        }
    }

    /// The NV index of the certificate (EK Credential Profile, section 2.2.1).
    pub fn certificate_index(self) -> u32 {
        match self {
            Self::L1 => 0x01c0_0002,
            Self::L2 => 0x01c0_000a,
            Self::H1 => 0x01c0_0012,
            Self::H2 => 0x01c0_0014,
            Self::H3 => 0x01c0_0016,
            Self::H6 => 0x01c0_001c,
            Self::H7 => 0x01c0_001e,
        }
    }

    /// The template as TPMT_PUBLIC. A nonce or template index that a manufacturer stored beside the
    /// certificate is not read: brokers accept default templates only.
    pub(super) fn public(self) -> Vec<u8> {
        let low = Area {
            name_alg: ALG_SHA256,
            attributes: ENDORSEMENT_LOW,
            policy: &POLICY_A_SHA256,
            symmetric: &AES_128_CFB,
        };
        let high = Area { attributes: ENDORSEMENT_HIGH, policy: &POLICY_B_SHA256, ..low };
        let strong = Area {
            name_alg: ALG_SHA384,
            attributes: ENDORSEMENT_HIGH,
            policy: &POLICY_B_SHA384,
            symmetric: &AES_256_CFB,
        };
        match self {
            Self::L1 => low.rsa(2048, &[0; 256]),
            Self::L2 => low.ecc(&ALG_NULL, CURVE_P256, &[0; P256_COORDINATE], &[0; P256_COORDINATE]),
            Self::H1 => high.rsa(2048, &[]),
            Self::H2 => high.ecc(&ALG_NULL, CURVE_P256, &[], &[]),
            Self::H3 => strong.ecc(&ALG_NULL, CURVE_P384, &[], &[]),
            Self::H6 => strong.rsa(3072, &[]),
            Self::H7 => strong.rsa(4096, &[]),
        }
    }

    pub(super) fn name_hash(self) -> NameHash {
        match self {
            Self::L1 | Self::L2 | Self::H1 | Self::H2 => NameHash::Sha256,
            Self::H3 | Self::H6 | Self::H7 => NameHash::Sha384,
        }
    }

    /// The other branch of the key's PolicyOR; None when its policy is PolicyA alone.
    pub(super) fn policy_c(self) -> Option<&'static [u8]> {
        match self {
            Self::L1 | Self::L2 => None,
            Self::H1 | Self::H2 => Some(&POLICY_C_SHA256),
            Self::H3 | Self::H6 | Self::H7 => Some(&POLICY_C_SHA384),
        }
    }
}

/// The attestation key: P-256, ECDSA with SHA-256, restricted, a primary of the endorsement hierarchy.
pub(super) fn attestation_key() -> Vec<u8> {
    let area = Area {
        name_alg: ALG_SHA256,
        attributes: OURS | RESTRICTED | SIGN,
        policy: &[],
        symmetric: &ALG_NULL,
    };
    area.ecc(&ALG_ECDSA_SHA256, CURVE_P256, ATTESTATION_KEY_LABEL, &[0; P256_COORDINATE])
}

/// The storage root key: TCG's P-256 template with noDA.
pub(super) fn storage_key() -> Vec<u8> {
    let area = Area { name_alg: ALG_SHA256, attributes: STORAGE, policy: &[], symmetric: &AES_128_CFB };
    area.ecc(&ALG_NULL, CURVE_P256, &[0; P256_COORDINATE], &[0; P256_COORDINATE])
}

/// Whether identity keys may live under the key with this public area: a storage key of this TPM that sets noDA.
pub(super) fn is_storage_key(public: &[u8]) -> bool {
    let attributes = public.get(4..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_be_bytes);
    attributes.is_some_and(|attributes| attributes & (STORAGE | SIGN) == STORAGE)
}

/// An identity key: P-256, signs whatever it is given. The scheme is left open, as TLS software asks for its own.
pub(super) fn identity_key() -> Vec<u8> {
    let mut public = identity_key_prefix();
    public.extend(sized(&[]));
    public.extend(sized(&[]));
    public
}

/// The public point (uncompressed, SEC 1) of a TPMT_PUBLIC made from the identity key template; None for any
/// other key.
pub(super) fn identity_key_point(public: &[u8]) -> Option<[u8; 1 + 2 * P256_COORDINATE]> {
    let unique = public.strip_prefix(identity_key_prefix().as_slice())?;
    let (x, rest) = split_sized(unique)?;
    let (y, rest) = split_sized(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let point = [vec![0x04], padded(x)?, padded(y)?].concat();
    point.try_into().ok()
}

/// Some TPMs drop the leading zeros of a coordinate.
fn padded(coordinate: &[u8]) -> Option<Vec<u8>> {
    let missing = P256_COORDINATE.checked_sub(coordinate.len())?;
    Some([vec![0; missing].as_slice(), coordinate].concat())
}

fn identity_key_prefix() -> Vec<u8> {
    let area = Area { name_alg: ALG_SHA256, attributes: OURS | SIGN, policy: &[], symmetric: &ALG_NULL };
    area.ecc_parameters(&ALG_NULL, CURVE_P256)
}

/// What all public areas have in common.
#[derive(Clone, Copy)]
struct Area<'a> {
    name_alg: u16,
    attributes: u32,
    policy: &'a [u8],
    symmetric: &'a [u8],
}

impl Area<'_> {
    fn start(&self, kind: u16) -> Vec<u8> {
        let mut bytes = [kind.to_be_bytes(), self.name_alg.to_be_bytes()].concat();
        bytes.extend(self.attributes.to_be_bytes());
        bytes.extend(sized(self.policy));
        bytes.extend(self.symmetric);
        bytes
    }

    /// `unique` is the modulus; the exponent 0 stands for 65537.
    fn rsa(&self, key_bits: u16, unique: &[u8]) -> Vec<u8> {
        let mut bytes = self.start(ALG_RSA);
        bytes.extend(ALG_NULL);
        bytes.extend(key_bits.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(sized(unique));
        bytes
    }

    fn ecc(&self, scheme: &[u8], curve: u16, x: &[u8], y: &[u8]) -> Vec<u8> {
        let mut bytes = self.ecc_parameters(scheme, curve);
        bytes.extend(sized(x));
        bytes.extend(sized(y));
        bytes
    }

    fn ecc_parameters(&self, scheme: &[u8], curve: u16) -> Vec<u8> {
        let mut bytes = self.start(ALG_ECC);
        bytes.extend(scheme);
        bytes.extend(curve.to_be_bytes());
        bytes.extend(ALG_NULL);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, digest};

    const CC_POLICY_SECRET: [u8; 4] = [0x00, 0x00, 0x01, 0x51];
    const CC_POLICY_OR: [u8; 4] = [0x00, 0x00, 0x01, 0x71];
    const RH_ENDORSEMENT: [u8; 4] = [0x40, 0x00, 0x00, 0x0b];

    /// PolicySecret extends twice, the second time with the (empty) policyRef (PolicyUpdate, part 3).
    fn policy_a(hash: &'static Algorithm) -> Vec<u8> {
        let zeros = vec![0; hash.output_len()];
        let first = digest(hash, &[zeros.as_slice(), &CC_POLICY_SECRET, &RH_ENDORSEMENT].concat());
        digest(hash, first.as_ref()).as_ref().to_vec()
    }

    fn policy_b(hash: &'static Algorithm, policy_c: &[u8]) -> Vec<u8> {
        let zeros = vec![0; hash.output_len()];
        digest(hash, &[zeros.as_slice(), &CC_POLICY_OR, &policy_a(hash), policy_c].concat()).as_ref().to_vec()
    }

    #[test]
    fn the_policies_are_what_their_definitions_compute() {
        assert_eq!(policy_a(&SHA256), POLICY_A_SHA256);
        assert_eq!(policy_b(&SHA256, &POLICY_C_SHA256), POLICY_B_SHA256);
        assert_eq!(policy_b(&SHA384, &POLICY_C_SHA384), POLICY_B_SHA384);
    }

    #[test]
    fn object_attributes_are_the_documented_words() {
        assert_eq!(ENDORSEMENT_LOW, 0x0003_00b2);
        assert_eq!(ENDORSEMENT_HIGH, 0x0003_00f2);
        assert_eq!(STORAGE, 0x0003_0472);
        assert_eq!(OURS | RESTRICTED | SIGN, 0x0005_0472);
        assert_eq!(OURS | SIGN, 0x0004_0472);
    }

    #[test]
    fn an_identity_point_is_padded_and_other_keys_have_none() {
        let mut public = identity_key_prefix();
        public.extend(sized(&[7; 31]));
        public.extend(sized(&[9; 32]));
        let point = identity_key_point(&public).unwrap();
        assert_eq!(point[..3], [4, 0, 7]);
        assert_eq!(point[64], 9);
        assert_eq!(identity_key_point(&attestation_key()), None);
        public.push(0);
        assert_eq!(identity_key_point(&public), None);
    }

    #[test]
    fn a_storage_key_without_no_da_is_not_suitable() {
        assert!(is_storage_key(&storage_key()));
        assert!(!is_storage_key(&EkTemplate::H2.public()));
        assert!(!is_storage_key(&identity_key()));
        assert!(!is_storage_key(&[]));
    }
}
