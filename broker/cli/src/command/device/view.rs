//! Devices as people and programs see them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::v1::{Attested, BoxIdentity, Device, DeviceMove, GetDeviceResponse, Svid, Vouched};
use serde::Serialize;

use super::vouch::MachineView;
use crate::command::authority;
use crate::output::finding::Finding;
use crate::output::table::{Table, Tone};
use crate::output::{Page, View, words};

#[derive(Debug, Serialize)]
pub(super) struct DevicePage {
    name: String,
    state: String,
    zones: Vec<String>,
    ek_digest: String,
    without_tpm: bool,
    key_generation: u64,
    idevid: Option<IdevIdView>,
    inventory: Vec<ValueView>,
    services: Vec<ServiceView>,
    attested: Option<AttestedView>,
    certificates: Vec<CertificateView>,
    admitted_at: Option<String>,
    admitted_by: Option<String>,
    last_seen: Option<String>,
    attestation_counter: u64,
    addresses: Vec<AddressView>,
    #[serde(rename = "move")]
    moving: Option<MoveView>,
    #[serde(skip)]
    seen: u64,
}

/// Who its manufacturer says it is.
#[derive(Debug, Serialize)]
struct IdevIdView {
    digest: String,
    subject: String,
    serial: String,
    manufacturer: String,
    bound_by: String,
    since: Option<String>,
}

impl From<BoxIdentity> for IdevIdView {
    fn from(known: BoxIdentity) -> Self {
        let BoxIdentity { digest, subject, serial, manufacturer, bound_by, since } = known;
        let (digest, since) = (words::digest(&digest), words::json_time(since));
        Self { digest, subject, serial, manufacturer, bound_by, since }
    }
}

impl IdevIdView {
    fn line(&self) -> String {
        let tie = match self.bound_by.as_str() {
            "certify" => "its key is in the TPM",
            "iak-certificate" => "its maker certified the TPM's key",
            _ => "it joined by it",
        };
        format!("{} by {} ({}); {tie}", self.serial, self.manufacturer, self.subject)
    }
}

/// An address that its certificates of a zone may name.
#[derive(Debug, Serialize)]
struct AddressView {
    zone: String,
    address: String,
}

/// A move that is under way, or waits for its window.
#[derive(Debug, Serialize)]
struct MoveView {
    from: String,
    to: String,
    since: Option<String>,
    window: Option<String>,
    begins_at: Option<String>,
}

impl From<DeviceMove> for MoveView {
    fn from(DeviceMove { from, to, since, window, begins_at }: DeviceMove) -> Self {
        let (since, begins_at) = (words::json_time(since), words::json_time(begins_at));
        Self { from, to, since, window: some(window), begins_at }
    }
}

impl MoveView {
    fn line(&self) -> String {
        let when = match (&self.since, &self.begins_at) {
            (Some(since), _) => {
                format!("since {since}; it has not said yet that it delivered its certificates")
            }
            (None, begins) => format!("waits for {}", begins.as_deref().unwrap_or("its window")),
        };
        format!("from {} to {}, {when}", self.from, self.to)
    }
}

#[derive(Debug, Serialize)]
struct ValueView {
    name: String,
    value: String,
    source: String,
    at: Option<String>,
}

#[derive(Debug, Serialize)]
struct ServiceView {
    name: String,
    port: u32,
}

#[derive(Debug, Serialize)]
struct AttestedView {
    at: Option<String>,
    verdict: String,
    decision: String,
    claims: BTreeMap<String, i32>,
    findings: Vec<Finding>,
    release: Option<String>,
    evidence_digest: String,
    reset_count: u64,
    restart_count: u64,
    firmware_version: u64,
    hardware: Option<String>,
    not_appraised: Vec<String>,
    #[serde(skip)]
    time: u64,
}

