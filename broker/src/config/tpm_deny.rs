//! `[[tpm_deny]]`: TPMs that the operator believes less than their manufacturers do.

use policy::evidence::endorsement::{FirmwareBuild, Manufacturer, ParseFirmwareError, Weight};
use policy::evidence::flaw::{DenyRule, MAX_DENY_RULES};
use serde::Deserialize;

/// Longest reason in characters: it is shown to technicians.
const MAX_WHY: usize = 200;

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    manufacturer: String,
    firmware_before: Option<String>,
    #[serde(default = "contraindicated")]
    hardware: String,
    why: String,
}

fn contraindicated() -> String {
    "contraindicated".to_owned()
}

/// The rules that are meant; what is wrong with them goes to `faults`.
pub(super) fn rules(raw: &[RawRule], faults: &mut Vec<String>) -> Vec<DenyRule> {
    if raw.len() > MAX_DENY_RULES {
        faults.push(format!("tpm_deny: {} rules, at most {MAX_DENY_RULES} are taken", raw.len()));
        return Vec::new();
    }
    let numbered = (1..).zip(raw);
    numbered
        .filter_map(|(number, raw)| {
            let fault = |why: String| faults.push(format!("tpm_deny, rule {number}: {why}"));
            rule(raw).map_err(fault).ok()
        })
        .collect()
}

fn rule(raw: &RawRule) -> Result<DenyRule, String> {
    let manufacturer = Manufacturer::of_code(&raw.manufacturer).ok_or_else(|| {
        format!(
            "manufacturer `{}` is no code of the TCG; write for example IFX, NTC or STM",
            raw.manufacturer
        )
    })?;
    let before = raw.firmware_before.as_deref().map(str::parse::<FirmwareBuild>).transpose();
    let firmware_before = before.map_err(|error: ParseFirmwareError| format!("firmware_before: {error}"))?;
    let weight = match raw.hardware.as_str() {
        "warning" => Weight::Vulnerable,
        "contraindicated" => Weight::Broken,
        other => return Err(format!("hardware: `{other}` is neither `warning` nor `contraindicated`")),
    };
    let why = raw.why.trim();
    if why.is_empty() || why.chars().count() > MAX_WHY || why.chars().any(char::is_control) {
        return Err(format!("why: give the reason in one line of up to {MAX_WHY} characters"));
    }
    Ok(DenyRule { manufacturer, firmware_before, weight, why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<DenyRule>, Vec<String>) {
        #[derive(Deserialize)]
        struct File {
            tpm_deny: Vec<RawRule>,
        }
        let mut faults = Vec::new();
        let rules = rules(&toml::from_str::<File>(text).unwrap().tpm_deny, &mut faults);
        (rules, faults)
    }

    #[test]
    fn rules_are_read_as_they_are_meant() {
        let (rules, faults) = read(
            "tpm_deny = [{ manufacturer = \"IFX\", firmware_before = \"7.62\", why = \"ROCA\" },
                         { manufacturer = \"stm\", hardware = \"warning\", why = \"open bus\" }]",
        );
        assert_eq!(faults, Vec::<String>::new());
        let [first, second] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((first.manufacturer, first.weight), (Manufacturer::INFINEON, Weight::Broken));
        assert_eq!(first.firmware_before, Some(FirmwareBuild([7, 62, 0, 0])));
        assert_eq!((second.manufacturer, second.weight), (Manufacturer::STMICRO, Weight::Vulnerable));
        assert_eq!(second.firmware_before, None);
    }

    #[test]
    fn every_fault_is_told_with_its_rule() {
        let (rules, faults) = read(
            "tpm_deny = [{ manufacturer = \"Infineon AG\", why = \"a\" },
                         { manufacturer = \"IFX\", firmware_before = \"seven\", why = \"a\" },
                         { manufacturer = \"IFX\", hardware = \"bad\", why = \"a\" },
                         { manufacturer = \"IFX\", why = \" \" }]",
        );
        assert_eq!(rules, []);
        for (fault, part) in
            faults.iter().zip(["manufacturer `", "firmware_before: `seven`", "`bad`", "why: "])
        {
            assert!(fault.contains(part), "{fault}");
        }
        assert!(faults.len() == 4 && faults[3].starts_with("tpm_deny, rule 4: "), "{faults:?}");
    }
}
