//! For which manufacturers' TPMs a root vouches (row 33 of the checklist).
//!
//! An EK certificate names the TPM's manufacturer, and what is known against a TPM is looked up by that name. So
//! the name must be one that the root may speak for, or a weak authority of one manufacturer could dress its TPMs
//! as another's. What a root may speak for is said in one of two ways:
//!
//! 1. *Declared*: the certificate lies in a folder named after a manufacturer, as in Microsoft's cabinet
//!    (`Infineon/RootCA/...`) or on disk (`tpm-roots/IFX/root.pem`). A certificate in several such folders speaks
//!    for each. This wins.
//! 2. *Named*: else by the organisation in its subject, where a manufacturer runs its own authority.
//!
//! A root that neither says anything about vouches for every TPM: GlobalSign's and VeriSign's serve
//! manufacturers, Microsoft's serves several, software TPMs have roots without organisation. Intermediates are
//! not pinned; a chain is as good as where it ends.

use std::collections::BTreeSet;

use super::tcg::Manufacturer;
use crate::x509::{Certificate, name, oid};

/// Folders of Microsoft's cabinet, and one for Google's vTPM. Pluton is Microsoft's TPM in processors of AMD
/// and Qualcomm, so an EK below their roots may name either.
const FOLDERS: [(&str, &[Manufacturer]); 10] = [
    ("amd", &[Manufacturer::AMD, Manufacturer::MICROSOFT]),
    ("atmel", &[Manufacturer::ATMEL]),
    ("google", &[Manufacturer::GOOGLE]),
    ("infineon", &[Manufacturer::INFINEON]),
    ("intel", &[Manufacturer::INTEL]),
    ("microsoft", &[Manufacturer::MICROSOFT]),
    ("nationz", &[Manufacturer::NATIONZ, Manufacturer::NSING]),
    ("nuvoton", &[Manufacturer::NUVOTON]),
    ("qc", &[Manufacturer::QUALCOMM, Manufacturer::MICROSOFT]),
    ("stmicro", &[Manufacturer::STMICRO]),
];

/// Organisations in the subjects of roots, as the certificates of Microsoft's cabinet and of Google's vTPM spell them.
const ORGANISATIONS: [(&str, &[Manufacturer]); 12] = [
    ("Advanced Micro Devices", &[Manufacturer::AMD, Manufacturer::MICROSOFT]),
    ("Advanced Micro Devices Inc.", &[Manufacturer::AMD, Manufacturer::MICROSOFT]),
    ("Advanced Micro Devices, Inc", &[Manufacturer::AMD, Manufacturer::MICROSOFT]),
    ("Atmel", &[Manufacturer::ATMEL]),
    ("Google LLC", &[Manufacturer::GOOGLE]),
    ("Infineon Technologies AG", &[Manufacturer::INFINEON]),
    ("Intel Corporation", &[Manufacturer::INTEL]),
    ("NSING Technologies Pte. Ltd.", &[Manufacturer::NSING, Manufacturer::NATIONZ]),
    ("Nations Technologies Inc.", &[Manufacturer::NATIONZ, Manufacturer::NSING]),
    ("Nationz Technologies Inc", &[Manufacturer::NATIONZ, Manufacturer::NSING]),
    ("Nuvoton Technology Corporation", &[Manufacturer::NUVOTON]),
    ("STMicroelectronics NV", &[Manufacturer::STMICRO]),
];

/// The manufacturers for whose TPMs a root vouches; all, if nothing says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Vouches {
    declared: BTreeSet<Manufacturer>,
    named: &'static [Manufacturer],
}

impl Vouches {
    /// What `certificate` vouches for, lying at `path`, whose folders may name manufacturers.
    pub(super) fn of(certificate: &Certificate<'_>, path: &str) -> Self {
        let mut folders: Vec<&str> = path.split('/').collect();
        // The last part names the file.
        folders.pop();
        let declared = folders.into_iter().rev().find_map(of_folder).unwrap_or_default();
        Self { declared, named: of_organisation(certificate).unwrap_or_default() }
    }

    /// The same certificate was found in another place too.
    pub(super) fn join(&mut self, other: Self) {
        self.declared.extend(other.declared);
    }

    /// Those it is limited to; nothing if it vouches for all.
    pub(super) fn only(&self) -> Option<Vec<Manufacturer>> {
        match (self.declared.is_empty(), self.named) {
            (false, _) => Some(self.declared.iter().copied().collect()),
            (true, []) => None,
            (true, named) => Some(named.to_vec()),
        }
    }
}

/// The manufacturers that a folder is named after: as in Microsoft's cabinet, or by a code of the TCG.
fn of_folder(folder: &str) -> Option<BTreeSet<Manufacturer>> {
    let known = FOLDERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(folder));
    match known {
        Some((_, manufacturers)) => Some(manufacturers.iter().copied().collect()),
        None => Manufacturer::of_code(folder).map(|one| BTreeSet::from([one])),
    }
}

fn of_organisation(certificate: &Certificate<'_>) -> Option<&'static [Manufacturer]> {
    let attributes = name::attributes(certificate.subject()).ok()?;
    let organisation = attributes.iter().find(|attribute| attribute.oid == oid::ORGANISATION)?.value;
    let known = ORGANISATIONS.iter().find(|(name, _)| name.as_bytes() == organisation);
    known.map(|(_, manufacturers)| *manufacturers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_as_in_the_cabinet_or_by_code() {
        let of = |folder| of_folder(folder).map(|found| found.into_iter().collect::<Vec<_>>());
        assert_eq!(of("STMicro"), Some(vec![Manufacturer::STMICRO]));
        assert_eq!(of("ifx"), Some(vec![Manufacturer::INFINEON]));
        assert_eq!(of("STM"), Some(vec![Manufacturer::STMICRO]));
        assert_eq!(of("QC"), Some(vec![Manufacturer::MICROSOFT, Manufacturer::QUALCOMM]));
        for other in ["", "RootCA", "tpm-roots", "IBM (software TPM)"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
