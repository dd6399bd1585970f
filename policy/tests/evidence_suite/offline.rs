//! Folders of evidence: which bank counts, and quotes of several banks.

use policy::evidence::offline::{
    Folder, OfflineEvidence, Parsed, QuoteError, QuoteFiles, RefutedError, UnusableError,
};
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::PcrValues;

use crate::rig::{AK_ATTRIBUTES, Forged, Key, boot, pcrs_after, quote_info, write_log};

const NONCE: &[u8] = b"nonce";
const SHA1: u16 = 0x0004;
const SHA256: u16 = 0x000b;

fn text(values: &PcrValues) -> String {
    values.iter().map(|(pcr, value)| format!("{}:{pcr}:{value}\n", values.bank())).collect()
}

fn concatenated(banks: &[&PcrValues]) -> Vec<u8> {
    banks.iter().flat_map(|values| values.iter().flat_map(|(_, value)| value.as_bytes().to_vec())).collect()
}

/// Reads and verifies a folder with a quote of these selections over these bytes.
fn quoted(
    pcrs: &str,
    selections: &[(u16, [u8; 3])],
    hashed: &[u8],
) -> Result<Result<OfflineEvidence, RefutedError>, UnusableError> {
    let (key, log) = (Key::new(), write_log(&boot()));
    let body = quote_info(selections, HashAlg::Sha256.hash(&[hashed]).as_bytes());
    let attest = Forged { magic: 0xff54_4347, kind: 0x8018, extra_data: NONCE.to_vec(), body }.bytes();
    let (signature, ak) = (key.sign(&attest), key.public(AK_ATTRIBUTES));
    let quote = QuoteFiles { attest: &attest, signature: &signature, ak: &ak, nonce: NONCE };
    let folder = Folder { firmware_log: &log, pcrs: pcrs.as_bytes(), quote: Some(quote) };
    Parsed::parse(&folder).map(Parsed::verify)
}

#[test]
fn a_quote_of_several_banks_is_hashed_in_its_own_order() {
    let [sha1, sha256] = [HashAlg::Sha1, HashAlg::Sha256].map(|bank| pcrs_after(&boot(), bank, 0));
    let pcrs = text(&sha1) + &text(&sha256);
    let all = [0xff, 0xff, 0];
    let order = [(SHA256, all), (SHA1, all)];
    let evidence = quoted(&pcrs, &order, &concatenated(&[&sha256, &sha1])).unwrap().unwrap();
    assert_eq!(evidence.measurements().bank(), HashAlg::Sha256);
    assert!(evidence.quote().unwrap().restricted_key);

    let permuted = quoted(&pcrs, &order, &concatenated(&[&sha1, &sha256])).unwrap().unwrap_err();
    assert!(matches!(permuted, RefutedError::Quote(QuoteError::PcrDigest { .. })), "{permuted:?}");
    let twice = [(SHA256, all), (SHA256, all)];
    let twice = quoted(&pcrs, &twice, &concatenated(&[&sha256, &sha256])).unwrap().unwrap_err();
    assert!(matches!(twice, RefutedError::Quote(QuoteError::Selection { .. })), "{twice:?}");
}

#[test]
fn a_quote_must_cover_exactly_what_is_written_down() {
    let values = pcrs_after(&boot(), HashAlg::Sha256, 0);
    let hashed = concatenated(&[&values]);
    for bitmap in [[0xff, 0x7f, 0], [0xff, 0xff, 1], [0, 0, 0x81]] {
        let error = quoted(&text(&values), &[(SHA256, bitmap)], &hashed).unwrap().unwrap_err();
        assert!(matches!(error, RefutedError::Quote(QuoteError::Selection { .. })), "{bitmap:?}: {error:?}");
    }
}

#[test]
fn sha_1_proves_nothing_quoted_or_not() {
    let [sha1, sha256] = [HashAlg::Sha1, HashAlg::Sha256].map(|bank| pcrs_after(&boot(), bank, 0));
    // Strong values beside it do not help a weak quote.
    let pcrs = text(&sha1) + &text(&sha256);
    let weak = quoted(&pcrs, &[(SHA1, [0xff, 0xff, 0])], &concatenated(&[&sha1]));
    assert_eq!(weak.unwrap_err(), UnusableError::WeakBank);
    let log = write_log(&boot());
    let folder = |pcrs: &str| {
        let folder = Folder { firmware_log: &log, pcrs: pcrs.as_bytes(), quote: None };
        Parsed::parse(&folder).map(|parsed| parsed.verify().unwrap().measurements().bank())
    };
    assert_eq!(folder(&pcrs), Ok(HashAlg::Sha256));
    assert_eq!(folder(&text(&sha1)), Err(UnusableError::WeakBank));
    let sha384 = format!("sha384:0:{}", "00".repeat(48));
    assert_eq!(folder(&sha384), Err(UnusableError::NoBank));
    let quoted = quoted(&sha384, &[(0x000c, [1, 0, 0])], &[0; 48]);
    assert_eq!(quoted.unwrap_err(), UnusableError::QuotedBank(HashAlg::Sha384));
}
