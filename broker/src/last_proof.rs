//! What a zone makes today of the last evidence of a device, which is not asked for another.
//!
//! For zones whose rules change: a device that is away answers nothing, and keeps certificates that it earned under
//! the former ones. It leads to losing them, never to a certificate.

use std::collections::HashMap;
use std::sync::Arc;

use policy::appraisal::finding::FindingKind;
use policy::appraisal::forecast;
use policy::appraisal::policy::{Mode, ZonePolicy};
use policy::digest::Digest;

use crate::golden::{self, Golden};
use crate::plant::Plant;
use crate::record::device::{Attested, Device, Tpm, ek_key};
use crate::record::overriding::Excused;
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::session::recorded::{RecordedError, recorded};
use crate::store::blobs::FetchError;

/// What counts against a device whose evidence is not there.
const UNREADABLE: &str = "its last evidence cannot be read back";

/// Devices with the same one are judged alike: what was measured, and what may vouch for the TPM.
type Alike = (Digest, bool, Option<[u8; 4]>);

/// What counts against a last proof.
#[derive(Clone, Debug)]
pub(crate) struct Against {
    /// In a sentence.
    pub(crate) why: Arc<str>,
    /// Its kind; none if the proof is not there.
    pub(crate) kind: Option<FindingKind>,
}

/// Last proofs, each judged under the rules of one zone and the golden values of now.
pub(crate) struct LastProofs<'a> {
    plant: &'a Plant,
    policy: ZonePolicy,
    golden: Golden,
    known: HashMap<Alike, Option<Against>>,
}

impl<'a> LastProofs<'a> {
    /// Judges under `policy`.
    pub(crate) async fn under(plant: &'a Plant, policy: ZonePolicy) -> Result<Self, Refusal> {
        let golden = golden::current(plant).await.map_err(Refusal::internal)?;
        Ok(Self { plant, policy, golden, known: HashMap::new() })
    }

    /// Why the zone would refuse the last proof of `device`; none: it would trust it.
    pub(crate) async fn against(
        &mut self,
        device: &Device,
        attested: &Attested,
    ) -> Result<Option<Against>, Refusal> {
        let tpm: Option<Held<Tpm>> = fetch(self.plant.store.as_ref(), ek_key(&device.ek)).await?;
        let tpm = tpm.ok_or_else(|| {
            Refusal::internal(format!("the device {} is known, its TPM is not", device.name))
        })?;
        let excused = Excused::of(self.plant.store.as_ref(), &device.name).await?;
        // What is accepted by hand is accepted of one device; and what vouched when the evidence came may not
        // vouch any more.
        let shared =
            excused.in_zone(&self.policy.zone).is_none() && attested.vouched == Some(self.plant.vouching());
        let alike = attested.basis.filter(|_| shared);
        let alike = alike.map(|basis| (basis, tpm.record.registered, tpm.record.manufacturer));
        if let Some(known) = alike.and_then(|alike| self.known.get(&alike)) {
            return Ok(known.clone());
        }
        let against = self.judged(attested, &tpm.record, &excused).await?;
        if let Some(alike) = alike {
            self.known.insert(alike, against.clone());
        }
        Ok(against)
    }

    async fn judged(
        &self,
        attested: &Attested,
        tpm: &Tpm,
        excused: &Excused,
    ) -> Result<Option<Against>, Refusal> {
        let evidence = match recorded(self.plant, attested, tpm).await {
            Ok(evidence) => evidence,
            // A disk that fails for a moment takes nobody's trust.
            Err(error @ RecordedError::Blob(FetchError::Io(_))) => return Err(Refusal::internal(error)),
            // An observing zone takes trust only for what it found.
            Err(_) if self.policy.mode == Mode::Observe => return Ok(None),
            Err(_) => return Ok(Some(Against { why: UNREADABLE.into(), kind: None })),
        };
        let now = self.plant.now();
        let forecast = forecast(&evidence.measurements(), &self.golden.values, &self.policy, now);
        let refused = forecast.judgement_under(excused.in_zone(&self.policy.zone)).refused;
        Ok(refused
            .first()
            .map(|first| Against { why: first.sentence.as_str().into(), kind: Some(first.kind) }))
    }
}
