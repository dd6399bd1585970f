//! Signed trust sets. A file is computed once for its zone and service, and sets are put together of files; what devices
//! with the same offer are told is put together once for all of them. Only the device's name, date and signature are its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use policy::digest::Digest;
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::trust::{listed, next_edge, reached, trust_file};
use policy::zone::{AuthorityRef, Direction, TrustFile};
use prost::Message;
use proto::{convert, v1};

use super::offers::Offer;
use super::{TrustError, View, view};
use crate::metrics::Signed;
use crate::plant::Plant;
use crate::record::device::Device;

/// What the signature of a trust set begins with, so that it means nothing else.
const LABEL: &[u8] = b"touchstone/v1/trust-set\0";
/// Bytes of sets that are kept for the next device with the same offer: a plant has some dozens, at some KiB each. Where
/// every device has another offer, each set is put together when it is asked for, and the files are there.
const MAX_KEPT: usize = 32 * 1024 * 1024;

/// What is said to devices of one offer.
#[derive(Debug)]
struct Said {
    /// The trust set without sequence, date and device, encoded.
    encoded: Vec<u8>,
    /// What it says, whatever the bytes of CRLs.
    content: Digest,
    /// When files change because a conduit opens or closes.
    until: Option<UnixTime>,
}

/// What has been made of a view.
#[derive(Debug, Default)]
pub(super) struct Made(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    zones: BTreeMap<ZoneName, ZoneFiles>,
    sets: BTreeMap<Offer, Arc<Said>>,
    /// Bytes of the sets.
    bytes: usize,
}

impl Kept {
    fn find(&mut self, offer: &Offer, now: UnixTime) -> Option<Arc<Said>> {
        let said = self.sets.get(offer)?;
        if said.until.is_none_or(|until| now < until) {
            return Some(Arc::clone(said));
        }
        self.bytes = self.bytes.saturating_sub(said.encoded.len());
        self.sets.remove(offer);
        None
    }

    /// Keeps it if there is room.
    fn keep(&mut self, offer: &Offer, said: &Arc<Said>) {
        let bytes = self.bytes.saturating_add(said.encoded.len());
        if bytes <= MAX_KEPT {
            self.bytes = bytes;
            self.sets.insert(offer.clone(), Arc::clone(said));
        }
    }
}

/// The files of a zone; authorities are named by their place in the view.
#[derive(Debug)]
struct ZoneFiles {
    /// Services that each of its devices has an outbound file for.
    reached: BTreeSet<ServiceName>,
    inbound: BTreeMap<ServiceName, v1::TrustFile>,
    outbound: BTreeMap<ServiceName, v1::TrustFile>,
    /// When a conduit of the zone opens or closes.
    until: Option<UnixTime>,
}

impl ZoneFiles {
    fn new(view: &View, zone: &ZoneName, now: UnixTime) -> Self {
        let offered = view.offers.get(zone).cloned().unwrap_or_default();
        Self {
            reached: reached(&view.zones, zone, &offered),
            inbound: BTreeMap::new(),
            outbound: BTreeMap::new(),
            until: next_edge(&view.zones, zone, now),
        }
    }
}

/// The trust set of a device, not signed yet.
#[derive(Debug)]
pub struct TrustSet {
    view: Arc<View>,
    said: Arc<Said>,
    device: DeviceName,
    now: UnixTime,
}

/// The trust set of `device`, as of now.
pub async fn trust_set(plant: &Plant, device: &Device) -> Result<TrustSet, TrustError> {
    let (view, now) = (view(plant).await?, plant.now());
    let said = view.said(&Offer::of(device), now)?;
    Ok(TrustSet { view, said, device: device.name.clone(), now })
}

impl TrustSet {
    /// Its place in the order of trust sets.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.view.sequence(self.view.epoch)
    }

    /// A digest of what it says, without sequence, date and signatures: of two sets of a device with the same content
    /// one need not be sent.
    #[must_use]
    pub fn content(&self) -> Digest {
        self.said.content
    }

    /// Signs it under the plant root.
    pub fn signed(&self, plant: &Plant) -> Result<v1::SignedTrustSet, TrustError> {
        let own = v1::TrustSet {
            sequence: self.sequence(),
            issued_at: self.now.0,
            device: self.device.to_string(),
            ..v1::TrustSet::default()
        };
        // Fields may come in any order and in parts: what follows is merged (protobuf encoding, "Last One Wins").
        let message = [LABEL, &own.encode_to_vec(), &self.said.encoded].concat();
        let keys = plant.keys.load();
        Ok(v1::SignedTrustSet {
            signature: plant.metrics.signing(Signed::TrustSet, || keys.issuing.sign(&message))?,
            trust_set: message.get(LABEL.len()..).unwrap_or_default().to_vec(),
            issuing_certificate: keys.issuing.certificate().to_vec(),
            nobody_certificate: keys.nobody.clone(),
            nobody_crl: keys.nobody_crl.clone(),
        })
    }
}