#[derive(Debug, Serialize)]
struct CertificateView {
    zone: String,
    role: &'static str,
    /// `tpm` or `software`.
    key: &'static str,
    /// The service that has the key in software.
    service: Option<String>,
    /// The workload that it names, which has the key in software.
    workload: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    key_digest: String,
    #[serde(skip)]
    ends: u64,
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<Device> for DevicePage {
    fn from(device: Device) -> Self {
        let value = |v: proto::v1::InventoryValue| ValueView {
            name: v.name,
            value: v.value,
            source: v.source,
            at: words::json_time(v.at),
        };
        let certificate = |svid| CertificateView::of(svid, device.without_tpm);
        let certificates = device.svids.into_iter().map(certificate).collect();
        Self {
            name: device.name,
            state: device.state,
            zones: device.zones,
            ek_digest: words::digest(&device.ek_digest),
            without_tpm: device.without_tpm,
            key_generation: device.key_generation,
            idevid: device.idevid.map(IdevIdView::from),
            inventory: device.inventory.into_iter().map(value).collect(),
            services: device
                .services
                .into_iter()
                .map(|service| ServiceView { name: service.name, port: service.port })
                .collect(),
            attested: device.attested.map(AttestedView::from),
            certificates,
            admitted_at: words::json_time(device.admitted_at),
            admitted_by: some(device.admitted_by),
            last_seen: words::json_time(device.last_seen),
            attestation_counter: device.attestation_counter,
            addresses: device
                .addresses
                .into_iter()
                .map(|one| AddressView { zone: one.zone, address: one.address })
                .collect(),
            moving: device.r#move.map(MoveView::from),
            seen: device.last_seen,
        }
    }
}

impl From<Attested> for AttestedView {
    fn from(attested: Attested) -> Self {
        Self {
            at: words::json_time(attested.at),
            verdict: attested.verdict,
            decision: attested.decision,
            claims: attested.claims.into_iter().collect(),
            findings: attested.findings.into_iter().map(Finding::from).collect(),
            release: some(attested.release),
            evidence_digest: words::digest(&attested.evidence_digest),
            reset_count: attested.reset_count,
            restart_count: attested.restart_count,
            firmware_version: attested.firmware_version,
            hardware: some(attested.hardware),
            not_appraised: attested.not_appraised,
            time: attested.at,
        }
    }
}

impl CertificateView {
    fn of(svid: Svid, without_tpm: bool) -> Self {
        let of_device = svid.service.is_empty() && svid.workload.is_empty();
        Self {
            role: authority::role(svid.role()),
            key: if of_device && !without_tpm { "tpm" } else { "software" },
            service: some(svid.service),
            workload: some(svid.workload),
            zone: svid.zone,
            not_before: words::json_time(svid.not_before),
            not_after: words::json_time(svid.not_after),
            key_digest: words::digest(&svid.spki_digest),
            ends: svid.not_after,
        }
    }

    fn key_in(&self) -> String {
        match (&self.service, &self.workload) {
            (Some(service), _) => format!("software ({service})"),
            (None, Some(workload)) => format!("software (workload {workload})"),
            (None, None) if self.key == "tpm" => "TPM".to_owned(),
            (None, None) => self.key.to_owned(),
        }
    }
}

impl DevicePage {
    fn value(&self, name: &str) -> String {
        let value = self.inventory.iter().find(|value| value.name == name);
        value.map_or_else(|| "-".to_owned(), |value| value.value.clone())
    }

    fn certificate_end(&self) -> u64 {
        self.certificates.iter().map(|certificate| certificate.ends).min().unwrap_or(0)
    }

