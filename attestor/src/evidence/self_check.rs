//! The Verifier's own reading of the evidence, before it is sent: a torn log or a wrong bank gets its name here,
//! on the device, where it can be mended. Of an IMA list it sees only one that is sent whole in the message. The broker
//! decides all the same.

use policy::cause::chain;
use policy::eventlog::ima::verify::ImaPart;
use policy::evidence::verify::{Challenged, verify};
use policy::evidence::{Evidence, HardwareProof, Purpose, Quote, qualifying_data};
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrSelection, PcrValues};
use policy::tpm::public::AttestationKey;
use proto::v1;

use super::{Challenge, List};
use crate::tpm::PcrBank;

/// Logs what the Verifier will object to.
pub(super) fn warn(challenge: &Challenge, request: &v1::CompleteRequest, list: &List) {
    match objection(challenge, request, list) {
        None => tracing::debug!("the evidence verifies here"),
        Some(objection) => tracing::warn!(%objection, "the broker will refuse this evidence"),
    }
}

fn objection(challenge: &Challenge, request: &v1::CompleteRequest, list: &List) -> Option<String> {
    let ak = match AttestationKey::accept(&request.ak_public) {
        Ok(ak) => ak,
        Err(error) => return Some(error.to_string()),
    };
    let [low, middle, high, _] = challenge.mask().to_le_bytes();
    let selection = PcrSelection::from_bitmap(hash(challenge.bank()), [low, middle, high]);
    let evidence = Evidence {
        quote: Quote { attest: request.quote.clone(), signature: request.quote_signature.clone() },
        pcrs: values(&selection, &request.pcr_values),
        firmware_log: request.firmware_log.clone(),
        ima: match list {
            List::InMessage(list) if !list.is_empty() => {
                Some(ImaPart { first: 0, bytes: list.as_slice().into() })
            }
            List::InMessage(_) | List::Rest { .. } | List::InParts(_) => None,
        },
        userspace_log: Some(request.userspace_log.clone()),
        image_log: Some(request.image_log.clone()),
    };
    let challenged = Challenged {
        ak: &ak,
        qualifying_data: qualifying_data(Purpose::Quote, &request.sealed, &request.statement),
        selection,
        hardware: HardwareProof::Unproven,
        ima: None,
    };
    verify(&evidence, &challenged).err().map(|error| chain(&error))
}

fn values(selection: &PcrSelection, sent: &[Vec<u8>]) -> PcrValues {
    let mut values = PcrValues::new(selection.bank);
    for (pcr, value) in selection.iter().zip(sent) {
        if let Some(value) = HashValue::new(selection.bank, value) {
            values.set(pcr, value);
        }
    }
    values
}

const fn hash(bank: PcrBank) -> HashAlg {
    match bank {
        PcrBank::Sha256 => HashAlg::Sha256,
        PcrBank::Sha384 => HashAlg::Sha384,
        PcrBank::Sha512 => HashAlg::Sha512,
    }
}
