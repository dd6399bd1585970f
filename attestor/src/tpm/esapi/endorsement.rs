//! Endorsement keys, their certificates, and the opening of credential challenges.

use tss_esapi::{
    Context,
    constants::{CapabilityType, PropertyTag, SessionType},
    handles::{AuthHandle, KeyHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, SessionHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{Hierarchy, NvAuth},
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        CapabilityData, Digest, DigestList, EncryptedSecret, IdObject, MaxNvBuffer, Nonce, Public,
        SymmetricDefinition, TaggedProperty, TaggedTpmPropertyList,
    },
    traits::Marshall,
};

use super::{
    attestation::with_attestation_key,
    authorized,
    fault::{self, failed_with},
    handles_from, with_primary,
};
use crate::tpm::{
    Credential, EkTemplate, Endorsement, EndorsementKey, OtherCertificate, Secret, TpmFault, TpmModel, ascii,
    certificate::{split_chain, trim_certificate},
    template::NameHash,
};

/// First NV index that TCG gives to endorsement (EK Credential Profile, section 2.2.1).
const FIRST_INDEX: u32 = 0x01c0_0000;
/// NV indices of the certificate chain.
const CHAIN_INDICES: std::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;
/// Longest chain read, in bytes: some ten certificates; a TPM has less NV than this.
const MAX_CHAIN: usize = 32 * 1024;
/// Bytes in one TPM2_NV_Read where the TPM does not say: the least that part 2 allows is smaller than any found.
const NV_READ_DEFAULT: u32 = 512;
/// Where TCG puts certificates of keys that are not used here (EK Credential Profile, section 2.2.1).
const OTHER_INDICES: [(u32, &str); 2] = [(0x01c0_0018, "p521"), (0x01c0_001a, "sm2")];
/// The fixed properties from TPM_PT_FAMILY_INDICATOR to TPM_PT_FIRMWARE_VERSION_2 (part 2, table 25), in one answer.
const PROPERTIES: (u32, u32) = (0x100, 13);
const VENDOR_STRINGS: [PropertyTag; 4] = [
    PropertyTag::VendorString1,
    PropertyTag::VendorString2,
    PropertyTag::VendorString3,
    PropertyTag::VendorString4,
];
/// Templates made where no certificate says which ones the manufacturer meant.
const WITHOUT_CERTIFICATE: [EkTemplate; 2] = [EkTemplate::L1, EkTemplate::L2];

pub(super) fn read(context: &mut Context) -> Result<Endorsement, TpmFault> {
    let indices = handles_from(context, FIRST_INDEX)?;
    let certified: Vec<EkTemplate> = EkTemplate::ALL
        .into_iter()
        .filter(|template| indices.contains(&template.certificate_index()))
        .collect();
    let keys = if certified.is_empty() {
        uncertified_keys(context)?
    } else {
        certified.into_iter().map(|template| certified_key(context, template)).collect::<Result<_, _>>()?
    };
    let properties = properties(context)?;
    let value = |tag| properties.find(tag).map(TaggedProperty::value);
    let required = |tag| value(tag).ok_or(TpmFault::UnexpectedAnswer { what: "lack of a property" });
    let (high, low) = (required(PropertyTag::FirmwareVersion1)?, required(PropertyTag::FirmwareVersion2)?);
    Ok(Endorsement {
        keys,
        chain: read_chain(context, &indices)?,
        manufacturer: required(PropertyTag::Manufacturer)?,
        firmware_version: u64::from(high) << 32 | u64::from(low),
        model: TpmModel {
            vendor: VENDOR_STRINGS.into_iter().filter_map(value).map(ascii).collect(),
            revision: value(PropertyTag::Revision),
        },
        others: other_certificates(context, &indices)?,
    })
}

fn certified_key(context: &mut Context, template: EkTemplate) -> Result<EndorsementKey, TpmFault> {
    let certificate = certificate_at(context, template.certificate_index())?;
    Ok(EndorsementKey { template, public: public_area(context, template)?, certificate })
}

