//! What vouched for an image: told by firmware as an entry of db, by shim as an entry of its own lists.

use super::state::{Authority, CertificateName, Voucher};
use crate::digest::Digest;
use crate::eventlog::typed::Guid;
use crate::eventlog::typed::signature_list::Signature;
use crate::eventlog::typed::variable::Variable;
use crate::x509::Certificate;

/// Longest text of a revocation level: today's has some hundred bytes.
const MAX_SBAT: usize = 4096;
/// Bytes of the owner in front of an entry.
const OWNER: usize = 16;

/// The authority that the event at `position` measures. `db` is the measured database; `None` if the authority
/// should be in it and is not.
pub(super) fn identify(position: usize, told: &Variable<'_>, db: &[Signature<'_>]) -> Option<Authority> {
    let (owner, voucher) = match (told.guid, told.name.as_str()) {
        (Guid::IMAGE_SECURITY_DATABASE, "db") => entry_of_db(told, db)?,
        (Guid::SHIM_LOCK, "Shim") => (None, certificate(told, told.value)),
        (Guid::SHIM_LOCK, "SbatLevel") => (None, sbat(told)),
        (Guid::SHIM_LOCK, "MokList" | "MokListRT" | "vendor_db")
        | (Guid::IMAGE_SECURITY_DATABASE, "vendor_db") => entry(told),
        _ => (None, Voucher::Variable { digest: told.digest() }),
    };
    Some(Authority { position, guid: told.guid, variable: told.name.clone(), owner, voucher })
}

/// Firmware measures the entry as it stands in db, with its owner; older shim measures it without.
fn entry_of_db(told: &Variable<'_>, db: &[Signature<'_>]) -> Option<(Option<Guid>, Voucher)> {
    let is_told = |entry: &&Signature<'_>| {
        let without_owner = told.value.strip_prefix(&entry.owner.0).unwrap_or(told.value);
        without_owner == entry.data
    };
    let entry = db.iter().find(is_told)?;
    let voucher = match (entry.kind, Digest::try_from(entry.data)) {
        (Guid::CERT_X509, _) => Voucher::Certificate(CertificateName::of(entry.data)),
        (Guid::CERT_SHA256, Ok(digest)) => Voucher::Hash(digest),
        _ => Voucher::Variable { digest: told.digest() },
    };
    Some((Some(entry.owner), voucher))
}

/// An entry of a list that is not measured in PCR 7: what it is shows only in the entry itself.
fn entry(told: &Variable<'_>) -> (Option<Guid>, Voucher) {
    let Some((owner, data)) = told.value.split_first_chunk::<OWNER>() else {
        return (None, Voucher::Variable { digest: told.digest() });
    };
    let voucher = match Digest::try_from(data) {
        Ok(digest) => Voucher::Hash(digest),
        Err(_) => certificate(told, data),
    };
    (Some(Guid(*owner)), voucher)
}

fn certificate(told: &Variable<'_>, der: &[u8]) -> Voucher {
    match Certificate::parse(der) {
        Ok(_) => Voucher::Certificate(CertificateName::of(der)),
        Err(_) => Voucher::Variable { digest: told.digest() },
    }
}

fn sbat(told: &Variable<'_>) -> Voucher {
    let text = std::str::from_utf8(told.value).ok().filter(|text| text.len() <= MAX_SBAT);
    Voucher::Sbat {
        digest: told.digest(),
        text: text.map(|text| text.trim_end_matches(['\0', '\n']).to_owned()),
    }
}
