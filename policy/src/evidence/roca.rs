//! ROCA (CVE-2017-15361), told from the public key alone.
//!
//! The flawed library made each prime as `k * M + (65537^a mod M)`, where `M` is the product of the first primes
//! (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section 2). So the modulus of such a key is a
//! power of 65537 modulo every prime of `M`, which for 2048 bits are the primes up to 701. A modulus made any
//! other way is so with a chance of 2^-167.
//!
//! Not promised: keys below 2048 bits, whose `M` is smaller; no TPM key that is accepted here is so short.

use crate::tpm::public::PublicKey;
use crate::x509::SubjectKey;

/// The largest prime of `M` for keys of 2048 bits; longer keys have all these and more.
const LAST_PRIME: u32 = 701;
const GENERATOR: u32 = 65_537;

/// An RSA key whose primes can be found from its modulus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RocaKey;

impl RocaKey {
    /// Looks for the fingerprint in a certified key.
    pub(super) fn find_certified(key: &SubjectKey) -> Option<Self> {
        match key {
            SubjectKey::Rsa { modulus, .. } => Self::find(modulus),
            SubjectKey::Ec { .. } => None,
        }
    }

    /// Looks for the fingerprint in a key of a public area.
    pub(super) fn find_public(key: &PublicKey) -> Option<Self> {
        match key {
            PublicKey::Rsa { modulus, .. } => Self::find(modulus),
            PublicKey::Ecc { .. } => None,
        }
    }

    fn find(modulus: &[u8]) -> Option<Self> {
        primes().all(|prime| is_power(remainder(modulus, prime), prime)).then_some(Self)
    }
}

fn primes() -> impl Iterator<Item = u32> {
    (3..=LAST_PRIME).filter(|number| (2..*number).take_while(|d| d * d <= *number).all(|d| number % d != 0))
}

/// The big-endian number modulo `prime`.
fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

/// Whether `number` is a power of 65537 modulo `prime`.
fn is_power(number: u32, prime: u32) -> bool {
    let powers = std::iter::successors(Some(1), |power| Some(power * (GENERATOR % prime) % prime));
    powers.take(usize::try_from(prime).unwrap_or(usize::MAX)).any(|power| power == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test in the way of the flawed library.
    const ROCA: &str = "ca151be24167fd84ac924a0201955943355a0f55c9338fd687ba6e5bfbc365c4ec9bb247078b0e0dc220d1d1d5a9b8a7\
         14b36547948ad8411f5ca3779061a664c74e64b46560fa7f86b38c203040250e5dd0e294bea7681ff0e8e681c3dd68c4\
         7932b82b8381e161611d0c0d9eccbe6dac21ac6a471bf6efce2651cfc05e35c91c02bbefda27006a25370c2a6fa1a8ef\
         ec4259efc0e0eca8d92ed44717fa42d42c808383a54127d42b250f5b4b6d5c85b1c17917d5220fdca10793bab20d0011\
         ad82c980f79552336c69e83520149b0c258b482f1708e2ec8024d7a8994e626408e934dfd9e73c37013dd477690958aa\
         35fb553e01ca1704d3f997414820536f";

    #[test]
    fn a_key_made_in_the_way_of_the_flawed_library_is_found() {
        let modulus = hex::decode(ROCA).unwrap();
        assert_eq!(RocaKey::find(&modulus), Some(RocaKey));
        for byte in 0..modulus.len() {
            let mut other = modulus.clone();
            other[byte] ^= 2;
            assert_eq!(RocaKey::find(&other), None, "byte {byte}");
        }
    }

    #[test]
    fn other_keys_are_not() {
        use aws_lc_rs::rsa::KeySize;
        use aws_lc_rs::signature::{KeyPair, RsaKeyPair};
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
        assert_eq!(RocaKey::find(&modulus), None);
        assert_eq!(RocaKey::find(&[]), None);
    }

    #[test]
    fn the_primes_are_those_of_m() {
        assert_eq!((primes().count(), primes().last()), (125, Some(LAST_PRIME)));
    }
}
