//! A boot whose log replays, and releases signed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;
use std::sync::OnceLock;

use policy::appraisal::claims::LeastClaims;
use policy::appraisal::measurements::Measurements;
use policy::appraisal::policy::{Mode, ZonePolicy};
use policy::appraisal::{Forecast, forecast};
use policy::digest::Digest;
use policy::evidence::flaw::Flaw;
use policy::evidence::{HardwareProof, linux::EventOrigin, verify::VerifiedEvent};
use policy::id::ProductName;
use policy::reference::ReferenceValues;
use policy::reference::dsse::{Envelope, SignedRelease, Unsigned};
use policy::reference::keys::{ReleaseKey, ReleaseKeys};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const BSA: u32 = 0x8000_0003;
pub(crate) const SEPARATOR: u32 = 4;
pub(crate) const ACTION: u32 = 0x8000_0007;
pub(crate) const VARIABLE: u32 = 0x8000_0001;
pub(crate) const IPL: u32 = 0xd;
pub(crate) const CALL: &str = "Calling EFI Application from Boot Option";

pub(crate) fn pcr(number: u8) -> PcrIndex {
    PcrIndex::new(u32::from(number)).unwrap()
}

pub(crate) fn hash(data: &str) -> HashValue {
    HashAlg::Sha256.hash(&[data.as_bytes()])
}

/// What a device measured: PCR, event type and the data whose hash was extended.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    pub(crate) events: Vec<(u8, u32, String)>,
    pub(crate) hardware: HardwareProof,
    pub(crate) unexplained: Vec<PcrIndex>,
    pub(crate) flaws: Vec<Flaw>,
}

impl Boot {
    /// A UEFI boot of a UKI with this kernel.
    pub(crate) fn of(kernel: &str) -> Self {
        let events = [
            (0, 8, "crtm"),
            (7, VARIABLE, "SecureBoot=1"),
            (2, SEPARATOR, "0"),
            (0, SEPARATOR, "0"),
            (7, SEPARATOR, "0"),
            (4, ACTION, CALL),
            (4, SEPARATOR, "0"),
            (1, VARIABLE, "BootOrder"),
            (4, BSA, "boot loader"),
            (4, BSA, kernel),
            (11, IPL, ".linux"),
            (11, IPL, kernel),
        ];
        let events = events.into_iter().map(|(pcr, kind, data)| (pcr, kind, data.to_owned())).collect();
        Self { events, hardware: HardwareProof::Endorsed, unexplained: Vec::new(), flaws: Vec::new() }
    }

    pub(crate) fn and(mut self, pcr: u8, event_type: u32, data: &str) -> Self {
        self.events.push((pcr, event_type, data.to_owned()));
        self
    }

    pub(crate) fn without(mut self, data: &str) -> Self {
        self.events.retain(|(_, _, found)| found != data);
        self
    }

    pub(crate) fn with(mut self, data: &str, instead: &str) -> Self {
        for event in self.events.iter_mut().filter(|event| event.2 == data) {
            event.2 = instead.to_owned();
        }
        self
    }

    pub(crate) fn replayed(&self) -> Replayed {
        let mut pcrs = PcrValues::new(HashAlg::Sha256);
        for number in 0..16 {
            pcrs.set(pcr(number), HashValue::repeated(HashAlg::Sha256, 0));
        }
        let mut events: BTreeMap<PcrIndex, Vec<VerifiedEvent>> = BTreeMap::new();
        for (position, (number, event_type, data)) in self.events.iter().enumerate() {
            let (pcr, digest) = (pcr(*number), hash(data));
            if *event_type != 3 {
                pcrs.set(pcr, pcrs.value(pcr).unwrap().extend(digest.as_bytes()));
            }
            let event = VerifiedEvent {
                position,
                pcr,
                event_type: *event_type,
                digest,
                description: Some(data.clone()),
                origin: EventOrigin::Firmware,
            };
            events.entry(pcr).or_default().push(event);
        }
        Replayed { pcrs, events, boot: self.clone() }
    }

    pub(crate) fn forecast(&self, reference: &ReferenceValues) -> Forecast {
        self.forecast_in(reference, &policy_of(&["edge-box"], Mode::Enforce), NOW)
    }

