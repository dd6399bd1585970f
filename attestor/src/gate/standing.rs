//! What a gate goes by: the trust set, its zone, its own certificate. Made anew with every change of the device's state.

use std::sync::Arc;
use std::time::Duration;

use policy::access::{Allowed, Decision};
use policy::id::{PlantDomain, ZoneName};
use policy::time::UnixTime;
use policy::zone::GateFail;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::authorize::{Told, own_zone};
use crate::config::GateConfig;
use crate::role::Seat;
use crate::state::State;
use crate::tpm::TpmHandle;
use crate::trust::{About, Judge, TrustSet};

/// Part of the handshake's time that a signature may take; the rest is for the network.
const SIGNATURE: f64 = 0.8;

/// The ground that a gate stands on.
#[derive(Debug)]
pub(super) struct Standing {
    trust: Arc<TrustSet>,
    /// The device's zone that the gate is in.
    pub(super) zone: ZoneName,
    /// What it shows to peers.
    pub(super) identity: Arc<CertifiedKey>,
    /// Whether other zones are let in only while the broker is heard.
    closed: bool,
    /// How long sessions may go on once they are not allowed any more.
    pub(super) drain: Duration,
    /// The first second at which its own certificate is over.
    pub(super) until: UnixTime,
}

impl Standing {
    /// What the gate of `config` goes by, or why it opens to nobody.
    pub(super) fn of(
        state: &State,
        config: &GateConfig,
        tpm: Option<&TpmHandle>,
        doubt: Option<(&'static str, String)>,
        now: UnixTime,
    ) -> Result<Arc<Self>, Vec<Told>> {
        const REMEDY: &str = "touchstone-attestor status says why, and what to do";
        if let Some(refusal) = state.distrusted() {
            let words = format!("this device is refused: {}", refusal.reason);
            return Err(Told::new("own-trust-lost", &words, REMEDY));
        }
        if let Some((code, doubt)) = doubt {
            return Err(Told::new(code, &doubt, REMEDY));
        }
        let none = || Told::new("no-trust-set", "this device has no trust set yet", REMEDY);
        let trust = state.trust.as_ref().ok_or_else(none)?;
        let zone =
            own_zone(state, trust, (&config.service, config.role.direction()), config.zone.as_ref(), now)?;
        let seat = Seat { zone: zone.clone(), role: config.role };
        let none = || {
            let words = format!("this device has no certificate as {seat} that holds");
            Told::new("no-own-certificate", &words, REMEDY)
        };
        let held = state.holding().find(|(held, _)| **held == seat).map(|(_, svid)| svid);
        let svid = held.filter(|svid| svid.holds(now)).ok_or_else(none)?;
        let tpm = tpm.map(|tpm| tpm.with_deadline(config.limits.handshake.mul_f64(SIGNATURE)));
        let key = state.keys.get(&seat).and_then(|key| key.signing_key(tpm.as_ref())).ok_or_else(none)?;
        let chain = svid.chain().iter().cloned().map(CertificateDer::from).collect();
        let rules = trust.gate_rules(&zone);
        Ok(Arc::new(Self {
            trust: Arc::clone(trust),
            identity: Arc::new(CertifiedKey::new(chain, key)),
            drain: Duration::from_secs(rules.drain()),
            closed: rules.fail() == GateFail::Closed,
            until: svid.not_after().plus(1),
            zone,
        }))
    }

    /// Why it opens to no other zone now, if it does not.
    pub(super) fn shut(&self, heard: bool) -> Option<String> {
        let zone = &self.zone;
        (self.closed && !heard).then(|| format!("the broker is not heard: no zone but {zone} is let in"))
    }

    /// Who decides about peers of the gate.
    pub(super) fn judge<'a>(&'a self, plant: &'a PlantDomain, config: &GateConfig) -> Judge<'a> {
        let about = About { zone: &self.zone, service: &config.service, direction: config.role.direction() };
        self.trust.judge(plant, &about)
    }

    /// Decides about the peer that showed `certificate`.
    pub(super) fn decide(
        &self,
        plant: &PlantDomain,
        config: &GateConfig,
        certificate: &[u8],
        now: UnixTime,
        heard: bool,
    ) -> Result<Allowed, Vec<Told>> {
        let allowed = match self.judge(plant, config).decide(certificate, now) {
            Decision::Allowed(allowed) => allowed,
            Decision::Refused { reasons, .. } => return Err(Told::of(reasons)),
        };
        if self.closed && *allowed.zone() != self.zone && !heard {
            let words = format!("the broker is not heard, and zone {} lets no other zone in then", self.zone);
            let remedy =
                "bring the network to the broker back; `gate_fail` of the zone says what holds meanwhile";
            return Err(Told::new("broker-not-heard", &words, remedy));
        }
        match &config.peer {
            Some(peer) if allowed.peer() != &plant.trust_domain(&peer.zone).device(&peer.device) => {
                let words = format!("{} answered, and {peer} is expected", allowed.peer());
                Err(Told::new(
                    "other-peer",
                    &words,
                    "correct `connect` or `peer` of the gate in attestor.toml",
                ))
            }
            _ => Ok(allowed),
        }
    }
}
