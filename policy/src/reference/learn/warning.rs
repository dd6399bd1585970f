//! What speaks against learning from a device: settings of a workbench, and a TPM whose word is worth less.
//!
//! Warnings are for whoever reviews the draft. What the log says about itself is read for them, and nothing binds
//! all of it: no warning is no proof.

use serde::{Deserialize, Serialize};

use super::ReferenceDevice;
use crate::appraisal::Verdict;
use crate::appraisal::measurements::Measurements;
use crate::evidence::secure_boot::{CertificateName, KeyDatabase, SecureBootState, Voucher};
use crate::evidence::verify::VerifiedEvent;
use crate::tpm::pcr::PcrIndex;

/// Most warnings of one device: more would hide the first ones.
pub const MAX_WARNINGS: usize = 16;
/// PCRs where boot loaders, Linux and systemd-stub log command lines.
const COMMAND_LINES: [u32; 3] = [8, 9, 12];
/// Words in the names of keys that are for tests; the second are those of vendors' samples that were shipped.
const TEST_WORDS: [&str; 8] =
    ["test", "tests", "testing", "snakeoil", "debug", "sample", "demo", "development"];
const TEST_PHRASES: [&str; 2] = ["do not trust", "do not ship"];
/// Options of Linux and systemd that open a shell or take a guard away; with `=` as they begin, else whole.
const DEBUG_OPTIONS: [&str; 21] = [
    "systemd.debug_shell",
    "systemd.debug-shell",
    "rd.systemd.debug_shell",
    "rd.systemd.debug-shell",
    "systemd.debug_shell=",
    "systemd.debug-shell=",
    "rd.shell",
    "rd.break",
    "rd.break=",
    "init=/bin/",
    "rdinit=/bin/",
    "single",
    "emergency",
    "rescue",
    "systemd.unit=rescue",
    "systemd.unit=emergency",
    "ima_appraise=",
    "selinux=0",
    "enforcing=0",
    "lockdown=none",
    "kgdboc=",
];

/// Something to know before a draft is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "warning")]
pub enum LearnWarning {
    /// Firmware verified nothing.
    SecureBootOff,
    /// A key that vouches for images, or decides who may, is called one for tests.
    TestKey {
        /// Where it is: `db`, or the variable of an authority.
        variable: String,
        /// What it is called.
        subject: String,
    },
    /// Firmware tells of debugging.
    DebugMode {
        /// What it says.
        text: String,
    },
    /// A command line has a debugging option.
    DebugOption {
        /// The PCR that the command line is in.
        pcr: u8,
        /// The option.
        option: String,
    },
    /// Something is known against the TPM.
    Tpm {
        /// What.
        sentence: String,
    },
    /// The device is not trusted by what is golden today.
    NotAffirming {
        /// The verdict.
        verdict: Verdict,
    },
}

impl LearnWarning {
    /// A sentence about the device that is called `name`.
    #[must_use]
    pub fn sentence(&self, name: &str) -> String {
        match self {
            Self::SecureBootOff => {
                format!("Secure Boot is off on {name}: the release would accept machines that verify nothing")
            }
            Self::TestKey { variable, subject } => {
                format!("{name} trusts a key for tests in {variable}: {subject}")
            }
            Self::DebugMode { text } => format!("the firmware of {name} tells of debugging: {text}"),
            Self::DebugOption { pcr, option } => {
                format!("a command line of {name} in PCR {pcr} has the debugging option {option}")
            }
            Self::Tpm { sentence } => format!("the TPM of {name} is a weak witness: {sentence}"),
            Self::NotAffirming { verdict } => {
                format!("{name} is itself not affirming: its last appraisal is {verdict}")
            }
        }
    }
}