impl View {
    /// What devices of this offer are told, made at the first asking.
    fn said(&self, offer: &Offer, now: UnixTime) -> Result<Arc<Said>, TrustError> {
        // Held until it is made: who asks for the same meanwhile gets that.
        let mut kept = self.made.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = kept.find(offer, now) {
            return Ok(said);
        }
        let said = Arc::new(self.say(&mut kept.zones, offer, now)?);
        kept.keep(offer, &said);
        Ok(said)
    }

    /// The files of each zone, and every authority that one of them names, once.
    fn say(
        &self,
        zones: &mut BTreeMap<ZoneName, ZoneFiles>,
        offer: &Offer,
        now: UnixTime,
    ) -> Result<Said, TrustError> {
        let (mut set, mut until) = (v1::TrustSet::default(), None);
        set.grant_keys.clone_from(&self.grant_keys);
        let mut named = Named::default();
        for zone in &offer.zones {
            let known = zones.entry(zone.clone()).or_insert_with(|| ZoneFiles::new(self, zone, now));
            if known.until.is_some_and(|until| until <= now) {
                *known = ZoneFiles::new(self, zone, now);
            }
            let ZoneFiles { reached, inbound, outbound, until: edge } = known;
            for (service, direction) in listed(&offer.services, reached) {
                let known = match direction {
                    Direction::Inbound => &mut *inbound,
                    Direction::Outbound => &mut *outbound,
                };
                if !known.contains_key(service) {
                    known.insert(service.clone(), self.file(zone, service, direction, now)?);
                }
                set.files.extend(known.get(service).map(|file| named.renumbered(file)));
            }
            set.timings.extend(self.zones.zone(zone).map(convert::timing_to_wire));
            until = [until, *edge].into_iter().flatten().min();
        }
        let mut encoded = set.encode_to_vec();
        let mut content = encoded.clone();
        for believed in named.sent.iter().filter_map(|at| self.authorities.get(*at)) {
            encoded.extend_from_slice(&believed.encoded);
            content.extend_from_slice(&believed.content.0);
        }
        Ok(Said { encoded, content: Digest::of(&content), until })
    }

    fn file(
        &self,
        zone: &ZoneName,
        service: &ServiceName,
        direction: Direction,
        now: UnixTime,
    ) -> Result<v1::TrustFile, TrustError> {
        let file = trust_file(&self.zones, zone, service, direction, now)
            .map_err(|error| TrustError::Zones(error.to_string()))?;
        Ok(self.wire_file(zone, &file))
    }

    fn wire_file(&self, zone: &ZoneName, file: &TrustFile) -> v1::TrustFile {
        let direction = match file.direction {
            Direction::Inbound => v1::Direction::Inbound,
            Direction::Outbound => v1::Direction::Outbound,
        };
        let authorities = file.believed.authorities().flat_map(|of| self.generations_of(of)).collect();
        let mut openings = Vec::new();
        for opening in &file.openings {
            openings.extend(self.generations_of(&opening.authority).map(|authority| v1::Opening {
                authority,
                schedule: convert::schedule_to_wire(opening.schedule.as_ref()),
                expires_at: opening.expires.map_or(0, |at| at.0),
            }));
        }
        let (zone, service) = (zone.to_string(), file.service.to_string());
        let ways = file.ways.iter().map(convert::way_to_wire).collect();
        v1::TrustFile { zone, service, direction: direction.into(), authorities, openings, ways }
    }

    /// Where the generations of an authority stand.
    fn generations_of(&self, of: &AuthorityRef) -> impl Iterator<Item = u32> {
        let places = self.places.get(of).into_iter().flatten();
        places.map(|at| u32::try_from(*at).unwrap_or(u32::MAX))
    }
}

/// Authorities that a trust set names, by their place in the view.
#[derive(Default)]
struct Named {
    sent: Vec<usize>,
    indices: BTreeMap<u32, u32>,
}

impl Named {
    /// The file with authorities by their place in the set, which they join.
    fn renumbered(&mut self, file: &v1::TrustFile) -> v1::TrustFile {
        let mut file = file.clone();
        for authority in &mut file.authorities {
            *authority = self.index(*authority);
        }
        for opening in &mut file.openings {
            opening.authority = self.index(opening.authority);
        }
        file
    }