fn other_certificates(context: &mut Context, indices: &[u32]) -> Result<Vec<OtherCertificate>, TpmFault> {
    let present = OTHER_INDICES.into_iter().filter(|(index, _)| indices.contains(index));
    present
        .map(|(index, kind)| {
            Ok(OtherCertificate { index, kind, certificate: certificate_at(context, index)? })
        })
        .collect()
}

fn certificate_at(context: &mut Context, index: u32) -> Result<Option<Vec<u8>>, TpmFault> {
    let trimmed = trim_certificate(&read_nv(context, index)?).inspect_err(|reason| {
        let index = format!("{index:#x}");
        tracing::warn!(%index, %reason, "the TPM holds an unreadable EK certificate; enrolling without it");
    });
    Ok(trimmed.ok())
}

/// A TPM need not know both RSA-2048 and P-256.
fn uncertified_keys(context: &mut Context) -> Result<Vec<EndorsementKey>, TpmFault> {
    let mut keys = Vec::new();
    for template in WITHOUT_CERTIFICATE {
        match public_area(context, template) {
            Ok(public) => keys.push(EndorsementKey { template, public, certificate: None }),
            Err(TpmFault::Code { code, .. })
                if [fault::RC_VALUE, fault::RC_CURVE].contains(&fault::error_number(code)) => {}
            Err(fault) => return Err(fault),
        }
    }
    if keys.is_empty() {
        Err(TpmFault::UnexpectedAnswer { what: "lack of endorsement keys" })
    } else {
        Ok(keys)
    }
}

fn public_area(context: &mut Context, template: EkTemplate) -> Result<Vec<u8>, TpmFault> {
    with_endorsement_key(context, template, |_, _, public| Ok(public.marshall()?))
}

fn with_endorsement_key<T>(
    context: &mut Context,
    template: EkTemplate,
    work: impl FnOnce(&mut Context, KeyHandle, Public) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    with_primary(context, Hierarchy::Endorsement, &template.public(), work)
}

fn read_chain(context: &mut Context, indices: &[u32]) -> Result<Vec<Vec<u8>>, TpmFault> {
    let mut stored = Vec::new();
    for &index in indices.iter().filter(|index| CHAIN_INDICES.contains(index)) {
        stored.extend(read_nv(context, index)?);
        if stored.len() > MAX_CHAIN {
            return Err(TpmFault::UnexpectedAnswer { what: "length of the EK certificate chain" });
        }
    }
    Ok(split_chain(&stored).unwrap_or_else(|reason| {
        tracing::warn!(%reason, "the TPM holds an unreadable EK certificate chain; enrolling without it");
        Vec::new()
    }))
}

fn properties(context: &mut Context) -> Result<TaggedTpmPropertyList, TpmFault> {
    let (first, count) = PROPERTIES;
    match context.get_capability(CapabilityType::TpmProperties, first, count)? {
        (CapabilityData::TpmProperties(properties), _) => Ok(properties),
        _ => Err(TpmFault::UnexpectedAnswer { what: "capability" }),
    }
}

fn read_nv(context: &mut Context, index: u32) -> Result<Vec<u8>, TpmFault> {
    let mut object = context.tr_from_tpm_public(NvIndexTpmHandle::new(index)?.into())?;
    let content = read_nv_object(context, object);
    let closed = context.tr_close(&mut object);
    let content = content?;
    closed?;
    Ok(content)
}

