//! Releases as people and programs see them.

use proto::v1::Release;
use serde::Serialize;

use crate::output::table::Table;
use crate::output::{Page, View, words};

/// A release that the broker knows.
#[derive(Debug, Serialize)]
pub(super) struct ReleaseView {
    pub(super) product: String,
    pub(super) version: String,
    pub(super) counter: u64,
    pub(super) state: String,
    until: Option<String>,
    pub(super) digest: String,
    pub(super) signers: Vec<String>,
    needed: u32,
    /// Why it counts for nothing; null: it counts.
    pub(super) void: Option<String>,
    applied_at: Option<String>,
    applied_by: Option<String>,
    changed_at: Option<String>,
    changed_by: Option<String>,
    reason: Option<String>,
    accepted: bool,
    wanted: bool,
    running: u32,
    #[serde(skip)]
    applied: u64,
    #[serde(skip)]
    ends: u64,
}

impl From<Release> for ReleaseView {
    fn from(release: Release) -> Self {
        Self {
            product: release.product,
            version: release.version,
            counter: release.counter,
            state: release.state,
            until: words::json_time(release.until),
            digest: words::digest(&release.digest),
            signers: release.signers,
            needed: release.needed,
            void: (!release.void.is_empty()).then_some(release.void),
            applied_at: words::json_time(release.applied_at),
            applied_by: (!release.applied_by.is_empty()).then_some(release.applied_by),
            changed_at: words::json_time(release.changed_at),
            changed_by: (!release.changed_by.is_empty()).then_some(release.changed_by),
            reason: (!release.reason.is_empty()).then_some(release.reason),
            accepted: release.accepted,
            wanted: release.wanted,
            running: release.running,
            applied: release.applied_at,
            ends: release.until,
        }
    }
}

/// Every release.
#[derive(Debug, Serialize)]
pub(super) struct Releases {
    releases: Vec<ReleaseView>,
}

impl From<Vec<Release>> for Releases {
    fn from(releases: Vec<Release>) -> Self {
        Self { releases: releases.into_iter().map(Into::into).collect() }
    }
}

impl View for Releases {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new([
            "RELEASE",
            "STATE",
            "ENDS",
            "WANTED",
            "RUNNING",
            "COUNTER",
            "APPLIED",
            "BY",
            "SIGNED BY",
            "DIGEST",
        ]);
        for release in &self.releases {
            let signers: Vec<_> = release.signers.iter().map(|signer| words::short(signer)).collect();
            table.row([
                format!("{}@{}", release.product, release.version),
                if release.void.is_some() {
                    format!("void ({})", release.state)
                } else {
                    release.state.clone()
                },
                words::left(release.ends, page.now),
                if release.wanted { "yes" } else { "-" }.to_owned(),
                release.running.to_string(),
                release.counter.to_string(),
                words::age(release.applied, page.now),
                words::or_dash(release.applied_by.as_deref().unwrap_or_default()),
                words::list(&signers),
                words::short(&release.digest),
            ]);
        }
        table.text("no golden releases; `touchstone golden learn` writes the first", page.colour)
    }
}