/// What is to be known about learning from `device`.
pub(super) fn of(device: &ReferenceDevice<'_>) -> Vec<LearnWarning> {
    let seen = &device.last;
    let mut found = Vec::new();
    if let Some(state) = seen.secure_boot() {
        found.extend((!state.is_enabled()).then_some(LearnWarning::SecureBootOff));
        found.extend(test_keys(state));
        let others = state.others().iter().filter(|other| is_about_tests(&other.text));
        found.extend(others.map(|other| LearnWarning::DebugMode { text: other.text.clone() }));
    }
    found.extend(debug_options(seen));
    found.extend(
        seen.flaws()
            .iter()
            .map(|flaw| LearnWarning::Tpm { sentence: format!("{}: {}", flaw.id, flaw.sentence) }),
    );
    let verdict = device.verdict.filter(|verdict| *verdict != Verdict::Affirming);
    found.extend(verdict.map(|verdict| LearnWarning::NotAffirming { verdict }));
    found.truncate(MAX_WARNINGS);
    found
}

fn test_keys(state: &SecureBootState) -> Vec<LearnWarning> {
    let databases: [(&str, &KeyDatabase); 3] = [("PK", state.pk()), ("KEK", state.kek()), ("db", state.db())];
    let listed = databases.iter().flat_map(|(variable, keys)| {
        keys.certificates().iter().map(|certificate| ((*variable).to_owned(), &certificate.name))
    });
    let authorities = state.authorities().iter().filter(|authority| !authority.is_of_firmware());
    let vouching = authorities.filter_map(|authority| match &authority.voucher {
        Voucher::Certificate(name) => Some((authority.variable.clone(), name)),
        Voucher::Hash(_) | Voucher::Sbat { .. } | Voucher::Variable { .. } => None,
    });
    let named = |(variable, name): (String, &CertificateName)| {
        let subject = name.subject().filter(|subject| is_about_tests(subject))?;
        Some(LearnWarning::TestKey { variable, subject })
    };
    listed.chain(vouching).filter_map(named).collect()
}

fn is_about_tests(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    TEST_PHRASES.iter().any(|phrase| text.contains(phrase)) || words.any(|word| TEST_WORDS.contains(&word))
}

fn debug_options(seen: &Measurements<'_>) -> Vec<LearnWarning> {
    let mut found = Vec::new();
    for pcr in COMMAND_LINES.into_iter().filter_map(PcrIndex::new) {
        let texts = seen.events(pcr).filter_map(|event: &VerifiedEvent| event.description.as_deref());
        for option in texts.flat_map(str::split_whitespace).filter(|word| is_debug_option(word)) {
            let warning = LearnWarning::DebugOption { pcr: pcr.number(), option: option.to_owned() };
            if !found.contains(&warning) {
                found.push(warning);
            }
        }
    }
    found
}

fn is_debug_option(word: &str) -> bool {
    if matches!(word, "ima_appraise=enforce" | "systemd.debug_shell=0" | "systemd.debug-shell=0") {
        return false;
    }
    let begins = |option: &&str| option.contains('=') && word.starts_with(*option);
    DEBUG_OPTIONS.iter().any(|option| begins(option) || *option == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_test_keys_are_known_by_their_words() {
        for name in ["CN=DO NOT TRUST - AMI Test PK", "CN=snakeoil", "O=Acme,CN=Test-Key 3"] {
            assert!(is_about_tests(name), "{name}");
        }
        for name in ["CN=Microsoft Windows Production PCA 2011", "CN=Attestation Services", "CN=Contest"] {
            assert!(!is_about_tests(name), "{name}");
        }
    }

    #[test]
    fn options_that_open_a_machine_are_known() {
        for word in
            ["systemd.debug_shell", "systemd.debug-shell=ttyS1", "init=/bin/sh", "ima_appraise=log", "single"]
        {
            assert!(is_debug_option(word), "{word}");
        }
        for word in ["quiet", "init=/usr/lib/systemd/systemd", "ima_appraise=enforce", "singleuser"] {
            assert!(!is_debug_option(word), "{word}");
        }
    }
}
