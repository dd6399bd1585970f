//! The endorsement key: which public areas may receive a credential.

use super::alg::HashAlg;
use super::public::{Curve, Name, ObjectAttributes, Public, PublicError, PublicKey, Scheme, Symmetric};
use crate::digest::Digest;

/// A public area is no endorsement key that is accepted here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EkError {
    /// Not a public area.
    #[error("the endorsement key's public area cannot be read; send it as the TPM returned it")]
    Public(#[source] PublicError),
    /// An RSA size that no template has.
    #[error("no default template has an RSA key of {0} bits; use the EK of template L-1, H-1, H-6 or H-7")]
    RsaBits(usize),
    /// The public area is not the one that its template makes.
    #[error(
        "the endorsement key's {field} is not that of TCG template {template}; create it with the default template"
    )]
    Template {
        /// The template that its key fits.
        template: &'static str,
        /// The first field that differs.
        field: &'static str,
    },
}

/// An endorsement key whose public area equals a default template of the TCG EK Credential Profile
/// for TPM 2.0 (version 2.6, appendix B), so it decrypts credentials of its own TPM and nothing else.
///
/// Whether a manufacturer certifies it, or anybody vouches for it, is decided elsewhere: any program
/// can make these bytes. A point is compared with its curve by the key agreement that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkPublic {
    public: Public,
    template: &'static Template,
}

impl EkPublic {
    /// Parses a `TPMT_PUBLIC` and compares it with the default templates.
    pub fn parse(tpmt_public: &[u8]) -> Result<Self, EkError> {
        let public = Public::parse(tpmt_public).map_err(EkError::Public)?;
        let template = Template::of(&public)?;
        match template.first_difference(&public) {
            None => Ok(Self { public, template }),
            Some(field) => Err(EkError::Template { template: template.name, field }),
        }
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo: the EK's name in records, quarantine and
    /// registration. It depends on the key alone, not on the template that loaded it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.public.spki_digest()
    }

    /// The TPM Name, computed from the public area.
    #[must_use]
    pub fn name(&self) -> Name {
        self.public.name()
    }

    /// The public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        self.public.key()
    }

    /// The key as SubjectPublicKeyInfo in DER, always `rsaEncryption` for RSA; a certificate may say
    /// id-RSAES-OAEP for the same key, so compare key with key.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.public.spki_der()
    }

    /// The template: `L-1`, `L-2`, `H-1` to `H-4`, `H-6`, `H-7`.
    #[must_use]
    pub const fn template(&self) -> &'static str {
        self.template.name
    }

    /// The hash of seeds, key derivation and integrity.
    #[must_use]
    pub const fn hash(&self) -> HashAlg {
        self.template.hash
    }

    /// Size in bits of the AES key that protects a credential.
    #[must_use]
    pub const fn aes_bits(&self) -> u16 {
        self.template.aes_bits
    }
}

/// What a template fixes; the rest is the same in all of them.
#[derive(Debug, PartialEq, Eq)]
struct Template {
    name: &'static str,
    kind: Kind,
    attributes: ObjectAttributes,
    hash: HashAlg,
    policy: &'static [u8],
    aes_bits: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa(usize),
    Ecc(Curve),
}

/// Attributes of the low range (appendix B.3): the policy alone authorizes use.
const LOW: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .union(ObjectAttributes::FIXED_PARENT)
    .union(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .union(ObjectAttributes::ADMIN_WITH_POLICY)
    .union(ObjectAttributes::RESTRICTED)
    .union(ObjectAttributes::DECRYPT);
/// Attributes of the high range (appendix B.4): a password authorizes use as well.
const HIGH: ObjectAttributes = LOW.union(ObjectAttributes::USER_WITH_AUTH);

/// `PolicySecret(TPM_RH_ENDORSEMENT)` (appendix B.6.2, PolicyA).
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// `PolicyOR(PolicyA, PolicyC)`, where PolicyC is `PolicyAuthorizeNV` (appendix B.6.5, PolicyB).
const POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3, 0xa3,
    0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07,
    0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47,
    0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];
const POLICY_B_SHA512: [u8; 64] = [
    0xb8, 0x22, 0x1c, 0xa6, 0x9e, 0x85, 0x50, 0xa4, 0x91, 0x4d, 0xe3, 0xfa, 0xa6, 0xa1, 0x8c, 0x07, 0x2c,
    0xc0, 0x12, 0x08, 0x07, 0x3a, 0x92, 0x8d, 0x5d, 0x66, 0xd5, 0x9e, 0xf7, 0x9e, 0x49, 0xa4, 0x29, 0xc4,
    0x1a, 0x6b, 0x26, 0x95, 0x71, 0xd5, 0x7e, 0xdb, 0x25, 0xfb, 0xdb, 0x18, 0x38, 0x42, 0x56, 0x08, 0xb4,
    0x13, 0xcd, 0x61, 0x6a, 0x5f, 0x6d, 0xb5, 0xb6, 0x07, 0x1a, 0xf9, 0x9b, 0xea,
];

