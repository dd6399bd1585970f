//! From the state to files: which file holds what.
//!
//! ```text
//! <zone>/caller.pem|key  <zone>/listener.pem|key          chain, leaf first; TSS2 PRIVATE KEY, or
//!                                                         PKCS#8 PRIVATE KEY where there is no TPM
//! <zone>/services/<service>/inbound.pem|crl               authorities that may open it here, and their CRLs
//! <zone>/services/<service>/acl                           who reads and writes which topics: of an MQTT service (acl.rs)
//! <zone>/services/<service>/outbound.pem|crl              authorities of those that offer it
//! <zone>/services/<service>/server.pem|key                chain, PKCS#8 PRIVATE KEY: a software key, where one is wanted
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pem::{EncodeConfig, LineEnding, Pem};
use policy::id::ServiceName;
use policy::time::UnixTime;

use super::{Content, Delivery, PUBLIC};
use crate::config::KeyOwner;
use crate::identity_key::IdentityKey;
use crate::role::Seat;
use crate::software_key::Holder;
use crate::state::State;
use crate::trust::{Authority, Place};
use crate::tss2_key::{self, WriteKeyError};

/// Keys are for the owner and the group of the software that serves TLS.
const KEY: u32 = 0o640;
/// File of a service's software key.
const SERVER_KEY: &str = "server.key";
/// Software keys are for the owner, and for servers that read them as root before they become somebody else: unlike
/// the keys in the TPM they can be copied.
const SOFTWARE_KEY: u32 = 0o600;

/// The state is not fit to be delivered.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is no key for a certificate, or another one.
    #[error(
        "the certificate for {0} does not belong to the device's key; nothing is delivered until it is renewed"
    )]
    KeyMismatch(Seat),
    /// A key cannot be written.
    #[error("the key for {seat} cannot be written as a file")]
    Key {
        /// What it is for.
        seat: Seat,
        /// Why.
        #[source]
        source: WriteKeyError,
    },
}

impl Delivery {
    /// What software is given in this state at `now`; None if there is no trust set yet.
    pub fn compose(state: &State, now: UnixTime) -> Result<Option<Self>, ComposeError> {
        let Some(trust) = &state.trust else { return Ok(None) };
        let mut delivery = Self::default();
        for (seat, svid) in &state.svids {
            let key = state.keys.get(seat).filter(|key| key.point() == svid.point());
            let key = key.ok_or_else(|| ComposeError::KeyMismatch(seat.clone()))?;
            let (key, mode) = match key {
                IdentityKey::Tpm(key) => {
                    let fail = |source| ComposeError::Key { seat: seat.clone(), source };
                    (tss2_key::write(key).map_err(fail)?, KEY)
                }
                IdentityKey::Software(key) => (key.to_pem(), SOFTWARE_KEY),
            };
            let stem = Path::new(seat.zone.as_str()).join(seat.role.name());
            let chain = svid.chain().iter().map(Vec::as_slice);
            delivery.add(stem.with_extension("pem"), armour("CERTIFICATE", chain), PUBLIC);
            delivery.add(stem.with_extension("key"), key, mode);
        }
        for (file, authorities) in trust.files(now).filter(|(file, _)| state.zones.contains(&file.zone)) {
            delivery.trust_file(&file.place(), &authorities);
        }
        for place in state.closed.iter().filter(|place| state.zones.contains(&place.zone)) {
            delivery.trust_file(place, &[trust.nobody()]);
        }
        for (seat, held) in &state.software_keys {
            // A workload has its key from the Workload API alone, where it shows who it is.
            let Holder::Service(service) = &seat.holder else { continue };
            let service = Path::new(seat.zone.as_str()).join("services").join(service.as_str());
            let chain = held.svid().chain().iter().map(Vec::as_slice);
            delivery.add(service.join("server.pem"), armour("CERTIFICATE", chain), PUBLIC);
            delivery.add(service.join(SERVER_KEY), held.key().to_pem(), SOFTWARE_KEY);
        }
        Ok(Some(delivery))
    }

