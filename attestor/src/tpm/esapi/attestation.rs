//! The attestation key and what it signs; PCRs.

use tss_esapi::{
    Context,
    handles::{KeyHandle, PcrHandle},
    interface_types::{
        algorithm::HashingAlgorithm, resource_handles::Hierarchy, session_handles::AuthSession,
    },
    structures::{
        Attest, AttestInfo, Data, DigestValues, PcrSelectionList, PcrSlot, Public, Signature, SignatureScheme,
    },
    traits::Marshall,
};

use super::{authorized, with_primary};
use crate::tpm::{Attestation, PcrBank, PcrIndex, PcrSelection, PcrValue, TpmFault, template};

/// PCRs asked for in one TPM2_PCR_Read: more digests do not fit one answer (TPML_DIGEST, part 2, section 10.9.1).
const PCRS_PER_READ: usize = 8;

pub(super) fn with_attestation_key<T>(
    context: &mut Context,
    work: impl FnOnce(&mut Context, KeyHandle, Public) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    with_primary(context, Hierarchy::Endorsement, &template::attestation_key(), work)
}

pub(super) fn public_area(context: &mut Context) -> Result<Vec<u8>, TpmFault> {
    with_attestation_key(context, |_, _, public| Ok(public.marshall()?))
}

pub(super) fn quote(
    context: &mut Context,
    qualifying_data: &[u8],
    bank: PcrBank,
    selection: PcrSelection,
) -> Result<Attestation, TpmFault> {
    let data = qualifying(qualifying_data)?;
    let asked = selection_list(bank, selection.iter())?;
    let (attest, signature) = with_attestation_key(context, |context, key, _| {
        let list = asked.clone();
        Ok(authorized(context, |context| context.quote(key, data, SignatureScheme::Null, list))?)
    })?;
    // A TPM quotes a bank that it does not keep without complaint, as an empty selection.
    match attest.attested() {
        AttestInfo::Quote { info } if *info.pcr_selection() == asked => signed(&attest, &signature),
        AttestInfo::Quote { .. } => Err(TpmFault::BankMissing { bank }),
        _ => Err(TpmFault::UnexpectedAnswer { what: "kind of attestation" }),
    }
}

pub(super) fn certify(
    context: &mut Context,
    key: KeyHandle,
    qualifying_data: &[u8],
) -> Result<Attestation, TpmFault> {
    let data = qualifying(qualifying_data)?;
    let passwords = (Some(AuthSession::Password), Some(AuthSession::Password), None);
    let (attest, signature) = with_attestation_key(context, |context, attestation_key, _| {
        Ok(context.execute_with_sessions(passwords, |context| {
            context.certify(key.into(), attestation_key, data, SignatureScheme::Null)
        })?)
    })?;
    signed(&attest, &signature)
}

pub(super) fn read_pcrs(
    context: &mut Context,
    bank: PcrBank,
    selection: PcrSelection,
) -> Result<Vec<PcrValue>, TpmFault> {
    let wanted: Vec<PcrIndex> = selection.iter().collect();
    let mut values = Vec::with_capacity(wanted.len());
    for part in wanted.chunks(PCRS_PER_READ) {
        let list = selection_list(bank, part.iter().copied())?;
        let (_, _, digests) = context.pcr_read(list)?;
        if digests.len() != part.len() {
            return Err(TpmFault::BankMissing { bank });
        }
        let pairs = part.iter().zip(digests.value());
        values.extend(pairs.map(|(&index, digest)| PcrValue { index, digest: digest.value().to_vec() }));
    }
    Ok(values)
}

pub(super) fn extend(
    context: &mut Context,
    pcr: PcrIndex,
    bank: PcrBank,
    digest: &[u8],
) -> Result<(), TpmFault> {
    if digest.len() != bank.digest_length() {
        return Err(TpmFault::Malformed { what: "the digest to extend" });
    }
    let mut digests = DigestValues::new();
    digests.set(hash_of(bank), digest.try_into()?);
    // ESYS numbers its PCR handles like the PCRs (TCG ESAPI specification, ESYS_TR_PCR0 to PCR31).
    let handle = PcrHandle::try_from(u32::from(u8::from(pcr)))?;
    Ok(authorized(context, |context| context.pcr_extend(handle, digests))?)
}

fn qualifying(data: &[u8]) -> Result<Data, TpmFault> {
    Data::try_from(data).map_err(|_| TpmFault::Malformed { what: "the qualifying data" })
}

fn selection_list(
    bank: PcrBank,
    indices: impl Iterator<Item = PcrIndex>,
) -> Result<PcrSelectionList, TpmFault> {
    let slots = indices
        .map(|index| PcrSlot::try_from(1_u32 << u8::from(index)))
        .collect::<tss_esapi::Result<Vec<_>>>()?;
    if slots.is_empty() {
        return Err(TpmFault::Malformed { what: "an empty PCR selection" });
    }
    Ok(PcrSelectionList::builder().with_selection(hash_of(bank), &slots).build()?)
}

fn hash_of(bank: PcrBank) -> HashingAlgorithm {
    match bank {
        PcrBank::Sha256 => HashingAlgorithm::Sha256,
        PcrBank::Sha384 => HashingAlgorithm::Sha384,
        PcrBank::Sha512 => HashingAlgorithm::Sha512,
    }
}

fn signed(attest: &Attest, signature: &Signature) -> Result<Attestation, TpmFault> {
    Ok(Attestation { attest: attest.marshall()?, signature: signature.marshall()? })
}
