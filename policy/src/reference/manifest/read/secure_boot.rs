//! Reads the `[secure_boot]` section.

use std::collections::BTreeSet;

use super::{Faults, Fields, MAX_RULE_DIGESTS, ManifestProblem, Value, read_digests};
use crate::digest::Digest;
use crate::reference::manifest::secure_boot::{FIELDS, KeyVariable, SecureBootRule};
use crate::tpm::alg::HashAlg;

/// A section with faults reads as one that asks nothing; the faults keep it from being used.
pub(super) fn read(value: &Value<'_>, faults: &mut Faults<'_>) -> SecureBootRule {
    let Some(table) = value.get_ref().as_table() else {
        faults.wrong_type(value.span(), "secure_boot", "a table", "[secure_boot]");
        return SecureBootRule::default();
    };
    let fields = Fields::new(table, value.span(), FIELDS, faults);
    if let Some(enabled) = fields.required("enabled", "enabled = true", faults)
        && !fields.flag("enabled", faults)
        && enabled.get_ref().as_bool().is_some()
    {
        faults.add(enabled.span(), ManifestProblem::SecureBootOff);
    }
    let mut keys = |variable: KeyVariable| read_list(&fields, variable.field(), faults);
    SecureBootRule {
        pk: keys(KeyVariable::Pk),
        kek: keys(KeyVariable::Kek),
        db: keys(KeyVariable::Db),
        dbx: keys(KeyVariable::Dbx),
        authorities: read_list(&fields, "authorities", faults),
    }
}

fn read_list(
    fields: &Fields<'_, '_>,
    field: &'static str,
    faults: &mut Faults<'_>,
) -> Option<BTreeSet<Digest>> {
    let value = fields.optional(field)?;
    let digests = read_digests(value, field, &[HashAlg::Sha256], MAX_RULE_DIGESTS, faults);
    Some(digests.iter().filter_map(|digest| Digest::try_from(digest.as_bytes()).ok()).collect())
}
