//! How much a peer may make us read. Every bound is a named constant with its reason.
//!
//! A bound is compared before memory is taken for what it bounds, so hostile bytes cost at most a
//! small multiple of their own length.

/// Longest firmware event log in bytes. Of 116 collected logs the largest are 256 KiB, padding
/// included (the area that ACPI reserves); four times that leaves room for firmware to come.
pub const MAX_EVENT_LOG_BYTES: usize = 1024 * 1024;

/// Most events in a firmware log. Collected logs hold at most a few hundred; an event takes at
/// least 16 bytes in the log and less than ten times that in memory.
pub const MAX_EVENTS: usize = 10_000;

/// Most banks that a log's header may list: `HASH_COUNT` of the TPM reference code is 16 at most
/// (TPM 2.0 Part 2, 10.9.7, `TPML_PCR_SELECTION`).
pub const MAX_BANKS: u32 = 16;

/// Longest digest of any bank in bytes: SHA-512 and SHA3-512.
pub const MAX_DIGEST_BYTES: usize = 64;

/// Longest `TPMT_PUBLIC` in bytes: an RSA 4096 key with a SHA-512 policy takes less than 700.
pub const MAX_PUBLIC_BYTES: usize = 1024;

/// Longest `TPMS_ATTEST` in bytes: with every variable part at its bound a quote takes about 350.
pub const MAX_ATTEST_BYTES: usize = 1024;

/// Longest `TPMT_SIGNATURE` in bytes: RSA 4096 takes 518.
pub const MAX_SIGNATURE_BYTES: usize = 1024;

/// Longest RSA modulus in bytes: RSA 4096, the largest key of the TCG EK Credential Profile (H-7).
pub const MAX_RSA_BYTES: usize = 512;

/// Longest coordinate of an elliptic curve point in bytes: P-521.
pub const MAX_COORDINATE_BYTES: usize = 66;

/// Longest `TPM2B_NAME` in bytes: algorithm id and a SHA-512 digest.
pub const MAX_NAME_BYTES: usize = 2 + MAX_DIGEST_BYTES;

/// Longest description of an event in characters; descriptions are for people and lines wrap.
pub const MAX_DESCRIPTION: usize = 200;

/// Longest IMA list, or part of one, in bytes: 50,000 records with RSA signatures take about 20 MiB.
pub const MAX_IMA_BYTES: usize = 64 * 1024 * 1024;

/// Most records of an IMA list, or of a part: several times what a busy server measures in one boot.
/// A shortest record has 33 bytes and costs three hashes.
pub const MAX_IMA_RECORDS: usize = 250_000;

/// Longest template name in bytes. The longest standard one has 10; a list of fields is one as well.
pub const MAX_IMA_NAME: usize = 64;

/// Length to which the template `ima` pads a file's name before it is hashed, the terminator included
/// (`IMA_EVENT_NAME_LEN_MAX + 1` of Linux).
pub const IMA_LEGACY_NAME: usize = 256;

/// Longest certificate request in bytes: one for a P-256 key without extensions has some 250.
pub const MAX_CSR_BYTES: usize = 4096;

/// Most software keys of one device that are certified at once. Everything that a device holds is revoked in one
/// transaction of 100 keys: eight zones with two roles and four certificates each, their eight lists, a dozen records
/// around them, and four of these with three certificates and a list each.
pub const MAX_SOFTWARE_KEYS: usize = 4;
