//! From response codes to faults with a remedy (TPM 2.0 part 2, section 6.6; TCG TSS 2.0 overview, table of layers).

use std::error::Error as _;

use tss_esapi::constants::response_code::Tss2ResponseCode;

use crate::tpm::TpmFault;

/// Bits of a code that name the layer it comes from; 0 is the TPM itself.
const LAYER: u32 = 0x00ff_0000;
/// The layer that talks to the device.
const TCTI_LAYER: u32 = 0x000a_0000;
/// A code that names a parameter, handle or session: bit 7 of what the TPM answers.
const FORMAT_ONE: u32 = 0x80;
/// The error number in such a code, with the bit that marks it.
const FORMAT_ONE_ERROR: u32 = 0xbf;

pub(super) const RC_INTEGRITY: u32 = 0x9f;
pub(super) const RC_SIZE: u32 = 0x95;
pub(super) const RC_VALUE: u32 = 0x84;
pub(super) const RC_ECC_POINT: u32 = 0xa7;
pub(super) const RC_CURVE: u32 = 0xa6;
const RC_BAD_AUTH: u32 = 0xa2;
const RC_AUTH_FAIL: u32 = 0x8e;
const RC_OBJECT_MEMORY: u32 = 0x902;
const RC_SESSION_MEMORY: u32 = 0x903;
const RC_YIELDED: u32 = 0x908;
const RC_TESTING: u32 = 0x90a;
const RC_NV_RATE: u32 = 0x920;
const RC_LOCKOUT: u32 = 0x921;
const RC_INITIALIZE: u32 = 0x100;
const RC_FAILURE: u32 = 0x101;
/// TPM_RC_REFERENCE_H0 to S6: a handle or session that the command names is not loaded.
const RC_REFERENCE_FIRST: u32 = 0x910;
const RC_REFERENCE_LAST: u32 = 0x91e;
const RC_RETRY: u32 = 0x922;
const RC_NV_UNAVAILABLE: u32 = 0x923;

impl From<tss_esapi::Error> for TpmFault {
    fn from(error: tss_esapi::Error) -> Self {
        let Some(code) = response_code(error) else {
            return Self::Code { code: 0, words: error.to_string() };
        };
        if code & LAYER == TCTI_LAYER {
            return Self::ConnectionLost { code };
        }
        match error_number(code) {
            RC_LOCKOUT => Self::Lockout,
            RC_INITIALIZE | RC_REFERENCE_FIRST..=RC_REFERENCE_LAST => Self::Reset { code },
            RC_FAILURE => Self::Failure,
            RC_YIELDED | RC_TESTING | RC_RETRY | RC_NV_RATE | RC_NV_UNAVAILABLE => Self::Busy { code },
            RC_OBJECT_MEMORY | RC_SESSION_MEMORY => Self::SlotsFull { code },
            RC_BAD_AUTH | RC_AUTH_FAIL => Self::PasswordSet { code },
            // The wrapper puts every layer's code into the TPM's words: true for the TPM's own codes only.
            _ if code & LAYER == 0 => Self::Code { code, words: error.to_string() },
            _ => Self::Code { code, words: "libtss2 failed".to_owned() },
        }
    }
}

/// The code without parameter, handle or session number, so that it can be compared.
pub(super) fn error_number(code: u32) -> u32 {
    if code & LAYER == 0 && code & FORMAT_ONE != 0 { code & FORMAT_ONE_ERROR } else { code }
}

/// Whether a command failed with one of these error numbers; the code itself then.
pub(super) fn failed_with(error: tss_esapi::Error, numbers: &[u32]) -> Option<u32> {
    response_code(error).filter(|&code| numbers.contains(&error_number(code)))
}

/// The number of a response code. The wrapper keeps it private: the text of the error's source
/// ("... value: 0x921") is the only way to it.
fn response_code(error: tss_esapi::Error) -> Option<u32> {
    let tss_esapi::Error::Tss2Error(code) = error else { return None };
    number(code)
}

fn number(code: Tss2ResponseCode) -> Option<u32> {
    let text = code.source()?.to_string();
    let (_, digits) = text.rsplit_once("0x")?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: u32) -> TpmFault {
        tss_esapi::Error::Tss2Error(Tss2ResponseCode::from(code)).into()
    }

    #[test]
    fn numbers_come_out_of_the_wrapper() {
        for code in [0x921, 0x1df, 0x9a2, 0xa000a] {
            assert_eq!(number(Tss2ResponseCode::from(code)), Some(code));
        }
    }

    #[test]
    fn known_codes_get_their_fault() {
        assert!(matches!(fault(0x921), TpmFault::Lockout));
        assert!(matches!(fault(0x922), TpmFault::Busy { code: 0x922 }));
        assert!(matches!(fault(0x902), TpmFault::SlotsFull { .. }));
        for code in [0x100, 0x910, 0x91e] {
            assert!(matches!(fault(code), TpmFault::Reset { .. }), "{code:#x}");
        }
        assert!(matches!(fault(0x101), TpmFault::Failure));
        // Session 1, session 2.
        assert!(matches!(fault(0x9a2), TpmFault::PasswordSet { .. }));
        assert!(matches!(fault(0xa8e), TpmFault::PasswordSet { .. }));
        assert!(matches!(fault(0xa000a), TpmFault::ConnectionLost { code: 0xa000a }));
    }

    #[test]
    fn an_unknown_code_keeps_its_words_and_number() {
        let text = fault(0x128).to_string();
        assert_eq!(text, "PCR have changed since checked (code 0x128)");
    }

    #[test]
    fn parameter_handle_and_session_numbers_do_not_matter() {
        for code in [0x09f, 0x1df, 0x2df, 0x19f, 0x99f] {
            assert_eq!(error_number(code), RC_INTEGRITY);
        }
    }
}
