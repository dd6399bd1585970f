//! Signed trust sets. What devices with the same offer are told is made once for all of them; only the device's name,
//! date and signature are its own.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{AuthorityRef, Direction, TrustFile, compile};
use prost::Message;
use proto::{convert, v1};

use super::offers::Offer;
use super::{TrustError, View, view};
use crate::metrics::Signed;
use crate::plant::Plant;
use crate::record::device::Device;

/// What the signature of a trust set begins with, so that it means nothing else.
const LABEL: &[u8] = b"touchstone/v1/trust-set\0";
/// Offers whose files are kept: a plant has some dozens, at some KiB each. A fleet in which every device has another
/// pays for each device again.
const MAX_KEPT: usize = 1_024;

/// What is said to devices of one offer.
#[derive(Debug)]
pub(super) struct Said {
    /// The trust set without sequence, date and device, encoded.
    encoded: Vec<u8>,
    /// What it says, whatever the bytes of CRLs.
    content: Digest,
    /// When files change because a conduit opens or closes.
    until: Option<UnixTime>,
}

/// What has been said of a view.
pub(super) type AllSaid = std::sync::Mutex<BTreeMap<Offer, Arc<Said>>>;

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
        let mut kept = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = kept.get(offer).filter(|said| said.until.is_none_or(|until| now < until)) {
            return Ok(Arc::clone(said));
        }
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        let said = Arc::new(self.say(offer, now)?);
        kept.insert(offer.clone(), Arc::clone(&said));
        Ok(said)
    }

    /// Every authority that one of the files names, once.
    fn say(&self, offer: &Offer, now: UnixTime) -> Result<Said, TrustError> {
        let (mut set, mut until) = (v1::TrustSet::default(), None);
        set.grant_keys.clone_from(&self.grant_keys);
        let mut named = Named::default();
        for zone in &offer.zones {
            let placement = offer.placement(zone, &self.offers);
            let files = compile(&self.zones, &placement, now)
                .map_err(|error| TrustError::Zones(error.to_string()))?;
            set.files.extend(files.files.iter().map(|file| self.wire_file(zone, file, &mut named)));
            set.timings.extend(self.zones.zone(zone).map(convert::timing_to_wire));
            until = [until, files.until].into_iter().flatten().min();
        }
        let sent = || named.sent.iter().filter_map(|at| self.authorities.get(*at));
        set.authorities = sent().map(|believed| believed.wire.clone()).collect();
        let encoded = set.encode_to_vec();
        for (authority, believed) in set.authorities.iter_mut().zip(sent()) {
            authority.crl = believed.revoked.0.to_vec();
        }
        Ok(Said { encoded, content: Digest::of(&set.encode_to_vec()), until })
    }

    fn wire_file(&self, zone: &ZoneName, file: &TrustFile, named: &mut Named) -> v1::TrustFile {
        let direction = match file.direction {
            Direction::Inbound => v1::Direction::Inbound,
            Direction::Outbound => v1::Direction::Outbound,
        };
        let authorities = file.believed.authorities().flat_map(|of| self.indices(of, named)).collect();
        let mut openings = Vec::new();
        for opening in &file.openings {
            let indices = self.indices(&opening.authority, named).into_iter();
            openings.extend(indices.map(|authority| v1::Opening {
                authority,
                schedule: convert::schedule_to_wire(opening.schedule.as_ref()),
                expires_at: opening.expires.map_or(0, |at| at.0),
            }));
        }
        let (zone, service) = (zone.to_string(), file.service.to_string());
        let ways = file.ways.iter().map(convert::way_to_wire).collect();
        v1::TrustFile { zone, service, direction: direction.into(), authorities, openings, ways }
    }

    /// Where each generation of an authority stands among those sent, which it joins.
    fn indices(&self, of: &AuthorityRef, named: &mut Named) -> Vec<u32> {
        let generations = self.authorities.iter().enumerate().filter(|(_, believed)| believed.of == *of);
        generations.map(|(at, _)| named.index(at)).collect()
    }
}

/// Authorities that a trust set names, by their place in the view.
#[derive(Default)]
struct Named {
    sent: Vec<usize>,
    indices: BTreeMap<usize, u32>,
}

impl Named {
    fn index(&mut self, at: usize) -> u32 {
        *self.indices.entry(at).or_insert_with(|| {
            self.sent.push(at);
            u32::try_from(self.sent.len().saturating_sub(1)).unwrap_or(u32::MAX)
        })
    }
}
