//! Quote, PCR values and certified keys, in one batch on the TPM.

use policy::digest::Digest;
use policy::evidence::{Purpose, qualifying_data};
use policy::tpm::attest::Attest;

use super::{Challenge, EvidenceError, Prover, RequestedKey};
use crate::tpm::{Attestation, IdentityKeyBlob, Operation, PcrBank, PcrSelection, PcrValue, Tpm, TpmError};

/// How often PCRs are read and quoted before giving up: they change during boot, then rest.
const ATTEMPTS: u32 = 5;

/// What the TPM said.
pub(super) struct Quoted {
    pub(super) quote: Attestation,
    pub(super) pcr_values: Vec<Vec<u8>>,
    /// One for each key, in their order.
    pub(super) certifications: Vec<Attestation>,
}

pub(super) async fn take(
    prover: &Prover,
    challenge: &Challenge,
    statement: &[u8],
    keys: &[RequestedKey],
) -> Result<Quoted, EvidenceError> {
    let for_quote = qualifying_data(Purpose::Quote, challenge.sealed(), statement);
    let for_certify = qualifying_data(Purpose::Certify, challenge.sealed(), statement);
    let (bank, selection) = (challenge.bank(), challenge.selection());
    let keys: Vec<IdentityKeyBlob> = keys.iter().map(|key| key.key.clone()).collect();
    let batch = move |tpm: &mut dyn Tpm| {
        let mut certifications = Vec::new();
        for key in &keys {
            certifications.push(tpm.certify(key, &for_certify)?);
        }
        Ok((still_quote(tpm, &for_quote, bank, selection)?, certifications))
    };
    let (quoted, certifications) = prover.tpm().run(Operation::Quote, batch).await?;
    let still = quoted.ok_or(EvidenceError::PcrsInMotion { attempts: ATTEMPTS })?;
    Ok(Quoted { quote: still.quote, pcr_values: still.values, certifications })
}

/// A quote and the values that it covers, lowest PCR first.
struct Still {
    quote: Attestation,
    values: Vec<Vec<u8>>,
}

/// None if the PCRs changed in between each time.
fn still_quote(
    tpm: &mut dyn Tpm,
    qualifying_data: &[u8],
    bank: PcrBank,
    selection: PcrSelection,
) -> Result<Option<Still>, TpmError> {
    for _ in 0..ATTEMPTS {
        let values = tpm.read_pcrs(bank, selection)?;
        let quote = tpm.quote(qualifying_data, bank, selection)?;
        if let Some(values) = quoted_values(&quote, values) {
            return Ok(Some(Still { quote, values }));
        }
        tracing::debug!("a PCR changed between read and quote; trying again");
    }
    Ok(None)
}

/// The values, if the quote's digest is theirs. It is made with the hash of the AK's scheme, SHA-256.
fn quoted_values(quote: &Attestation, values: Vec<PcrValue>) -> Option<Vec<Vec<u8>>> {
    let values: Vec<Vec<u8>> = values.into_iter().map(|value| value.digest).collect();
    let parts: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let attest = Attest::parse(&quote.attest).ok()?;
    (attest.quote().ok()?.pcr_digest == Digest::of_parts(&parts).0).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::{
        Credential, EkTemplate, Endorsement, ManufacturerKey, ManufacturerSignature, PcrIndex, Secret,
    };

    /// A TPM whose PCRs change after each of the next reads.
    struct Restless {
        changes: u32,
        value: u8,
    }

    impl Restless {
        fn values(&self, selection: PcrSelection) -> Vec<PcrValue> {
            selection.iter().map(|index| PcrValue { index, digest: vec![self.value; 32] }).collect()
        }
    }

    impl Tpm for Restless {
        fn read_pcrs(&mut self, _: PcrBank, selection: PcrSelection) -> Result<Vec<PcrValue>, TpmError> {
            let read = self.values(selection);
            if let Some(left) = self.changes.checked_sub(1) {
                (self.changes, self.value) = (left, self.value + 1);
            }
            Ok(read)
        }

        fn quote(&mut self, _: &[u8], _: PcrBank, selection: PcrSelection) -> Result<Attestation, TpmError> {
            let values: Vec<_> = self.values(selection).into_iter().map(|value| value.digest).collect();
            let parts: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            // TPMS_ATTEST: magic, type, no signer, no extraData, clock, firmware; one selection of SHA-256, the digest.
            let head = "ff54434780180000000000000000000000000000000000000000000000000000000000";
            let selected = "00000001000b03ffff000020";
            let attest =
                [hex::decode(format!("{head}{selected}")).unwrap(), Digest::of_parts(&parts).0.to_vec()];
            Ok(Attestation { attest: attest.concat(), signature: Vec::new() })
        }

        fn endorsement(&mut self) -> Result<Endorsement, TpmError> {
            unreachable!()
        }
        fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
            unreachable!()
        }
        fn activate(&mut self, _: EkTemplate, _: &Credential) -> Result<Secret, TpmError> {
            unreachable!()
        }
        fn extend(&mut self, _: PcrIndex, _: PcrBank, _: &[u8]) -> Result<(), TpmError> {
            unreachable!()
        }
        fn create_identity_key(&mut self) -> Result<IdentityKeyBlob, TpmError> {
            unreachable!()
        }
        fn certify(&mut self, _: &IdentityKeyBlob, _: &[u8]) -> Result<Attestation, TpmError> {
            unreachable!()
        }
        fn sign_digest(&mut self, _: &IdentityKeyBlob, _: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
            unreachable!()
        }
        fn sign_as_manufacturer(
            &mut self,
            _: &ManufacturerKey,
            _: &[u8],
            _: &[u8],
        ) -> Result<ManufacturerSignature, TpmError> {
            unreachable!()
        }
        fn release(&mut self) {}
    }

    #[test]
    fn a_pcr_that_changes_between_read_and_quote_is_read_again_and_one_that_never_rests_is_said() {
        for changes in 0..=ATTEMPTS {
            let mut tpm = Restless { changes, value: 0 };
            let still = still_quote(&mut tpm, &[], PcrBank::Sha256, PcrSelection::QUOTED).unwrap();
            let values = still.map(|still| still.values);
            // The values sent are those that were quoted, never those of before.
            let quoted = vec![vec![u8::try_from(changes).unwrap(); 32]; 16];
            assert_eq!(values, (changes < ATTEMPTS).then_some(quoted), "after {changes} changes");
        }
    }
}
