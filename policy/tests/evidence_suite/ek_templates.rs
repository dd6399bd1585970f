//! Every default template of the TCG EK Credential Profile is accepted or refused by name.

use policy::tpm::public::{EkError, EkPublic, PublicError};

use super::rig::tpm2b;

const LOW: u32 = 0x0003_00b2;
const HIGH: u32 = 0x0003_00f2;
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
const POLICY_B: [&str; 3] = [
    "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0",
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12",
    "b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a429c41a6b269571d57edb25fbdb1838425608b413cd616a5f6db5b6071af99bea",
];

/// A template: name, nameAlg, attributes, policy, bits of AES, and the curve or the bits of the modulus.
struct Template {
    name: &'static str,
    hash: u16,
    attributes: u32,
    policy: &'static str,
    aes: u16,
    key: Key,
}

enum Key {
    Curve(u16, usize),
    Rsa(u16),
}

impl Template {
    /// Its `TPMT_PUBLIC` with some key.
    fn public(&self) -> Vec<u8> {
        let kind: u16 = if matches!(self.key, Key::Rsa(_)) { 0x0001 } else { 0x0023 };
        let mut out = [kind.to_be_bytes(), self.hash.to_be_bytes()].concat();
        out.extend(self.attributes.to_be_bytes());
        out.extend(tpm2b(&hex::decode(self.policy).unwrap()));
        // AES in CFB mode; the scheme is null.
        let mut words = vec![0x0006, self.aes, 0x0043, 0x0010];
        match self.key {
            // The key derivation is null.
            Key::Curve(curve, _) => words.extend([curve, 0x0010]),
            Key::Rsa(bits) => words.push(bits),
        }
        words.iter().for_each(|word| out.extend(word.to_be_bytes()));
        match self.key {
            Key::Curve(_, length) => {
                out.extend(tpm2b(&vec![1; length]));
                out.extend(tpm2b(&vec![2; length]));
            }
            Key::Rsa(bits) => {
                out.extend([0; 4]);
                out.extend(tpm2b(&vec![0xff; usize::from(bits) / 8]));
            }
        }
        out
    }
}

const fn of(name: &'static str, hash: u16, policy: &'static str, aes: u16, key: Key) -> Template {
    Template { name, hash, attributes: HIGH, policy, aes, key }
}

fn templates() -> [Template; 8] {
    let [sha256, sha384, sha512] = POLICY_B;
    [
        Template { attributes: LOW, ..of("L-1", 0x000b, POLICY_A, 128, Key::Rsa(2048)) },
        Template { attributes: LOW, ..of("L-2", 0x000b, POLICY_A, 128, Key::Curve(0x0003, 32)) },
        of("H-1", 0x000b, sha256, 128, Key::Rsa(2048)),
        of("H-2", 0x000b, sha256, 128, Key::Curve(0x0003, 32)),
        of("H-3", 0x000c, sha384, 256, Key::Curve(0x0004, 48)),
        of("H-4", 0x000d, sha512, 256, Key::Curve(0x0005, 66)),
        of("H-6", 0x000c, sha384, 256, Key::Rsa(3072)),
        of("H-7", 0x000c, sha384, 256, Key::Rsa(4096)),
    ]
}

#[test]
fn every_default_template_is_recognised() {
    for template in templates() {
        let ek = EkPublic::parse(&template.public()).unwrap_or_else(|e| panic!("{}: {e}", template.name));
        assert_eq!((ek.template(), ek.aes_bits()), (template.name, template.aes));
    }
}

#[test]
fn h_5_is_refused_by_its_curve() {
    // TPM_ECC_SM2_P256 and SM3.
    let template = of("H-5", 0x000b, POLICY_B[0], 128, Key::Curve(0x0020, 32));
    let error = EkPublic::parse(&template.public()).unwrap_err();
    assert_eq!(error, EkError::Public(PublicError::Curve(0x0020)));
    let sm3 = of("H-5", 0x0012, POLICY_B[0], 128, Key::Curve(0x0020, 32));
    assert_eq!(EkPublic::parse(&sm3.public()).unwrap_err(), EkError::Public(PublicError::NameAlg(0x0012)));
}

#[test]
fn each_template_is_held_to_its_own_policy_and_cipher() {
    for mut template in templates() {
        let name = template.name;
        let policy = std::mem::take(&mut template.policy);
        let refused = |field| EkError::Template { template: name, field };
        assert_eq!(EkPublic::parse(&template.public()).unwrap_err(), refused("authPolicy"));
        template.policy = policy;
        template.aes = 384 - template.aes;
        assert_eq!(EkPublic::parse(&template.public()).unwrap_err(), refused("symmetric algorithm"));
    }
}

#[test]
fn other_sizes_of_rsa_are_refused_by_their_size() {
    let template = of("none", 0x000b, POLICY_B[0], 128, Key::Rsa(1024));
    assert_eq!(EkPublic::parse(&template.public()).unwrap_err(), EkError::RsaBits(1024));
}
