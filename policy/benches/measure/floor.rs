//! The least that anybody must compute who verifies evidence: what the library alone takes for it, on the same
//! bytes, with keys that were read before.

use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_lc_rs::signature::ParsedPublicKey;
use policy::eventlog::tcg::{Event, EventLog};
use policy::tpm::alg::HashAlg;

use super::signer::library_form;
use super::subject::Subject;

const SHA256_LEN: usize = 32;
/// The value of a PCR.
pub(crate) type Pcr = [u8; SHA256_LEN];

/// One extend.
pub(crate) fn extend(pcr: &mut Pcr, measured: &[u8]) {
    let mut both = [0; 2 * SHA256_LEN];
    let (before, after) = both.split_at_mut(SHA256_LEN);
    before.copy_from_slice(pcr);
    after.copy_from_slice(measured);
    pcr.copy_from_slice(digest(&SHA256, &both).as_ref());
}

/// The hash of a firmware log's bytes, and as many extends as it has events that extend.
pub(crate) struct LogFloor<'a> {
    bytes: &'a [u8],
    extended: Vec<(usize, Vec<u8>)>,
}

impl<'a> LogFloor<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let log = EventLog::parse(bytes).unwrap();
        let extends = |event: &Event<'_>| {
            let digest = event.digest(HashAlg::Sha256)?;
            Some((usize::from(event.extends()?.number()), digest.as_bytes().to_vec()))
        };
        Self { bytes, extended: log.events().iter().filter_map(extends).collect() }
    }

    pub(crate) fn compute(&self) -> (Digest, [Pcr; 24]) {
        let mut pcrs = [[0; SHA256_LEN]; 24];
        for (pcr, measured) in &self.extended {
            extend(&mut pcrs[*pcr], measured);
        }
        (digest(&SHA256, self.bytes), pcrs)
    }
}

/// The check of a quote's signature.
pub(crate) struct QuoteFloor<'a> {
    key: ParsedPublicKey,
    attest: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> QuoteFloor<'a> {
    pub(crate) fn of(subject: &'a Subject) -> Self {
        let quote = &subject.evidence.quote;
        let signature = library_form(&quote.signature);
        Self { key: subject.signer.verifier(), attest: &quote.attest, signature }
    }

    pub(crate) fn compute(&self) {
        self.key.verify_sig(self.attest, &self.signature).unwrap();
    }
}
