//! Compares a Secure Boot state with what a release asks of it.

use std::collections::BTreeSet;

use super::claims::Claim;
use super::finding::{EventPlace, FindingKind};
use crate::digest::Digest;
use crate::eventlog::event::EventType;
use crate::evidence::secure_boot::{Authority, KeyDatabase, OtherEvent, SecureBootState, Voucher};
use crate::reference::manifest::secure_boot::{KeyVariable, SecureBootRule};

/// Most authorities that a sentence names.
const TOLD_AT_MOST: usize = 3;

/// A way in which a state differs from what a release asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum StateMismatch<'a> {
    NotTold,
    Off { state: &'a SecureBootState },
    Keys { variable: KeyVariable, expected: &'a BTreeSet<Digest>, seen: &'a KeyDatabase },
    Authority { expected: &'a BTreeSet<Digest>, seen: &'a Authority },
    NotUnderstood { seen: &'a OtherEvent },
}

/// Everything in which `seen` differs from `rule`; empty means accepted.
pub(super) fn mismatches<'a>(
    rule: &'a SecureBootRule,
    seen: Option<&'a SecureBootState>,
) -> Vec<StateMismatch<'a>> {
    let Some(state) = seen else { return vec![StateMismatch::NotTold] };
    let mut found = Vec::new();
    if !state.is_enabled() {
        found.push(StateMismatch::Off { state });
    }
    for variable in KeyVariable::ALL {
        let seen = variable.of(state);
        if let Some(expected) = rule.keys(variable).filter(|keys| !keys.contains(&seen.digest())) {
            found.push(StateMismatch::Keys { variable, expected, seen });
        }
    }
    if let Some(expected) = rule.authorities() {
        let unlisted = state.authorities().iter().filter(|seen| !expected.contains(&seen.identity()));
        found.extend(unlisted.map(|seen| StateMismatch::Authority { expected, seen }));
    }
    found.extend(state.others().iter().map(|seen| StateMismatch::NotUnderstood { seen }));
    found
}

impl StateMismatch<'_> {
    /// The claim that it bears on: who vouched for what was started, or how the machine is set up.
    pub(super) const fn claim(self) -> Claim {
        match self {
            Self::Authority { .. } => Claim::Executables,
            Self::NotTold | Self::Off { .. } | Self::Keys { .. } | Self::NotUnderstood { .. } => {
                Claim::Configuration
            }
        }
    }

    pub(super) const fn kind(self) -> FindingKind {
        match self {
            Self::Authority { .. } => FindingKind::Authority,
            Self::NotTold | Self::Off { .. } | Self::Keys { .. } | Self::NotUnderstood { .. } => {
                FindingKind::SecureBootState
            }
        }
    }

    /// The variable, the authority or the event that it is about.
    pub(super) fn name(self) -> Option<String> {
        match self {
            Self::NotTold => None,
            Self::Off { .. } => Some("SecureBoot".to_owned()),
            Self::Keys { variable, .. } => Some(variable.name().to_owned()),
            Self::Authority { seen, .. } => Some(called(seen)),
            Self::NotUnderstood { seen } => Some(seen.text.clone()),
        }
    }

    /// Its event; the log's words are bound here, but told as they are everywhere.
    pub(super) fn event(self) -> Option<EventPlace> {
        let place = |position, event_type, says: &str| EventPlace {
            position,
            event_type,
            log_says: Some(says.to_owned()),
        };
        match self {
            Self::NotTold | Self::Off { .. } => None,
            Self::Keys { variable, seen, .. } => {
                Some(place(seen.position(), EventType::EFI_VARIABLE_DRIVER_CONFIG, variable.name()))
            }
            Self::Authority { seen, .. } => {
                Some(place(seen.position, EventType::EFI_VARIABLE_AUTHORITY, &seen.variable))
            }
            Self::NotUnderstood { seen } => Some(place(seen.position, seen.event_type, &seen.text)),
        }
    }

    pub(super) fn expected(self) -> impl Iterator<Item = Digest> {
        let expected = match self {
            Self::Keys { expected, .. } | Self::Authority { expected, .. } => Some(expected),
            Self::NotTold | Self::Off { .. } | Self::NotUnderstood { .. } => None,
        };
        expected.into_iter().flatten().copied().collect::<Vec<_>>().into_iter()
    }

    pub(super) const fn seen(self) -> Option<Digest> {
        match self {
            Self::NotTold | Self::Off { .. } => None,
            Self::Keys { seen, .. } => Some(seen.digest()),
            Self::Authority { seen, .. } => Some(seen.identity()),
            Self::NotUnderstood { seen } => Some(seen.digest),
        }
    }

    /// What is wrong, and what to do.
    pub(super) fn sentence(self, release: &str) -> String {
        match self {
            Self::NotTold => format!(
                "{release} asks for Secure Boot and the evidence does not tell its state; attest again with the whole firmware log"
            ),
            Self::Off { state } => {
                let why = match (state.is_in_setup_mode(), state.audit_mode()) {
                    (true, _) => "the firmware is in setup mode, so anybody may replace its keys",
                    (false, Some(true)) => "the firmware is in audit mode, so it starts everything",
                    (false, _) => "SecureBoot is 0",
                };
                format!(
                    "PCR 7: {why}, and {release} asks for Secure Boot; turn it on in the firmware's setup"
                )
            }
            Self::Keys { variable, seen, .. } => format!(
                "PCR 7, event {}: the contents of {} are none of those that {release} lists; enroll the listed keys, or sign a release that accepts these",
                seen.position(),
                variable.name()
            ),
            Self::Authority { seen, .. } => format!(
                "PCR 7, event {}: {} vouched for what was started, and {release} does not list it; boot what a listed authority signed, or sign a release that accepts this one",
                seen.position,
                called(seen)
            ),
            Self::NotUnderstood { seen } => format!(
                "PCR 7, event {} ({}): `{}` is nothing that [secure_boot] of {release} can accept; turn off what causes it, or state the whole value of PCR 7 instead",
                seen.position, seen.event_type, seen.text
            ),
        }
    }
}

/// The state in words, for a value of PCR 7 that says nothing to people.
pub(super) fn in_words(state: &SecureBootState) -> String {
    if !state.is_enabled() {
        return "Secure Boot is off".to_owned();
    }
    let vouched: Vec<String> = state
        .authorities()
        .iter()
        .filter(|authority| authority.is_of_firmware())
        .take(TOLD_AT_MOST)
        .map(called)
        .collect();
    match vouched.is_empty() {
        true => "Secure Boot is on".to_owned(),
        false => format!("Secure Boot is on, {} vouched for what was started", vouched.join(" and ")),
    }
}

/// An authority in words: where it is from, and its subject.
fn called(authority: &Authority) -> String {
    let subject = match &authority.voucher {
        Voucher::Certificate(name) => name.subject(),
        Voucher::Hash(_) | Voucher::Sbat { .. } | Voucher::Variable { .. } => None,
    };
    subject.map_or_else(
        || authority.variable.clone(),
        |subject| format!("{subject} (of {})", authority.variable),
    )
}
