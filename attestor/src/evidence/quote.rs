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