    fn index(&mut self, at: u32) -> u32 {
        *self.indices.entry(at).or_insert_with(|| {
            self.sent.extend(usize::try_from(at));
            u32::try_from(self.sent.len().saturating_sub(1)).unwrap_or(u32::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use policy::zone::{Conduit, compile};

    use super::*;
    use crate::admin::tests::{Bench, NOW, observing};
    use crate::admin::{Act, conduit};

    fn offer(services: &[&str]) -> Offer {
        let zones = ["cell-3", "hall-5"].map(|zone| zone.parse().unwrap()).to_vec();
        Offer { zones, services: services.iter().map(|service| service.parse().unwrap()).collect() }
    }

    async fn bench() -> Bench {
        let bench = Bench::new().await;
        for zone in ["cell-3", "hall-5", "lab"] {
            bench.zone(&observing(zone)).await;
        }
        for (from, to, service) in [("hall-5", "cell-3", "opcua"), ("lab", "hall-5", "ssh")] {
            let conduit = Conduit {
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                service: service.parse().unwrap(),
                schedule: None,
                expires: (service == "ssh").then(|| NOW.plus(60)),
                accept_observed: false,
            };
            let actor = bench.actor(Act::AllowConduit).await;
            let unoffered = conduit::Unoffered::Accept;
            conduit::allow(&bench.plant, &actor, &conduit, None, unoffered, false).await.unwrap();
        }
        bench
    }

    /// Zones of the authorities that each file of a set names.
    fn told(said: &Said) -> Vec<(String, String, i32, Vec<String>)> {
        let set = v1::TrustSet::decode(said.encoded.as_slice()).unwrap();
        let zone = |at: &u32| set.authorities[usize::try_from(*at).unwrap()].zone.clone();
        let file = |file: &v1::TrustFile| {
            let zones = file.authorities.iter().map(zone).collect();
            (file.zone.clone(), file.service.clone(), file.direction, zones)
        };
        set.files.iter().map(file).collect()
    }

    #[tokio::test]
    async fn a_file_is_computed_once_and_is_the_same_in_every_set() {
        let bench = bench().await;
        let view = view(&bench.plant).await.unwrap();
        for nth in 0..50 {
            let offer = offer(&["opcua", "ssh", &format!("own-{nth}")]);
            let said = view.said(&offer, NOW).unwrap();
            let mut expected = Vec::new();
            for zone in &offer.zones {
                let files = compile(&view.zones, &offer.placement(zone, &view.offers), NOW).unwrap().files;
                expected.extend(files.iter().map(|file| {
                    let zones = file.believed.authorities().map(|of| of.zone.to_string()).collect();
                    let direction = if file.direction == Direction::Inbound { 1 } else { 2 };
                    (zone.to_string(), file.service.to_string(), direction, zones)
                }));
            }
            assert_eq!(told(&said), expected);
        }
        let kept = view.made.0.lock().unwrap();
        let made = kept.zones.values().map(|zone| (zone.inbound.len(), zone.outbound.len()));
        assert_eq!(
            made.collect::<Vec<_>>(),
            [(52, 52), (52, 52)],
            "not one for each of 150 offers in each zone"
        );
    }

    #[tokio::test]
    async fn a_file_is_computed_again_when_a_conduit_closes() {
        let bench = bench().await;
        let view = view(&bench.plant).await.unwrap();
        let lab = |now| {
            let said = view.said(&offer(&["ssh"]), now).unwrap();
            let inbound = told(&said).into_iter().find(|(zone, service, direction, _)| {
                (zone.as_str(), service.as_str(), *direction) == ("hall-5", "ssh", 1)
            });
            (inbound.unwrap().3, said.content)
        };
        let (open, content) = lab(NOW);
        assert_eq!(open, ["lab"]);
        assert_eq!(lab(NOW.plus(59)), (open, content));
        let (closed, other) = lab(NOW.plus(60));
        assert!(closed.is_empty() && other != content);
        assert_eq!(view.made.0.lock().unwrap().sets.len(), 1, "what is over is not kept");
    }

    #[test]
    fn sets_are_kept_while_there_is_room() {
        let mut kept = Kept::default();
        let said =
            |size: usize, until| Arc::new(Said { encoded: vec![0; size], content: Digest::of(&[]), until });
        let (first, second, third) = (offer(&["a"]), offer(&["b"]), offer(&["c"]));
        kept.keep(&first, &said(MAX_KEPT / 2, Some(NOW)));
        kept.keep(&second, &said(MAX_KEPT / 2, None));
        kept.keep(&third, &said(1, None));
        assert!(
            kept.find(&third, NOW).is_none() && kept.find(&second, NOW).is_some(),
            "nobody is pushed out"
        );
        assert!(kept.find(&first, NOW).is_none(), "it is over");
        kept.keep(&third, &said(1, None));
        assert!(kept.find(&third, NOW).is_some());
        assert_eq!(kept.bytes, MAX_KEPT / 2 + 1);
    }
}