macro_rules! templates {
    ($($name:literal $kind:expr, $attributes:ident, $hash:ident, $policy:ident, $aes:literal;)*) => {
        [$(Template {
            name: $name,
            kind: $kind,
            attributes: $attributes,
            hash: HashAlg::$hash,
            policy: &$policy,
            aes_bits: $aes,
        }),*]
    };
}

/// Every template but H-5, which is SM2 and cannot be computed here.
static TEMPLATES: [Template; 8] = templates! {
    "L-1" Kind::Rsa(2048), LOW, Sha256, POLICY_A_SHA256, 128;
    "L-2" Kind::Ecc(Curve::P256), LOW, Sha256, POLICY_A_SHA256, 128;
    "H-1" Kind::Rsa(2048), HIGH, Sha256, POLICY_B_SHA256, 128;
    "H-2" Kind::Ecc(Curve::P256), HIGH, Sha256, POLICY_B_SHA256, 128;
    "H-3" Kind::Ecc(Curve::P384), HIGH, Sha384, POLICY_B_SHA384, 256;
    "H-4" Kind::Ecc(Curve::P521), HIGH, Sha512, POLICY_B_SHA512, 256;
    "H-6" Kind::Rsa(3072), HIGH, Sha384, POLICY_B_SHA384, 256;
    "H-7" Kind::Rsa(4096), HIGH, Sha384, POLICY_B_SHA384, 256;
};

/// `TPM_ALG_AES` and `TPM_ALG_CFB`.
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;

impl Template {
    /// The template of this kind of key; of two, the one whose attributes it has.
    fn of(public: &Public) -> Result<&'static Self, EkError> {
        let kind = match public.key() {
            PublicKey::Rsa { modulus, .. } => Kind::Rsa(modulus.len().saturating_mul(8)),
            PublicKey::Ecc { curve, .. } => Kind::Ecc(*curve),
        };
        let of_kind = || TEMPLATES.iter().filter(|template| template.kind == kind);
        let same_attributes = of_kind().find(|template| template.attributes == public.attributes());
        same_attributes.or_else(|| of_kind().next()).ok_or(match kind {
            Kind::Rsa(bits) => EkError::RsaBits(bits),
            // Every curve that Curve names has a template.
            Kind::Ecc(_) => EkError::Template { template: "L-2", field: "curve" },
        })
    }

    fn first_difference(&self, public: &Public) -> Option<&'static str> {
        let symmetric = Symmetric { alg: AES, key_bits: self.aes_bits, mode: CFB };
        [
            (public.attributes == self.attributes, "attributes"),
            (public.name_alg == self.hash, "nameAlg"),
            (public.auth_policy == self.policy, "authPolicy"),
            (public.symmetric == Some(symmetric), "symmetric algorithm"),
            (public.scheme == Scheme::Null, "scheme"),
            (public.default_parameters, "exponent or kdf"),
        ]
        .into_iter()
        .find_map(|(same, field)| (!same).then_some(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy digests from their definition: TPM 2.0 Part 3, 23.4 (PolicySecret), 23.6
    /// (PolicyOR), 23.22 (PolicyAuthorizeNV), and the index of the EK Credential Profile.
    fn policies(hash: HashAlg, index: u32) -> [Vec<u8>; 2] {
        let zero = vec![0; hash.len()];
        let endorsement = 0x4000_000b_u32.to_be_bytes();
        let secret = hash.hash(&[&zero, &0x151_u32.to_be_bytes(), &endorsement]);
        let a = hash.hash(&[secret.as_bytes()]);
        let len = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
        let nv_public = [
            &index.to_be_bytes()[..],
            &hash.id().to_be_bytes(),
            &0x220f_1008_u32.to_be_bytes(),
            &len(hash.len()),
            a.as_bytes(),
            &len(hash.len() + 2),
        ]
        .concat();
        let name = Name::of(hash, &nv_public).to_bytes();
        let c = hash.hash(&[&zero, &0x192_u32.to_be_bytes(), &name]);
        let b = hash.hash(&[&zero, &0x171_u32.to_be_bytes(), a.as_bytes(), c.as_bytes()]);
        [a.as_bytes().to_vec(), b.as_bytes().to_vec()]
    }

    #[test]
    fn policy_constants_follow_from_their_definition() {
        assert_eq!(policies(HashAlg::Sha256, 0x01c0_7f01), [&POLICY_A_SHA256[..], &POLICY_B_SHA256]);
        assert_eq!(policies(HashAlg::Sha384, 0x01c0_7f02)[1], POLICY_B_SHA384);
        assert_eq!(policies(HashAlg::Sha512, 0x01c0_7f03)[1], POLICY_B_SHA512);
    }

    #[test]
    fn attributes_are_the_profiles() {
        assert_eq!((LOW.bits(), HIGH.bits()), (0x0003_00b2, 0x0003_00f2));
    }
}