    pub(super) fn lines(&self, page: &Page) -> Vec<(&'static str, String)> {
        let services: Vec<_> = self.services.iter().map(|s| format!("{} ({})", s.name, s.port)).collect();
        let admitted = match (&self.admitted_at, &self.admitted_by) {
            (Some(at), Some(by)) => format!("{at} by {by}"),
            (Some(at), None) => at.clone(),
            (None, _) => "-".to_owned(),
        };
        let mut lines = vec![
            ("device", words::or_dash(&self.name)),
            ("state", self.state.clone()),
            ("zones", words::list(&self.zones)),
            match self.without_tpm {
                true => ("key", format!("number {}, in software: it has no TPM", self.key_generation)),
                false => ("EK digest", words::or_dash(&self.ek_digest)),
            },
            ("services", words::list(&services)),
            ("admitted", admitted),
            ("last seen", words::age(self.seen, page.now)),
        ];
        lines.extend(self.idevid.as_ref().map(|idevid| ("IDevID", idevid.line())));
        let addresses = self.addresses.iter().map(|one| format!("{} ({})", one.address, one.zone));
        let addresses: Vec<String> = addresses.collect();
        lines.extend((!addresses.is_empty()).then(|| ("addresses", words::list(&addresses))));
        lines.extend(self.moving.as_ref().map(|moving| ("moves", moving.line())));
        if let Some(attested) = &self.attested {
            lines.extend(attested.lines(page));
        }
        lines
    }
}

impl AttestedView {
    fn lines(&self, page: &Page) -> Vec<(&'static str, String)> {
        let claims: Vec<_> = self.claims.iter().map(|(claim, value)| format!("{claim} {value}")).collect();
        let boots = format!("{} resets, {} restarts", self.reset_count, self.restart_count);
        vec![
            ("attested", words::age(self.time, page.now)),
            ("verdict", self.verdict.clone()),
            ("decision", self.decision.clone()),
            ("claims", words::list(&claims)),
            ("golden release", words::or_dash(self.release.as_deref().unwrap_or_default())),
            ("hardware", words::or_dash(self.hardware.as_deref().unwrap_or_default())),
            ("TPM counts", boots),
            ("evidence", words::or_dash(&self.evidence_digest)),
            ("not appraised", words::list(&self.not_appraised)),
        ]
    }
}

/// Labelled values, one on a line; a known state in its tone.
pub(super) fn pairs(lines: Vec<(&'static str, String)>, page: &Page) -> String {
    let line = |(label, value): (&str, String)| {
        let value = Tone::of_state(&value).paint(&words::visible(&value), page.colour);
        format!("{label:<15} {value}\n")
    };
    lines.into_iter().map(line).collect()
}

impl View for DevicePage {
    fn text(&self, page: &Page) -> String {
        pairs(self.lines(page), page) + &self.tables(page)
    }
}

impl DevicePage {
    /// Certificates and inventory.
    pub(super) fn tables(&self, page: &Page) -> String {
        let mut certificates = Table::new(["CERTIFICATE", "ROLE", "KEY IN", "ENDS", "KEY"]);
        for one in &self.certificates {
            certificates.row([
                one.zone.clone(),
                one.role.to_owned(),
                one.key_in(),
                words::left(one.ends, page.now),
                one.key_digest.clone(),
            ]);
        }
        let mut inventory = Table::new(["INVENTORY", "VALUE", "SOURCE", "SINCE"]);
        for one in &self.inventory {
            inventory.row([
                one.name.clone(),
                one.value.clone(),
                one.source.clone(),
                words::or_dash(one.at.as_deref().unwrap_or_default()),
            ]);
        }
        let certificates = certificates.text("no certificates", page.colour);
        format!("\n{certificates}\n{}", inventory.text("no inventory", page.colour))
    }
}

/// A list of devices.
#[derive(Debug, Serialize)]
pub(super) struct Devices {
    devices: Vec<DevicePage>,
    /// Behind gateways, and no devices: they have neither keys nor certificates.
    machines: Vec<MachineView>,
}

impl Devices {
    pub(super) fn new(devices: Vec<Device>, machines: Vec<Vouched>) -> Self {
        let devices = devices.into_iter().map(Into::into).collect();
        Self { devices, machines: machines.into_iter().map(Into::into).collect() }
    }
}

impl View for Devices {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new([
            "DEVICE",
            "STATE",
            "ZONES",
            "ATTESTED",
            "CERTIFICATE ENDS",
            "GOLDEN RELEASE",
            "MODEL",
            "EK",
        ]);
        for device in &self.devices {
            let attested = device.attested.as_ref();
            table.row([
                words::or_dash(&device.name),
                device.state.clone(),
                words::list(&device.zones),
                words::age(attested.map_or(0, |attested| attested.time), page.now),
                words::left(device.certificate_end(), page.now),
                words::or_dash(attested.and_then(|a| a.release.as_deref()).unwrap_or_default()),
                device.value("model"),
                words::short(&device.ek_digest),
            ]);
        }
        self.machines.iter().for_each(|machine| table.row(machine.among_devices()));
        table.text("no devices; `touchstone device import` registers the first", page.colour)
    }
}

/// Why a device is in its state.
#[derive(Debug, Serialize)]
pub(super) struct WhyPage {
    device: String,
    state: String,
    decision: Option<String>,
    attested_at: Option<String>,
    why: Vec<String>,
    findings: Vec<Finding>,
    not_appraised: Vec<String>,
    next_command: Option<String>,
    #[serde(skip)]
    time: u64,
}

impl From<GetDeviceResponse> for WhyPage {
    fn from(answer: GetDeviceResponse) -> Self {
        let device = answer.device.unwrap_or_default();
        let attested = device.attested.unwrap_or_default();
        let name = if device.name.is_empty() { words::digest(&device.ek_digest) } else { device.name };
        Self {
            device: name,
            state: device.state,
            decision: some(attested.decision),
            attested_at: words::json_time(attested.at),
            why: answer.why,
            findings: attested.findings.into_iter().map(Finding::from).collect(),
            not_appraised: attested.not_appraised,
            next_command: some(answer.next_command),
            time: attested.at,
        }
    }
}

impl View for WhyPage {
    fn text(&self, page: &Page) -> String {
        let state = Tone::of_state(&self.state).paint(&words::visible(&self.state), page.colour);
        let attested = match self.time {
            0 => "it never attested".to_owned(),
            at => format!("it attested {}", words::age(at, page.now)),
        };
        let mut text = format!("{} is {state}; {attested}.\n", words::visible(&self.device));
        for sentence in &self.why {
            let _ = writeln!(text, "- {}", words::visible(sentence));
        }
        if !self.findings.is_empty() {
            text.push_str("\nFound:\n");
            text.extend(self.findings.iter().map(Finding::text));
        }
        if !self.not_appraised.is_empty() {
            let _ = writeln!(text, "\nNot appraised: {}", words::visible(&words::list(&self.not_appraised)));
        }
        if let Some(next) = &self.next_command {
            let _ = writeln!(text, "\nNext: {}", words::visible(next));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::InventoryValue;

    use super::*;

    fn refused() -> Device {
        Device {
            name: "press-7".to_owned(),
            state: "refused".to_owned(),
            zones: vec!["cell-3".to_owned()],
            ek_digest: vec![0xab; 32],
            inventory: vec![InventoryValue {
                name: "model".to_owned(),
                value: "X\u{1b}[2J9".to_owned(),
                source: "declared".to_owned(),
                at: 5,
            }],
            attested: Some(Attested {
                at: 10_000 - 300,
                decision: "refused".to_owned(),
                findings: vec![proto::v1::Finding {
                    pcr: Some(4),
                    event: Some(23),
                    subject: "kernel".to_owned(),
                    expected: vec!["aa".repeat(32), "cc".repeat(32)],
                    seen: "bb".repeat(32),
                    release: "edge@1.4".to_owned(),
                    ..proto::v1::Finding::default()
                }],
                ..Attested::default()
            }),
            ..Device::default()
        }
    }

    #[test]
    fn why_names_pcr_event_expected_seen_and_the_next_command() {
        let page = WhyPage::from(GetDeviceResponse {
            device: Some(refused()),
            why: vec!["Its kernel is not in edge@1.4.".to_owned()],
            next_command: "touchstone golden learn --from press-7".to_owned(),
            ..GetDeviceResponse::default()
        });
        let text = page.text(&Page::plain(10_000));
        assert!(
            text.starts_with("press-7 is refused; it attested 5 min ago.\n- Its kernel is not in"),
            "{text}"
        );
        assert!(text.contains("PCR 4, event 23, kernel"), "{text}");
        for digest in ["aa", "cc"] {
            assert!(text.contains(&format!("expected sha256:{}", digest.repeat(32))), "{text}");
        }
        assert!(text.contains(&format!("seen     sha256:{}", "bb".repeat(32))), "{text}");
        assert!(text.ends_with("\nNext: touchstone golden learn --from press-7\n"), "{text}");
    }

    #[test]
    fn the_list_has_short_digests_and_escapes_what_devices_say() {
        let text = Devices::new(vec![refused()], Vec::new()).text(&Page::plain(10_000));
        assert!(text.contains("abababababab\n") && !text.contains(&"ab".repeat(7)), "{text}");
        assert!(text.contains("X\\u{1b}[2J9"), "{text}");
    }

    #[test]
    fn json_has_full_digests_and_null_for_what_never_was() {
        let json = serde_json::to_value(DevicePage::from(refused())).unwrap();
        assert_eq!(json["ek_digest"], format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(json["admitted_at"], serde_json::Value::Null);
        assert_eq!(json["attested"]["findings"][0]["pcr"], 4);
        assert_eq!(json["inventory"][0]["at"], "1970-01-01T00:00:05Z");
    }

    #[test]
    fn a_software_key_is_shown_as_one() {
        let certificate = |service: &str| Svid {
            zone: "cell-3".to_owned(),
            role: proto::v1::Role::Listener.into(),
            service: service.to_owned(),
            ..Svid::default()
        };
        let device = Device { svids: vec![certificate(""), certificate("hmi")], ..refused() };
        let json = serde_json::to_value(DevicePage::from(device.clone())).unwrap();
        let keys = |at: usize| {
            (json["certificates"][at]["key"].clone(), json["certificates"][at]["service"].clone())
        };
        assert_eq!(keys(0), ("tpm".into(), serde_json::Value::Null));
        assert_eq!(keys(1), ("software".into(), "hmi".into()));
        let text = DevicePage::from(device).text(&Page::plain(10_000));
        assert!(text.contains("software (hmi)") && text.contains("TPM"), "{text}");
    }

    #[test]
    fn people_read_no_words_of_the_trade() {
        let text = DevicePage::from(refused()).text(&Page::plain(10_000));
        for word in ["SVID", "AR4SI", "trust domain", "bundle"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}