fn read_nv_object(context: &mut Context, object: ObjectHandle) -> Result<Vec<u8>, TpmFault> {
    let index = NvIndexHandle::from(object);
    let (public, _) = context.nv_read_public(index)?;
    let size = public.data_size();
    let limit = context.get_tpm_property(PropertyTag::NvBufferMax)?.unwrap_or(NV_READ_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(MaxNvBuffer::MAX_SIZE).clamp(1, MaxNvBuffer::MAX_SIZE);
    let mut content = Vec::with_capacity(size);
    while content.len() < size {
        let (length, offset) = (limit.min(size - content.len()), content.len());
        let too_long = |_| TpmFault::UnexpectedAnswer { what: "NV size" };
        let (length, offset) = (length.try_into().map_err(too_long)?, offset.try_into().map_err(too_long)?);
        let part =
            authorized(context, |context| context.nv_read(NvAuth::NvIndex(index), index, length, offset))?;
        if part.value().is_empty() {
            return Err(TpmFault::UnexpectedAnswer { what: "NV content" });
        }
        content.extend_from_slice(part.value());
    }
    Ok(content)
}

pub(super) fn activate(
    context: &mut Context,
    template: EkTemplate,
    credential: &Credential,
) -> Result<Secret, TpmFault> {
    let malformed = |what| move |_| TpmFault::Malformed { what };
    let id_object = IdObject::try_from(credential.id_object.as_slice())
        .map_err(malformed("the challenge's credential blob"))?;
    let secret = EncryptedSecret::try_from(credential.encrypted_secret.as_slice())
        .map_err(malformed("the challenge's encrypted secret"))?;
    with_attestation_key(context, |context, attestation_key, _| {
        with_endorsement_key(context, template, |context, endorsement_key, _| {
            with_endorsement_policy(context, template, |context, policy| {
                let sessions = (Some(AuthSession::Password), Some(policy), None);
                let opened = context.execute_with_sessions(sessions, |context| {
                    context.activate_credential(attestation_key, endorsement_key, id_object, secret)
                });
                opened.map(|digest| Secret::new(digest.value().to_vec())).map_err(credential_fault)
            })
        })
    })
}

fn credential_fault(error: tss_esapi::Error) -> TpmFault {
    let mismatch = [fault::RC_INTEGRITY, fault::RC_SIZE, fault::RC_VALUE, fault::RC_ECC_POINT];
    match failed_with(error, &mismatch) {
        Some(code) => TpmFault::CredentialOfAnotherTpm { code },
        None => error.into(),
    }
}

/// Lends a policy session that satisfies the key's policy. High-range keys would take a password as well, but
/// endorsement keys do not set noDA: their password stops working while the TPM is locked, the policy does not.
fn with_endorsement_policy<T>(
    context: &mut Context,
    template: EkTemplate,
    work: impl FnOnce(&mut Context, AuthSession) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    let hash = match template.name_hash() {
        NameHash::Sha256 => HashingAlgorithm::Sha256,
        NameHash::Sha384 => HashingAlgorithm::Sha384,
    };
    let symmetric = SymmetricDefinition::AES_128_CFB;
    let session = context
        .start_auth_session(None, None, None, SessionType::Policy, symmetric, hash)?
        .ok_or(TpmFault::UnexpectedAnswer { what: "session" })?;
    let result = satisfy_policy(context, template, session).and_then(|()| work(context, session));
    let flushed = context.flush_context(SessionHandle::from(session).into());
    let value = result?;
    flushed?;
    Ok(value)
}

fn satisfy_policy(context: &mut Context, template: EkTemplate, session: AuthSession) -> Result<(), TpmFault> {
    let session = PolicySession::try_from(session)?;
    let (nonce, cp_hash, policy_ref) = (Nonce::default(), Digest::default(), Nonce::default());
    authorized(context, |context| {
        context.policy_secret(session, AuthHandle::Endorsement, nonce, cp_hash, policy_ref, None)
    })?;
    if let Some(policy_c) = template.policy_c() {
        let mut branches = DigestList::new();
        branches.add(context.policy_get_digest(session)?)?;
        branches.add(policy_c.try_into()?)?;
        context.policy_or(session, branches)?;
    }
    Ok(())
}
