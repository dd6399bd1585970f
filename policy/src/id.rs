//! Names of things. `FromStr` is the only door: a value of these types is always well formed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// Longest label: leaves room for the plant's domain within 253 bytes.
pub const MAX_LABEL: usize = 40;
/// Longest DNS name (RFC 1035, section 2.3.4).
pub const MAX_DOMAIN: usize = 253;
/// Labels under the plant's domain that belong to Touchstone itself.
pub const RESERVED_LABELS: [&str; 3] = ["control", "margo", "www"];

/// A name is not well formed. It may be a peer's, so it is escaped: nothing in it reaches a terminal or a log as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not one DNS label.
    #[error("`{}` is no {}: use 1 to 40 of a-z, 0-9 and -, not at the ends", .0.escape_debug(), .1)]
    Label(String, &'static str),
    /// A label that Touchstone uses itself.
    #[error("`{0}` is reserved; choose another {1}")]
    Reserved(String, &'static str),
    /// Not a DNS domain.
    #[error(
        "`{}` is no plant domain: use lower-case DNS labels with dots, at most 160 characters, for example plant.example",
        .0.escape_debug()
    )]
    Domain(String),
    /// Not a SPIFFE ID of this plant's form.
    #[error(
        "`{}` is no device's SPIFFE ID; it looks like spiffe://<zone>.<plant>/device/<name>",
        .0.escape_debug()
    )]
    SpiffeId(String),
    /// Not a SPIFFE ID of this plant's form, of a device or of a workload.
    #[error(
        "`{}` is no SPIFFE ID of this plant; it looks like spiffe://<zone>.<plant>/device/<name>, or with \
         /workload/<name> after that",
        .0.escape_debug()
    )]
    PeerId(String),
}

fn is_label(text: &str, max: usize) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=max).contains(&text.len())
        && text.as_bytes().iter().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal, $reserved:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if !is_label(text, MAX_LABEL) {
                    return Err(NameError::Label(text.chars().take(80).collect(), $what));
                }
                if $reserved && RESERVED_LABELS.contains(&text) {
                    return Err(NameError::Reserved(text.to_owned(), $what));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

label!(
    /// The name of a device: one DNS label, unique in the plant.
    DeviceName, "device name", false
);
label!(
    /// The name of a zone: one DNS label under the plant's domain.
    ZoneName, "zone name", true
);
label!(
    /// The name of a service that devices of a zone offer.
    ServiceName, "service name", false
);
label!(
    /// The name of a workload: a program on a device with an identity of its own.
    WorkloadName, "workload name", false
);
label!(
    /// A product that golden releases are made for.
    ProductName, "product name", false
);
label!(
    /// What people call a release key.
    ReleaseKeyName, "name of a release key", false
);

impl ReleaseKeyName {
    /// The name of the key that is made with a plant.
    #[must_use]
    pub fn first() -> Self {
        Self("init".to_owned())
    }
}

/// The plant's own domain, for example `plant.example`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlantDomain(String);

impl PlantDomain {
    /// The domain's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain of a zone: `<zone>.<plant>`.
    #[must_use]
    pub fn trust_domain(&self, zone: &ZoneName) -> TrustDomain {
        TrustDomain(format!("{zone}.{}", self.0))
    }

    /// The DNS name of the broker's TLS certificate, whatever address it is reached at.
    #[must_use]
    pub fn broker_name(&self) -> String {
        format!("broker.control.{}", self.0)
    }
}

impl FromStr for PlantDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // Two labels of 40, their dots and this many bytes stay within 253.
        const MAX_PLANT: usize = 160;
        let well_formed = text.len() <= MAX_PLANT && text.split('.').all(|label| is_label(label, 63));
        well_formed
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| NameError::Domain(text.chars().take(80).collect()))
    }
}

