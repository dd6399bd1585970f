//! What other rules of a zone do to certificates, as plans show it: who loses them, and which live longer than its numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::time::UnixTime;
use proto::v1::{LongerCertificates, LosesCertificates};
use serde::Serialize;

use crate::output::table::Table;
use crate::output::{Page, words};

/// Devices named in one line; `-o json` has them all.
const SHOWN: usize = 3;

/// A device that loses its certificates in a zone.
#[derive(Debug, Serialize)]
pub(super) struct LosesView {
    device: String,
    zone: String,
    reason: String,
    owner: String,
    criticality: String,
}

impl From<LosesCertificates> for LosesView {
    fn from(device: LosesCertificates) -> Self {
        let LosesCertificates { device, zone, reason, owner, criticality } = device;
        Self { device, zone, reason, owner, criticality }
    }
}

/// Who loses what at once; nothing where nobody does. A thousand devices with one fault are one line.
pub(super) fn losing(all: &[LosesView], left_out: u32, page: &Page) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut groups: BTreeMap<(&str, &str), Vec<&LosesView>> = BTreeMap::new();
    for device in all {
        groups.entry((&device.zone, &device.reason)).or_default().push(device);
    }
    let mut table = Table::new(["DEVICES", "ZONE", "CRITICALITY", "WHY"]);
    for ((zone, why), devices) in groups {
        let names: Vec<&str> = devices.iter().take(SHOWN).map(|device| device.device.as_str()).collect();
        let more = devices.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let criticality = devices.iter().map(|device| device.criticality.as_str()).max().unwrap_or_default();
        table.row([
            format!("{}{more}", names.join(", ")),
            zone.to_owned(),
            words::or_dash(criticality),
            words::or_dash(why),
        ]);
    }
    let count = all.len().saturating_add(usize::try_from(left_out).unwrap_or(usize::MAX));
    let devices = words::count(count, "device");
    let mut text = format!("{devices} would lose their certificates at once, connected or not:\n");
    let _ = write!(text, "{}", table.text("", page.colour));
    text
}

/// Certificates that live longer than the shortened numbers of their zone.
#[derive(Debug, Serialize)]
pub(super) struct LongerView {
    zone: String,
    certificates: u32,
    devices: u32,
    until: u64,
}

impl From<LongerCertificates> for LongerView {
    fn from(found: LongerCertificates) -> Self {
        let LongerCertificates { zone, certificates, devices, until } = found;
        Self { zone, certificates, devices, until }
    }
}

impl LongerView {
    pub(super) fn line(&self) -> String {
        let count = |n: u32, thing| words::count(usize::try_from(n).unwrap_or(usize::MAX), thing);
        format!(
            "{} of {} in zone {} live longer than its new numbers say, the last until {}: peers accept them until they end, unless \
             they are revoked (`touchstone device quarantine`)",
            count(self.certificates, "certificate"),
            count(self.devices, "device"),
            words::visible(&self.zone),
            UnixTime(self.until)
        )
    }
}
