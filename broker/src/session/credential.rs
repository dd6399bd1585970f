//! Makes a credential that only one TPM opens, for one AK only (TPM 2.0 Part 1, 24).
//!
//! This is the random half: it draws seed and ephemeral key and does the public-key operation. What
//! follows from the seed is pure and lives in [`policy::tpm::credential`].

use aws_lc_rs::agreement::{self, Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, EphemeralPrivateKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
    OaepPublicEncryptingKey, PublicEncryptingKey,
};
use policy::tpm::alg::HashAlg;
use policy::tpm::credential::{
    OAEP_LABEL, SECRET_LEN, Seed, ecc_encrypted_secret, ecc_seed, id_object, seed_len,
};
use policy::tpm::public::{Curve, EkPublic, Name, PublicKey};
use zeroize::Zeroizing;

use super::Refusal;
use crate::ports::Entropy;

/// What the device's TPM opens.
#[derive(Debug)]
pub struct Credential {
    /// TPM2B_ID_OBJECT contents.
    pub blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET contents.
    pub encrypted_secret: Vec<u8>,
}

/// A credential with `secret` for the AK named `ak_name` in the TPM of `ek`.
pub fn make(
    ek: &EkPublic,
    ak_name: &Name,
    secret: &[u8; SECRET_LEN],
    entropy: &dyn Entropy,
) -> Result<Credential, Refusal> {
    let (seed, encrypted_secret) = match ek.key() {
        PublicKey::Rsa { .. } => rsa_seed(ek, entropy)?,
        PublicKey::Ecc { curve, point } => agreed_seed(ek, *curve, point)?,
    };
    let blob = id_object(ek, &seed, ak_name, secret).map_err(Refusal::internal)?;
    Ok(Credential { blob, encrypted_secret })
}

fn rsa_seed(ek: &EkPublic, entropy: &dyn Entropy) -> Result<(Seed, Vec<u8>), Refusal> {
    let mut bytes = Zeroizing::new(vec![0; seed_len(ek)]);
    entropy.fill(&mut bytes).map_err(Refusal::internal)?;
    let unusable = |_| Refusal::malformed("the EK is no RSA key that can encrypt".to_owned());
    let key = PublicEncryptingKey::from_der(&ek.spki_der()).map_err(|_| unusable(()))?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| unusable(()))?;
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let len = key
        .encrypt(oaep(ek.hash())?, &bytes, &mut ciphertext, Some(OAEP_LABEL))
        .map_err(|_| unusable(()))?
        .len();
    ciphertext.truncate(len);
    Ok((Seed::new(ek, &bytes).map_err(Refusal::internal)?, ciphertext))
}

fn oaep(hash: HashAlg) -> Result<&'static OaepAlgorithm, Refusal> {
    match hash {
        HashAlg::Sha256 => Ok(&OAEP_SHA256_MGF1SHA256),
        HashAlg::Sha384 => Ok(&OAEP_SHA384_MGF1SHA384),
        HashAlg::Sha512 => Ok(&OAEP_SHA512_MGF1SHA512),
        HashAlg::Sha1 => Err(Refusal::malformed("a SHA-1 EK is not accepted".to_owned())),
    }
}

/// Agrees with a fresh key; the agreement refuses a point that is not on the curve.
fn agreed_seed(ek: &EkPublic, curve: Curve, point: &[u8]) -> Result<(Seed, Vec<u8>), Refusal> {
    let algorithm = ecdh(curve);
    let mine = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new()).map_err(Refusal::internal)?;
    let public = mine.compute_public_key().map_err(Refusal::internal)?;
    let peer = agreement::UnparsedPublicKey::new(algorithm, point);
    let off_curve = || Refusal::malformed("the EK's point is not on its curve".to_owned());
    let seed = agreement::agree_ephemeral(mine, peer, off_curve(), |shared_x| {
        ecc_seed(ek, shared_x, public.as_ref()).map_err(Refusal::internal)
    })?;
    let encrypted = ecc_encrypted_secret(ek, public.as_ref()).map_err(Refusal::internal)?;
    Ok((seed, encrypted))
}

const fn ecdh(curve: Curve) -> &'static Algorithm {
    match curve {
        Curve::P256 => &ECDH_P256,
        Curve::P384 => &ECDH_P384,
        Curve::P521 => &ECDH_P521,
    }
}