impl fmt::Display for PlantDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for PlantDomain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PlantDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The SPIFFE trust domain of a zone (SPIFFE-ID, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The trust domain's text, without scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of a device: `spiffe://<trust domain>/device/<name>`.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> SpiffeId {
        SpiffeId { trust_domain: self.clone(), device: name.clone(), workload: None }
    }

    /// The SPIFFE ID of a workload on a device: `spiffe://<trust domain>/device/<device>/workload/<name>`.
    #[must_use]
    pub fn workload(&self, device: &DeviceName, name: &WorkloadName) -> SpiffeId {
        SpiffeId { trust_domain: self.clone(), device: device.clone(), workload: Some(name.clone()) }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `ub-common-name` (RFC 5280, appendix A.1): strict parsers refuse longer ones.
const MAX_COMMON_NAME: usize = 64;

/// The DNS name itself, or `h-` and 40 hex digits of its SHA-256 where it is longer than a common name may be.
#[must_use]
pub fn common_name(name: &str) -> String {
    if name.len() <= MAX_COMMON_NAME {
        return name.to_owned();
    }
    let digest = Digest::of(name.as_bytes()).hex();
    format!("h-{}", digest.get(..40).unwrap_or(&digest))
}

/// The SPIFFE ID of a device in a zone, or of a workload on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    device: DeviceName,
    workload: Option<WorkloadName>,
}

impl SpiffeId {
    /// The device, or that which the workload is on. Who may act as one asks [`SpiffeId::parse`], which reads no
    /// workload.
    #[must_use]
    pub const fn device(&self) -> &DeviceName {
        &self.device
    }

    /// The trust domain of its zone.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The DNS name of the device, `<name>.<zone>.<plant>`, or that of a workload below it: software that goes by DNS
    /// names must not take the one for the other.
    #[must_use]
    pub fn dns_name(&self) -> String {
        match &self.workload {
            Some(workload) => format!("{workload}.{}.{}", self.device, self.trust_domain),
            None => format!("{}.{}", self.device, self.trust_domain),
        }
    }

    /// The common name of its certificates: the DNS name, or a digest of it where that is too long.
    #[must_use]
    pub fn common_name(&self) -> String {
        common_name(&self.dns_name())
    }

    /// The workload that it names; None: the device itself.
    #[must_use]
    pub const fn workload(&self) -> Option<&WorkloadName> {
        self.workload.as_ref()
    }

    /// Reads the SPIFFE ID of a device of this plant; a workload below a device is not the device.
    pub fn parse(text: &str, plant: &PlantDomain) -> Result<(ZoneName, Self), NameError> {
        match Self::parse_peer(text, plant)? {
            (_, Self { workload: Some(_), .. }) => Err(NameError::SpiffeId(shortened(text))),
            device => Ok(device),
        }
    }

    /// Reads the SPIFFE ID of a device of this plant or of a workload on one, matched segment by segment. Only for
    /// those who are met: whoever acts as a device is read by [`SpiffeId::parse`].
    pub fn parse_peer(text: &str, plant: &PlantDomain) -> Result<(ZoneName, Self), NameError> {
        let refuse = || NameError::PeerId(shortened(text));
        let rest = text.strip_prefix("spiffe://").ok_or_else(refuse)?;
        // One more than there can be, so that what follows is seen too.
        let segments: Vec<&str> = rest.split('/').take(MAX_SEGMENTS.saturating_add(1)).collect();
        let (domain, device, workload) = match segments.as_slice() {
            [domain, "device", device] => (domain, device, None),
            [domain, "device", device, "workload", workload] => (domain, device, Some(workload)),
            _ => return Err(refuse()),
        };
        let zone = domain.strip_suffix(plant.as_str()).and_then(|zone| zone.strip_suffix('.'));
        let zone: ZoneName = zone.and_then(|zone| zone.parse().ok()).ok_or_else(refuse)?;
        let device: DeviceName = device.parse().map_err(|_| refuse())?;
        let workload = workload.map(|name| name.parse()).transpose().map_err(|_| refuse())?;
        let id = Self { trust_domain: plant.trust_domain(&zone), device, workload };
        Ok((zone, id))
    }
}

