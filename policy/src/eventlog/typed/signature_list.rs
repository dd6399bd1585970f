//! Signature databases: the contents of PK, KEK, db, dbx and their kin, a row of `EFI_SIGNATURE_LIST` (UEFI
//! 2.10, 32.4.1).
//!
//! What this does not promise: that a certificate in a list is one, or that anybody trusts it.

use super::guid::Guid;
use crate::reader::{ReadError, Reader};

/// Most signatures of one database: dbx has grown to some five hundred in its first ten years.
pub const MAX_SIGNATURES: usize = 16 * 1024;

/// Bytes before a list's header: type, three lengths.
const LIST_FRONT: u32 = 28;
/// Bytes of a signature before its data: the owner.
const OWNER: u32 = 16;
/// Bytes of a signature that is a SHA-256.
const SHA256_SIGNATURE: u32 = OWNER + 32;

/// One signature, or what it is verified with: `EFI_SIGNATURE_DATA` and the type of its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// What the data is, for example [`Guid::CERT_X509`].
    pub kind: Guid,
    /// Who put it there.
    pub owner: Guid,
    /// A certificate, a digest, or what else the type says.
    pub data: &'a [u8],
}

/// Parses a database, whole. An empty one is a variable that does not exist.
pub fn parse_database(bytes: &[u8]) -> Result<Vec<Signature<'_>>, ReadError> {
    let mut reader = Reader::new(bytes);
    let mut signatures = Vec::new();
    while !reader.is_empty() {
        parse_list(&mut reader, &mut signatures)?;
    }
    Ok(signatures)
}

fn parse_list<'a>(reader: &mut Reader<'a>, into: &mut Vec<Signature<'a>>) -> Result<(), ReadError> {
    let offset = reader.offset();
    let invalid = |what| ReadError::Invalid { offset, what };
    let kind = Guid(reader.array("signature type")?);
    let list_len = reader.u32_le("length of a signature list")?;
    let header_len = reader.u32_le("length of a signature header")?;
    let signature_len = reader.u32_le("length of a signature")?;
    let too_short = invalid("a signature list is shorter than its own front");
    let rest = usize_of(list_len.checked_sub(LIST_FRONT).ok_or(too_short)?);
    let mut list = reader.sub(rest, "signature list")?;
    list.take(usize_of(header_len), "signature header")?;
    if signature_len <= OWNER {
        return Err(invalid("the signatures of a list are too short for an owner and data"));
    }
    if kind == Guid::CERT_SHA256 && signature_len != SHA256_SIGNATURE {
        return Err(invalid("the SHA-256 signatures of a list are not 48 bytes long"));
    }
    while !list.is_empty() {
        if into.len() >= MAX_SIGNATURES {
            return Err(invalid("a signature database has too many signatures"));
        }
        let mut signature = list.sub(usize_of(signature_len), "signature")?;
        let owner = Guid(signature.array("owner of a signature")?);
        into.push(Signature { kind, owner, data: signature.rest() });
    }
    Ok(())
}

fn usize_of(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
