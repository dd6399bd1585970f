//! The work that nobody can leave out.

use std::time::{Duration, Instant};

use broker::golden;
use broker::record::device::{ATTESTED, DEVICE, EK, INVENTORY};
use broker::store::MAX_SCAN;
use policy::appraisal::forecast;
use policy::evidence::HardwareProof;
use policy::evidence::recorded::RecordedEvidence;
use policy::reference::state::ReleaseState;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrValues};

use crate::boot::{Boot, boot};
use crate::fleet::Fleet;
use crate::rig::measure::processor_time;

/// Boots that are in memory at once: what is measured begins when they are made.
const IN_MEMORY: u32 = 2_000;

/// Reads every record that a plan rests on, and looks at none.
pub(crate) async fn read(fleet: &Fleet) -> usize {
    let mut bytes = 0;
    for prefix in [DEVICE, EK, ATTESTED, INVENTORY] {
        let mut after: Option<String> = None;
        loop {
            let page = fleet.plant.store.scan(prefix, after.as_deref(), MAX_SCAN).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            bytes += page.iter().map(|(_, found)| found.value.len()).sum::<usize>();
        }
    }
    bytes
}

/// Appraises the evidence of every device before and after the change, one after the other. Gives the time, and the
/// seconds of processor.
pub(crate) async fn appraise(fleet: &Fleet) -> (Duration, f64) {
    let golden = golden::current(&fleet.plant).await.unwrap();
    let mut after = golden.values.as_ref().clone();
    after.change_state(&"edge@1.0".parse().unwrap(), ReleaseState::Withdrawn).unwrap();
    let zones = broker::trust::segmentation(&fleet.plant).await.unwrap();
    let policy = zones.zone(&"cell-3".parse().unwrap()).unwrap().policy();
    let now = fleet.plant.now();
    let (mut spent, mut processor) = (Duration::ZERO, 0.0);
    for first in (0..fleet.devices).step_by(usize::try_from(IN_MEMORY).unwrap()) {
        let until = first.saturating_add(IN_MEMORY).min(fleet.devices);
        let boots: Vec<(PcrValues, Vec<u8>)> = (first..until).map(|n| in_memory(boot(n))).collect();
        let (busy, begin) = (processor_time(), Instant::now());
        for (pcrs, log) in boots {
            let evidence = RecordedEvidence::replay(pcrs, &log, HardwareProof::Registered).unwrap();
            let seen = evidence.measurements();
            let before = forecast(&seen, &golden.values, &policy, now).judgement();
            let after = forecast(&seen, &after, &policy, now).judgement();
            assert!(before.refused.is_empty() && !after.refused.is_empty());
        }
        spent += begin.elapsed();
        processor += processor_time() - busy;
    }
    (spent, processor)
}

fn in_memory(boot: Boot) -> (PcrValues, Vec<u8>) {
    let mut pcrs = PcrValues::new(HashAlg::Sha256);
    for (pcr, value) in (0..).zip(&boot.pcrs) {
        pcrs.set(PcrIndex::new(pcr).unwrap(), HashValue::new(HashAlg::Sha256, value).unwrap());
    }
    (pcrs, boot.log)
}