/// Longest SPIFFE ID here: trust domain, and two pairs of a kind and a name.
const MAX_SEGMENTS: usize = 5;

/// As much of a foreign text as is shown.
fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/device/{}", self.trust_domain, self.device)?;
        self.workload.iter().try_for_each(|workload| write!(f, "/workload/{workload}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_malformed_labels_are_refused() {
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "control", &"a".repeat(41)] {
            assert!(bad.parse::<ZoneName>().is_err(), "{bad}");
        }
        assert!("control".parse::<DeviceName>().is_ok());
    }

    #[test]
    fn what_is_refused_is_shown_without_control_characters() {
        let plant: PlantDomain = "plant.example".parse().unwrap();
        let hostile = "\u{1b}[2J\r\n";
        let refusals = [
            hostile.parse::<DeviceName>().unwrap_err(),
            hostile.parse::<PlantDomain>().unwrap_err(),
            SpiffeId::parse(hostile, &plant).unwrap_err(),
        ];
        for refusal in refusals.map(|refusal| refusal.to_string()) {
            assert!(refusal.starts_with(r"`\u{1b}[2J\r\n` is no "), "{refusal}");
            assert!(!refusal.contains(char::is_control));
        }
    }

    #[test]
    fn a_workload_is_not_its_device() {
        let plant: PlantDomain = "plant.example".parse().unwrap();
        let (zone, id) = SpiffeId::parse("spiffe://cell-3.plant.example/device/press-7", &plant).unwrap();
        assert_eq!((zone.as_str(), id.dns_name().as_str()), ("cell-3", "press-7.cell-3.plant.example"));
        let workload = plant.trust_domain(&zone).workload(id.device(), &"x".parse().unwrap());
        assert_eq!(workload.to_string(), "spiffe://cell-3.plant.example/device/press-7/workload/x");
        assert_eq!(workload.dns_name(), "x.press-7.cell-3.plant.example");
        assert_ne!(workload, id);
        for bad in [
            "spiffe://cell-3.plant.example/device/press-7/workload/x",
            "spiffe://cell-3.plant.example/device/",
            "spiffe://a.b.plant.example/device/press-7",
            "spiffe://cell-3plant.example/device/press-7",
            "https://cell-3.plant.example/device/press-7",
        ] {
            assert!(SpiffeId::parse(bad, &plant).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_peer_is_a_device_or_a_workload_segment_by_segment() {
        let plant: PlantDomain = "plant.example".parse().unwrap();
        let device = "spiffe://cell-3.plant.example/device/press-7";
        let hmi = format!("{device}/workload/hmi");
        for (text, workload) in [(device, None), (hmi.as_str(), Some("hmi"))] {
            let (zone, id) = SpiffeId::parse_peer(text, &plant).unwrap();
            assert_eq!((zone.as_str(), id.device().as_str()), ("cell-3", "press-7"));
            assert_eq!(id.workload().map(WorkloadName::as_str), workload);
            assert_eq!(id.to_string(), text);
        }
        for rest in [
            "/",
            "/workload",
            "/workload/",
            "/workload//",
            "/workload/hmi/",
            "/workload/hmi/x",
            "/service/hmi",
            "/workload/a.b",
            "/workload/hmi/workload/hmi",
        ] {
            assert!(SpiffeId::parse_peer(&format!("{device}{rest}"), &plant).is_err(), "{rest}");
        }
        for bad in [
            "workload/hmi",
            "device//workload/hmi",
            "workload/press-7/device/hmi",
            "Device/press-7/workload/hmi",
        ] {
            assert!(
                SpiffeId::parse_peer(&format!("spiffe://cell-3.plant.example/{bad}"), &plant).is_err(),
                "{bad}"
            );
        }
    }
}
