//! The result of an offline appraisal, for people and programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::appraisal::claims::Claim;
use policy::appraisal::{OfflineResult, Verdict};
use proto::convert;
use serde::Serialize;

use crate::output::finding::Finding;
use crate::output::table::{Table, Tone};
use crate::output::{Page, View, words};

/// Claims that are shown also when they were not made.
const ALWAYS: [Claim; 4] =
    [Claim::InstanceIdentity, Claim::Configuration, Claim::Executables, Claim::Hardware];

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct AppraisalPage {
    verdict: &'static str,
    pcrs_proven: bool,
    release: Option<String>,
    /// The release that the reasons are against, where none matches.
    closest: Option<String>,
    /// AR4SI values by name; 0 is no claim.
    claims: BTreeMap<&'static str, i8>,
    /// The tier of each value.
    tiers: BTreeMap<&'static str, &'static str>,
    reasons: Vec<Finding>,
    reasons_left_out: usize,
    not_appraised: Vec<String>,
    notes: Vec<String>,
}

/// The word for a verdict, as `ear_status` has it.
const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Affirming => "affirming",
        Verdict::Warning => "warning",
        Verdict::Contraindicated => "contraindicated",
        Verdict::Unappraised => "none",
    }
}

impl AppraisalPage {
    pub(super) fn new(result: &OfflineResult, notes: Vec<String>) -> Self {
        let record = result.record();
        let shown = Claim::ALL
            .into_iter()
            .filter(|claim| ALWAYS.contains(claim) || record.claims.iter().any(|(made, _)| made == *claim));
        let shown: Vec<_> = shown.map(|claim| (claim.name(), record.claims.value(claim))).collect();
        Self {
            verdict: word(record.verdict),
            pcrs_proven: result.pcrs_proven(),
            release: record.release.as_ref().map(ToString::to_string),
            closest: record.closest.as_ref().map(ToString::to_string),
            claims: shown.iter().map(|(name, value)| (*name, value.0)).collect(),
            tiers: shown.iter().map(|(name, value)| (*name, value.tier().name())).collect(),
            reasons: record.findings.iter().map(convert::finding).map(Finding::from).collect(),
            reasons_left_out: record.findings_left_out,
            not_appraised: record.not_appraised.iter().map(|pcr| format!("PCR {pcr}")).collect(),
            notes,
        }
    }
}

impl View for AppraisalPage {
    fn text(&self, page: &Page) -> String {
        let proven = if self.pcrs_proven { "proven by the quote" } else { "unproven" };
        let release = match (&self.release, &self.closest) {
            (Some(release), _) => release.clone(),
            (None, Some(closest)) => format!("none; closest is {closest}"),
            (None, None) => "none".to_owned(),
        };
        let lines = [
            ("verdict", Tone::of_state(self.verdict).paint(self.verdict, page.colour)),
            ("PCR values", proven.to_owned()),
            ("golden release", release),
            ("not appraised", words::list(&self.not_appraised)),
        ];
        let mut text = String::new();
        for (label, value) in lines {
            let _ = writeln!(text, "{label:<15} {value}");
        }
        let mut claims = Table::new(["CLAIM", "VALUE", "TIER"]);
        for (name, value) in &self.claims {
            let tier = self.tiers.get(name).copied().unwrap_or_default();
            claims.row([(*name).to_owned(), value.to_string(), tier.to_owned()]);
        }
        let _ = write!(text, "\n{}", claims.text("no claims", page.colour));
        if !self.reasons.is_empty() {
            text.push_str("\nFound:\n");
            text.extend(self.reasons.iter().map(Finding::text));
        }
        if self.reasons_left_out > 0 {
            let _ = writeln!(text, "  and {} more", self.reasons_left_out);
        }
        if !self.notes.is_empty() {
            text.push_str("\nNotes:\n");
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {}", words::visible(note));
        }
        text
    }
}
