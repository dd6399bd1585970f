//! Refuses what says nothing about a device: a release that every machine passes, or one that measured nothing.
//!
//! Of the PCRs that say what was booted at least one must be *told*: by values that no machine has by measuring
//! nothing, by an event that must be there and is not on every machine, or by a closed `[secure_boot]`. What this does
//! not promise: that the release says enough. What it leaves open is told when it is appraised.

use std::collections::{BTreeMap, BTreeSet};

use super::{Faults, ManifestProblem, PlacedRule, Value};
use crate::appraisal::BOOT_PCRS;
use crate::appraisal::early::{CALL, SEPARATOR};
use crate::reference::manifest::secure_boot::SecureBootRule;
use crate::reference::manifest::{EventRule, HollowValue, PcrRules};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// The PCRs that firmware always extends, if only with a separator (TCG PC Client Platform Firmware Profile 1.06,
/// 3.3.4).
const FIRMWARE: std::ops::RangeInclusive<u8> = 0..=7;
/// The PCRs of the boot that also get something else on every machine that measures: a version of the firmware, an
/// application, the state of Secure Boot. An empty PCR 2 says that there are no option ROMs.
const NEVER_EMPTY: [u8; 3] = [0, 4, 7];
/// Contents of separators: both say that there was no error (the profile, 10.4.2).
const SEPARATORS: [&[u8]; 2] = [SEPARATOR, &[0xff; 4]];
/// What the firmware tells on every machine that boots from its options (the profile, 10.4.4).
const ACTIONS: [&[u8]; 2] = [CALL, b"Returning from EFI Application from Boot Option"];

/// Reports values of `pcr` that say nothing.
pub(super) fn report_values(bank: HashAlg, pcr: PcrIndex, list: &Value<'_>, faults: &mut Faults<'_>) {
    for entry in list.get_ref().as_array().into_iter().flat_map(|list| list.iter()) {
        let value = entry.get_ref().as_str().and_then(|text| HashValue::from_hex(bank, text));
        if let Some(what) = value.and_then(|value| hollow(pcr, &value)) {
            faults.add(entry.span(), ManifestProblem::Hollow { pcr: pcr.number(), what });
        }
    }
}

fn hollow(pcr: PcrIndex, value: &HashValue) -> Option<HollowValue> {
    let is = |byte| *value == HashValue::repeated(value.alg(), byte);
    match pcr.number() {
        _ if is(0xff) => Some(HollowValue::Ones),
        pcr if is(0) && FIRMWARE.contains(&pcr) => Some(HollowValue::Zeros),
        pcr if NEVER_EMPTY.contains(&pcr) && is_separator(value) => Some(HollowValue::Separator),
        _ => None,
    }
}

/// Whether a PCR has `value` in which there is a separator and nothing else.
fn is_separator(value: &HashValue) -> bool {
    let bank = value.alg();
    let start = HashValue::repeated(bank, 0);
    let alone = |separator: &[u8]| bank.hash(&[start.as_bytes(), bank.hash(&[separator]).as_bytes()]);
    SEPARATORS.iter().any(|separator| alone(separator) == *value)
}

/// Reports a release that tells nothing of what was booted.
pub(super) fn report(
    values: &BTreeMap<HashAlg, PcrRules>,
    events: &[PlacedRule],
    secure_boot: Option<&SecureBootRule>,
    faults: &mut Faults<'_>,
) {
    // The other PCRs are extended by what was booted: whoever boots something else brings them to any value.
    let of_boot = |pcr: PcrIndex| BOOT_PCRS.contains(&pcr.number());
    let rules: Vec<&PlacedRule> =
        events.iter().filter(|(_, rule)| rule.closes() && of_boot(rule.pcr)).collect();
    let mut lists =
        values.values().flatten().filter(|(pcr, _)| of_boot(**pcr)).map(|(_, list)| list).peekable();
    let has_values = lists.peek().is_some();
    let told =
        lists.any(|list| !list.iter().any(is_separator)) || secure_boot.is_some_and(SecureBootRule::closes);
    let Some(rules) = silent_variant(events, rules).filter(|_| !told) else { return };
    match rules.iter().find(|(_, rule)| rule.is_optional()) {
        _ if rules.is_empty() && !has_values => faults.add(0..0, ManifestProblem::AcceptsEverything),
        Some((at, _)) => faults.add(at.clone(), ManifestProblem::OnlyOptional),
        None => faults.add(rules.first().map_or(0..0, |(at, _)| at.clone()), ManifestProblem::OnlyCommon),
    }
}

/// Those of `rules` that a boot of a variant is held against of which nothing must be there; a boot is of the variant
/// that asks for the least.
fn silent_variant<'e>(events: &'e [PlacedRule], rules: Vec<&'e PlacedRule>) -> Option<Vec<&'e PlacedRule>> {
    let mut names: BTreeSet<Option<&str>> =
        events.iter().filter_map(|(_, rule)| rule.variant.as_deref()).map(Some).collect();
    if names.is_empty() {
        names.insert(None);
    }
    let tells = |name: Option<&str>| rules.iter().any(|(_, rule)| rule.is_of(name) && is_telling(rule));
    let silent = names.into_iter().find(|name| !tells(*name))?;
    Some(rules.into_iter().filter(|(_, rule)| rule.is_of(silent)).collect())
}

/// Whether an event must be there that is not on every machine.
fn is_telling(rule: &EventRule) -> bool {
    let common = |digest: &HashValue| {
        SEPARATORS.iter().chain(&ACTIONS).any(|text| digest.alg().hash(&[text]) == *digest)
    };
    !rule.is_optional() && !HashAlg::ALL.iter().any(|bank| rule.digests(*bank).any(common))
}