    pub(crate) fn forecast_in(
        &self,
        reference: &ReferenceValues,
        policy: &ZonePolicy,
        now: UnixTime,
    ) -> Forecast {
        forecast(&self.replayed().measurements(), reference, policy, now)
    }

    /// Lines of a manifest with the whole values of these PCRs.
    pub(crate) fn values(&self, pcrs: &[u8]) -> String {
        let replayed = self.replayed();
        let line = |number: &u8| format!("{number} = [\"{}\"]\n", replayed.pcrs.value(pcr(*number)).unwrap());
        format!("[pcrs.sha256]\n{}", pcrs.iter().map(line).collect::<String>())
    }
}

/// A boot with the values that a quote would show.
pub(crate) struct Replayed {
    pub(crate) pcrs: PcrValues,
    pub(crate) events: BTreeMap<PcrIndex, Vec<VerifiedEvent>>,
    boot: Boot,
}

impl Replayed {
    pub(crate) fn measurements(&self) -> Measurements<'_> {
        let events = self.events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
        Measurements::new(&self.pcrs, events, &self.boot.unexplained, self.boot.hardware)
            .with_flaws(&self.boot.flaws)
    }
}

/// An event rule of a manifest.
pub(crate) fn rule(pcr: u8, event_type: &str, data: &[&str], more: &str) -> String {
    let digests: Vec<String> = data.iter().map(|data| format!("\"{}\"", hash(data))).collect();
    format!("[[event]]\npcr = {pcr}\ntype = \"{event_type}\"\ndigest = [{}]\n{more}\n", digests.join(","))
}

/// The rules of PCR 4 for a boot of this kernel.
pub(crate) fn boot_rules(kernel: &str) -> String {
    [
        rule(4, "EV_EFI_ACTION", &[CALL], ""),
        rule(4, "EV_SEPARATOR", &["0"], ""),
        rule(4, "EV_EFI_BOOT_SERVICES_APPLICATION", &["boot loader"], "name = \"boot loader\""),
        rule(4, "EV_EFI_BOOT_SERVICES_APPLICATION", &[kernel], "name = \"kernel\""),
    ]
    .concat()
}

/// A manifest of the product edge-box.
pub(crate) fn manifest(version: &str, counter: u64, rules: &str) -> Manifest {
    let text =
        format!("schema = 1\nproduct = \"edge-box\"\nversion = \"{version}\"\ncounter = {counter}\n{rules}");
    Manifest::parse(&text).unwrap()
}

/// The release of a whole boot of this kernel: values of PCRs 0, 2 and 7, events of PCR 4.
pub(crate) fn whole(version: &str, counter: u64, kernel: &str) -> Manifest {
    manifest(version, counter, &(Boot::of(kernel).values(&[0, 2, 7]) + &boot_rules(kernel)))
}

pub(crate) fn signed(manifest: &Manifest) -> SignedRelease {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    let key = KEY.get_or_init(|| KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let spki = key.subject_public_key_info();
    let products: BTreeSet<ProductName> = [manifest.product().clone()].into();
    let release_key = ReleaseKey::from_spki(&spki, products).unwrap();
    let keys = ReleaseKeys::new(vec![release_key], NonZeroU8::MIN).unwrap();
    let unsigned = Unsigned::new(manifest);
    let signature = key.sign(&unsigned.to_be_signed()).unwrap();
    Envelope::new(&unsigned, &[(Digest::of(&spki), signature)]).verify(&keys).unwrap()
}

pub(crate) fn reference(releases: &[(Manifest, ReleaseState)]) -> ReferenceValues {
    let mut reference = ReferenceValues::new();
    for (manifest, state) in releases {
        reference.insert(signed(manifest), *state).unwrap();
    }
    reference
}

pub(crate) fn policy_of(products: &[&str], mode: Mode) -> ZonePolicy {
    ZonePolicy {
        zone: "cell-3".parse().unwrap(),
        products: products.iter().map(|product| product.parse().unwrap()).collect(),
        least: LeastClaims::default(),
        mode,
    }
}
