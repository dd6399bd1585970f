//! What ends, and when: authorities and their CRLs, the broker's certificates, administrators.

use std::collections::BTreeMap;

use policy::time::UnixTime;
use prometheus_client::registry::Registry;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;
use x509_cert::time::Time;

use super::{Gauges, seconds_to};
use crate::plant::Plant;
use crate::record::audit::{AUDIT_KEY, AuditSigning};
use crate::record::plant::{ADMIN, AdminRole, Administrator};
use crate::record::zone::{AUTHORITY, AuthorityRecord, AuthorityState, role_name};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::trust;

/// Zone authorities that sign, and the CRLs of all that are believed.
pub(super) async fn authorities(
    plant: &Plant,
    now: UnixTime,
    registry: &mut Registry,
) -> Result<(), Refusal> {
    let ends = Gauges::<2>::default();
    let all: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
    for held in all.iter().filter(|held| held.record.state == AuthorityState::Active) {
        let label =
            [("zone", held.record.zone.to_string()), ("role", role_name(held.record.role).to_owned())];
        // In the order of generations: of two that sign, the later one is used.
        ends.get_or_create(&label).set(seconds_to(held.record.not_after, now));
    }
    registry.register("authority_expiry_seconds", "Time until the zone's authority ends", ends);
    let (ages, nexts) = (Gauges::<2>::default(), Gauges::<2>::default());
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    for (of, crl) in view.crls() {
        let label = [("zone", of.zone.to_string()), ("role", role_name(of.role).to_owned())];
        let list = <CertificateList>::from_der(crl).map_err(Refusal::internal)?.tbs_cert_list;
        let at = |time: Time| UnixTime(time.to_unix_duration().as_secs());
        ages.get_or_create(&label).set(seconds_to(now, at(list.this_update)));
        if let Some(next) = list.next_update {
            nexts.get_or_create(&label).set(seconds_to(at(next), now));
        }
    }
    registry.register("crl_age_seconds", "Time since the zone's revocation list was made", ages);
    registry.register(
        "crl_next_update_seconds",
        "Time until strict software refuses the zone's revocation list as too old",
        nexts,
    );
    Ok(())
}

/// The broker's own certificates.
pub(super) async fn own(plant: &Plant, now: UnixTime, registry: &mut Registry) -> Result<(), Refusal> {
    let audit: Option<Held<AuditSigning>> = fetch(plant.store.as_ref(), AUDIT_KEY.to_owned()).await?;
    let ends = Gauges::<1>::default();
    for (name, end) in [
        ("issuing", Some(plant.keys.load().issuing.not_after())),
        ("server", plant.metrics.server_ends()),
        ("publish", plant.metrics.publish_ends()),
        ("audit", audit.map(|held| held.record.not_after)),
    ] {
        if let Some(end) = end {
            ends.get_or_create(&[("certificate", name.to_owned())]).set(seconds_to(end, now));
        }
    }
    registry.register(
        "broker_expiry_seconds",
        "Time until a certificate of the broker itself ends; server and audit are made anew by themselves, publish is the operator's",
        ends,
    );
    Ok(())
}

/// Administrators, by role.
pub(super) async fn administrators(
    plant: &Plant,
    now: UnixTime,
    registry: &mut Registry,
) -> Result<(), Refusal> {
    let mut first: BTreeMap<AdminRole, UnixTime> = BTreeMap::new();
    let (able, ends) = (Gauges::<1>::default(), Gauges::<1>::default());
    for role in AdminRole::ALL {
        drop(able.get_or_create(&[("role", role.name().to_owned())]));
    }
    let all: Vec<Held<Administrator>> = list(plant.store.as_ref(), ADMIN).await?;
    for record in all.into_iter().map(|held| held.record).filter(|record| record.not_after > now) {
        able.get_or_create(&[("role", record.role.name().to_owned())]).inc();
        let end = first.entry(record.role).or_insert(record.not_after);
        *end = record.not_after.min(*end);
    }
    for (role, end) in first {
        ends.get_or_create(&[("role", role.name().to_owned())]).set(seconds_to(end, now));
    }
    registry.register("administrators", "Administrators whose certificate has not ended", able);
    registry.register(
        "administrator_expiry_seconds",
        "Time until the first certificate of an administrator of this role ends",
        ends,
    );
    Ok(())
}
