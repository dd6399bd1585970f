//! The three lists as people and programs see them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::advisory::Advisory;
use policy::time::UnixTime;
use proto::v1;
use serde::Serialize;

use crate::output::table::Table;
use crate::output::{Page, View, words};

/// Words for how critical a device is, the most critical first; other words come after these.
const CRITICALITIES: [&str; 5] = ["safety", "critical", "high", "medium", "low"];
/// Components that a row names; `-o json` has all.
const NAMED: usize = 3;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Exposed {
    question: Question,
    proven: Vec<Device>,
    may: Vec<Device>,
    unknown: Vec<Device>,
    /// Devices that proved a release without the component.
    clear: u32,
    releases: Vec<Release>,
}

#[derive(Debug, Serialize)]
struct Question {
    id: String,
    summary: String,
    packages: Vec<String>,
    /// What the advisory says and nobody can look for.
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Device {
    name: String,
    criticality: Option<String>,
    owner: Option<String>,
    zones: Vec<String>,
    release: Option<String>,
    attested_at: Option<String>,
    evidence_age_seconds: Option<u64>,
    reason: Option<String>,
    components: Vec<Component>,
    reached_from: Vec<Peer>,
    #[serde(skip)]
    attested: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Component {
    name: String,
    version: String,
    purl: String,
    sbom: String,
    release: String,
    /// Name, or the source package by which it was recognised.
    matched: String,
    doubt: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Peer {
    zone: String,
    service: Option<String>,
}

#[derive(Debug, Serialize)]
struct Release {
    release: String,
    components: Vec<Component>,
    components_left_out: u32,
    unknown: Vec<String>,
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl Exposed {
    /// What the broker answered.
    pub(super) fn new(question: Advisory, answer: v1::ExposedPart, now: UnixTime) -> Self {
        let releases: Vec<Release> = answer.releases.into_iter().map(Release::from).collect();
        let by_name: BTreeMap<&str, &Release> =
            releases.iter().map(|release| (release.release.as_str(), release)).collect();
        let peers: BTreeMap<String, Vec<Peer>> = answer
            .zones
            .into_iter()
            .map(|zone| (zone.zone, zone.peers.into_iter().map(Peer::from).collect()))
            .collect();
        let (mut proven, mut may, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for device in answer.devices {
            let list = match device.exposure.as_str() {
                "proven" => &mut proven,
                "may" => &mut may,
                // A word of a broker to come is no reason to leave a device out.
                _ => &mut unknown,
            };
            list.push(Device::new(device, &by_name, &peers, now));
        }
        for list in [&mut proven, &mut may, &mut unknown] {
            list.sort_by_cached_key(|device: &Device| (device.rank(), device.name.clone()));
        }
        let question = Question {
            id: question.id,
            summary: question.summary,
            packages: question.affected.iter().map(|one| one.package.to_string()).collect(),
            left_out: question.notes,
        };
        Self { question, proven, may, unknown, clear: answer.clear, releases }
    }

    /// Whether a person has to look at it.
    pub(super) fn needs_you(&self, ignore_unknown: bool) -> bool {
        let open = !self.unknown.is_empty() || !self.question.left_out.is_empty();
        !self.proven.is_empty() || !self.may.is_empty() || (open && !ignore_unknown)
    }
}

impl Device {
    fn new(
        device: v1::ExposedDevice,
        releases: &BTreeMap<&str, &Release>,
        peers: &BTreeMap<String, Vec<Peer>>,
        now: UnixTime,
    ) -> Self {
        let exposed = device.exposed_releases.iter().filter_map(|name| releases.get(name.as_str()));
        let components = exposed.flat_map(|release| release.components.iter().cloned()).collect();
        let reached_from =
            device.zones.iter().filter_map(|zone| peers.get(zone)).flatten().cloned().collect();
        Self {
            name: device.name,
            criticality: some(device.criticality),
            owner: some(device.owner),
            zones: device.zones,
            release: some(device.release),
            attested_at: words::json_time(device.attested_at),
            evidence_age_seconds: (device.attested_at != 0).then(|| now.since(UnixTime(device.attested_at))),
            reason: some(device.reason),
            components,
            reached_from,
            attested: device.attested_at,
        }
    }

    fn rank(&self) -> (usize, String) {
        let word = self.criticality.clone().unwrap_or_default().to_ascii_lowercase();
        let known = CRITICALITIES.iter().position(|known| *known == word);
        let after = CRITICALITIES.len().saturating_add(usize::from(word.is_empty()));
        (known.unwrap_or(after), word)
    }
}

impl From<v1::ExposedRelease> for Release {
    fn from(release: v1::ExposedRelease) -> Self {
        let name = release.release;
        let component = |found: v1::ExposedComponent| Component {
            name: found.name,
            version: found.version,
            purl: found.purl,
            sbom: words::digest(&found.sbom),
            release: name.clone(),
            matched: some(found.source)
                .map_or_else(|| "name".to_owned(), |name| format!("source package {name}")),
            doubt: some(found.doubt),
        };
        let components = release.components.into_iter().map(component).collect();
        Self { release: name, components, components_left_out: release.left_out, unknown: release.unknown }
    }
}

impl From<v1::ZonePeer> for Peer {
    fn from(peer: v1::ZonePeer) -> Self {
        Self { zone: peer.zone, service: some(peer.service) }
    }
}

impl Component {
    fn words(&self) -> String {
        let source = self.matched.strip_prefix("source package ");
        let from = source.map(|source| format!(" (from {source})")).unwrap_or_default();
        format!("{} {}{from}", self.name, words::or_dash(&self.version))
    }
}

impl View for Exposed {
    fn text(&self, page: &Page) -> String {
        let mut text = format!("{} {}\n", self.question.id, self.question.summary).trim_end().to_owned();
        text = words::visible(&text) + "\n";
        let lists = [
            ("PROVEN to run it", &self.proven),
            ("MAY run it", &self.may),
            ("UNKNOWN, and counted until it is known", &self.unknown),
        ];
        for (heading, devices) in lists.into_iter().filter(|(_, devices)| !devices.is_empty()) {
            let _ = write!(
                text,
                "\n{heading}: {}\n{}",
                words::count(devices.len(), "device"),
                table(devices, page)
            );
        }
        for note in &self.question.left_out {
            let _ = writeln!(text, "\nNot looked for: {}", words::visible(note));
        }
        let clear = words::count(usize::try_from(self.clear).unwrap_or(usize::MAX), "device");
        let _ = writeln!(
            text,
            "\n{} proven, {} may, {} unknown; {clear} proved a release without it",
            self.proven.len(),
            self.may.len(),
            self.unknown.len()
        );
        text
    }
}

fn table(devices: &[Device], page: &Page) -> String {
    let mut table = Table::new([
        "CRITICALITY",
        "DEVICE",
        "OWNER",
        "ZONES",
        "RELEASE",
        "PROVED",
        "COMPONENT",
        "REACHED FROM",
        "WHY",
    ]);
    for device in devices {
        let mut components: Vec<String> =
            device.components.iter().take(NAMED).map(Component::words).collect();
        let more = device.components.len().saturating_sub(NAMED);
        if more > 0 {
            components.push(format!("{more} more"));
        }
        let peer = |peer: &Peer| match &peer.service {
            Some(service) => format!("{} ({service})", peer.zone),
            None => format!("{} (all)", peer.zone),
        };
        let peers: Vec<String> = device.reached_from.iter().map(peer).collect();
        table.row([
            words::or_dash(device.criticality.as_deref().unwrap_or_default()),
            device.name.clone(),
            words::or_dash(device.owner.as_deref().unwrap_or_default()),
            words::list(&device.zones),
            words::or_dash(device.release.as_deref().unwrap_or_default()),
            words::age(device.attested, page.now),
            words::list(&components),
            words::list(&peers),
            words::or_dash(device.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table.text("", page.colour)
}