    /// The trust files that believe nobody in this state at `now`; None if there is no trust set yet.
    pub fn closing(state: &State, now: UnixTime) -> Option<Self> {
        let trust = state.trust.as_ref()?;
        let mut delivery = Self::default();
        for (file, authorities) in trust.files(now).filter(|(file, _)| state.zones.contains(&file.zone)) {
            if matches!(authorities.as_slice(), [only] if std::ptr::eq(*only, trust.nobody())) {
                delivery.trust_file(&file.place(), &authorities);
            }
        }
        Some(delivery)
    }

    fn trust_file(&mut self, place: &Place, authorities: &[&Authority]) {
        let service = Path::new(place.zone.as_str()).join("services").join(place.service.as_str());
        let stem = service.join(place.direction.name());
        let certificates = authorities.iter().map(|authority| authority.certificate.as_slice());
        let crls = authorities.iter().map(|authority| authority.crl.as_slice());
        self.add(stem.with_extension("pem"), armour("CERTIFICATE", certificates), PUBLIC);
        self.add(stem.with_extension("crl"), armour("X509 CRL", crls), PUBLIC);
    }

    pub(crate) fn add(&mut self, path: PathBuf, text: String, mode: u32) {
        self.files.insert(path, Content { bytes: text.into_bytes().into(), mode, user: None, group: None });
    }

    /// Gives the files of software keys to the users and groups of their servers.
    pub fn give(&mut self, owners: &BTreeMap<ServiceName, KeyOwner>) {
        for (path, content) in &mut self.files {
            let service = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            let of_server = path.file_name().is_some_and(|name| name == SERVER_KEY);
            let owner = owners.iter().find(|(name, _)| of_server && Some(name.as_str()) == service);
            let Some((_, owner)) = owner else { continue };
            (content.user, content.group) = (owner.user, owner.group);
            if owner.group.is_some() {
                content.mode = KEY;
            }
        }
    }
}

fn armour<'a>(label: &str, blocks: impl Iterator<Item = &'a [u8]>) -> String {
    // Without empty lines between them: HAProxy's runtime interface ends what it is given at the first one.
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    blocks.map(|der| pem::encode_config(&Pem::new(label, der), config)).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;
    use crate::state::tests::{identity_key, software_key, trusted};
    use crate::trust::Direction;
    use crate::trust::tests::{NOW, Plant};

    fn text<'a>(delivery: &'a Delivery, file: &str) -> &'a str {
        std::str::from_utf8(&delivery.files[Path::new(file)].bytes).unwrap()
    }

    #[test]
    fn certificates_keys_and_both_directions_are_delivered() {
        let delivery = Delivery::compose(&trusted(&Plant::new()), NOW).unwrap().unwrap();
        let files: Vec<&str> = delivery.files.keys().map(|path| path.to_str().unwrap()).collect();
        let expected = [
            "press/caller.key",
            "press/caller.pem",
            "press/listener.key",
            "press/listener.pem",
            "press/services/opcua/inbound.crl",
            "press/services/opcua/inbound.pem",
            "press/services/opcua/outbound.crl",
            "press/services/opcua/outbound.pem",
        ];
        assert_eq!(files, expected);
        assert!(text(&delivery, "press/caller.key").starts_with("-----BEGIN TSS2 PRIVATE KEY-----\n"));
        assert!(
            text(&delivery, "press/services/opcua/outbound.crl").starts_with("-----BEGIN X509 CRL-----\n")
        );
        assert_eq!(delivery.files[Path::new("press/caller.key")].mode, 0o640);
    }

    #[test]
    fn a_software_key_lies_beside_the_trust_files_of_its_service_for_its_owner_only() {
        let plant = Plant::new();
        let mut state = trusted(&plant);
        let (seat, held) = software_key(&plant);
        state.software_keys.insert(seat, held.clone());
        let delivery = Delivery::compose(&state, NOW).unwrap().unwrap();
        let key = Path::new("press/services/opcua/server.key");
        assert_eq!(text(&delivery, "press/services/opcua/server.key"), held.key().to_pem());
        assert_eq!(delivery.files[key].mode, 0o600);
        assert!(
            text(&delivery, "press/services/opcua/server.pem").starts_with("-----BEGIN CERTIFICATE-----\n")
        );
        let shown = format!("{delivery:?}");
        assert!(shown.contains("mode 600") && !shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn a_certificate_without_its_key_is_never_delivered() {
        let mut state = trusted(&Plant::new());
        let other = identity_key(&KeyPair::generate().unwrap());
        *state.keys.values_mut().next().unwrap() = other;
        assert!(matches!(Delivery::compose(&state, NOW), Err(ComposeError::KeyMismatch(_))));
        state.keys.clear();
        assert!(matches!(Delivery::compose(&state, NOW), Err(ComposeError::KeyMismatch(_))));
    }

    #[test]
    fn without_a_trust_set_nothing_changes_and_without_certificates_trust_files_alone() {
        let mut state = trusted(&Plant::new());
        state.trust = None;
        assert_eq!(Delivery::compose(&state, NOW).unwrap(), None);
        let mut state = trusted(&Plant::new());
        state.svids.clear();
        let delivery = Delivery::compose(&state, NOW).unwrap().unwrap();
        assert!(!delivery.files.is_empty());
        assert!(delivery.files.keys().all(|path| path.to_str().unwrap().contains("services/opcua/")));
    }

    #[test]
    fn after_trust_is_lost_conduits_still_close_on_time() {
        let plant = Plant::new();
        let mut state = trusted(&plant);
        let (seat, held) = software_key(&plant);
        state.software_keys.insert(seat, held);
        let mut set = crate::trust::tests::set();
        let end = NOW.plus(60);
        set.files[0].openings = vec![proto::v1::Opening { expires_at: end.0, ..Default::default() }];
        let device = "press-1".parse().unwrap();
        let seen = crate::trust::Seen::default();
        let expected =
            crate::trust::Expected { root: &plant.root, plant: &plant.domain, device: &device, seen };
        state.take_trust(crate::trust::TrustSet::verify(plant.sign(&set), &expected, NOW).unwrap());
        state.void_certificates();
        let inbound = |now| {
            let delivery = Delivery::compose(&state, now).unwrap().unwrap();
            assert!(delivery.files.contains_key(Path::new("press/listener.pem")), "software keeps its files");
            assert!(delivery.files.contains_key(Path::new("press/services/opcua/server.key")));
            pem::parse(text(&delivery, "press/services/opcua/inbound.pem")).unwrap().into_contents()
        };
        let nobody = &state.trust.as_ref().unwrap().nobody().certificate;
        assert_ne!(&inbound(end.minus(1)), nobody);
        assert_eq!(&inbound(end), nobody);
    }

    #[test]
    fn a_file_whose_conduit_is_gone_stays_and_believes_nobody() {
        let mut state = trusted(&Plant::new());
        let place = Place {
            zone: "press".parse().unwrap(),
            service: "historian".parse().unwrap(),
            direction: Direction::Outbound,
        };
        state.closed.insert(place);
        let delivery = Delivery::compose(&state, NOW).unwrap().unwrap();
        let nobody = pem::parse(text(&delivery, "press/services/historian/outbound.pem")).unwrap();
        assert_eq!(nobody.contents(), state.trust.as_ref().unwrap().nobody().certificate);
        assert!(delivery.files.contains_key(Path::new("press/services/historian/outbound.crl")));
    }

    #[test]
    fn files_of_a_zone_that_the_device_left_are_not_delivered() {
        let mut state = trusted(&Plant::new());
        state.zones = vec!["cell".parse().unwrap()];
        let delivery = Delivery::compose(&state, NOW).unwrap().unwrap();
        assert!(!delivery.files.keys().any(|path| path.to_str().unwrap().contains("services")));
    }
}
