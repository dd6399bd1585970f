//! What the CRL of an authority names.

use std::cmp::Reverse;

use policy::time::UnixTime;

use super::TrustError;
use crate::ca::{Revoked, Serial};
use crate::plant::Plant;
use crate::record::zone::{AuthorityRecord, RevokedCertificate, revoked_prefix};
use crate::record::{Held, list};
use crate::sweep::KEPT;

/// Most certificates that ended which the CRL of one authority names: at 40 bytes each they are a small part of what
/// a device reads (12 MiB), however often devices lost and found trust within a month.
const MOST_ENDED: usize = 2_000;

/// Certificates that `authority` revoked.
pub(super) async fn revoked(plant: &Plant, authority: &AuthorityRecord) -> Result<Vec<Revoked>, TrustError> {
    let prefix = revoked_prefix(&authority.zone, authority.role, authority.generation);
    let named = named(list(plant.store.as_ref(), &prefix).await?, plant.now());
    let entry = |held: &Held<RevokedCertificate>| {
        let serial = Serial::from_hex(held.key.strip_prefix(&prefix)?)?;
        Some(Revoked { serial, at: held.record.at })
    };
    Ok(named.iter().filter_map(entry).collect())
}

/// Those of `all` that a CRL of `now` names. One that ended is refused by its date only where clocks are right: it stays
/// for as long as they may run late, and if there are too many, those stay that ended last.
fn named(all: Vec<Held<RevokedCertificate>>, now: UnixTime) -> Vec<Held<RevokedCertificate>> {
    let (mut ended, mut named): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|held| held.record.not_after < now);
    ended.retain(|held| held.record.not_after.plus(KEPT) >= now);
    ended.sort_by_key(|held| Reverse(held.record.not_after));
    named.extend(ended.into_iter().take(MOST_ENDED));
    // The same certificates are told in the same order, whichever of them ended meanwhile.
    named.sort_by(|one, other| one.key.cmp(&other.key));
    named
}

#[cfg(test)]
mod tests {
    use policy::zone::Role;

    use super::*;
    use crate::admin::tests::{Bench, NOW, observing};
    use crate::record::stored;
    use crate::record::zone::revoked_key;
    use crate::store::{Revision, Txn};
    use crate::trust::view;

    fn record(not_after: UnixTime) -> RevokedCertificate {
        let (device, reason) = ("press-7".parse().unwrap(), "stolen".to_owned());
        RevokedCertificate { device, at: NOW.minus(90 * 86_400), reason, not_after }
    }

    fn held(key: u64, not_after: UnixTime) -> Held<RevokedCertificate> {
        Held { key: format!("{key:08}"), version: Revision(1), record: record(not_after) }
    }

    #[tokio::test]
    async fn a_certificate_that_ended_is_named_for_devices_whose_clocks_run_late() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let mut txn = Txn::new();
        for (serial, not_after) in [(1, NOW.plus(1)), (2, NOW.minus(KEPT)), (3, NOW.minus(KEPT + 1))] {
            let serial = Serial::from_random([serial; 16]);
            let key = revoked_key(&"cell-3".parse().unwrap(), Role::Caller, 1, serial);
            txn = txn.put(key, stored(&record(not_after)).unwrap());
        }
        bench.plant.store.transact(txn).await.unwrap();
        let view = view(&bench.plant).await.unwrap();
        let told: Vec<_> = view.known().into_iter().filter(|one| one.role == Role::Caller).collect();
        let [caller] = told.as_slice() else { panic!("{} authorities", told.len()) };
        let serials = [1, 2].map(|serial| Serial::from_random([serial; 16]).bytes().to_vec());
        assert_eq!(*caller.revoked, serials.into());
    }

    #[test]
    fn those_that_ended_are_bounded_and_those_that_did_not_are_all_named() {
        let most = u64::try_from(MOST_ENDED).unwrap();
        let living = (0..most + 10).map(|key| held(key, NOW));
        let ended = (0..most + 10).map(|age| held(most + 10 + age, NOW.minus(1 + age)));
        let named = named(living.chain(ended).collect(), NOW);
        assert_eq!(named.len(), 2 * MOST_ENDED + 10);
        assert!(named.is_sorted_by_key(|held| &held.key));
        let oldest = named.iter().map(|held| held.record.not_after).min();
        assert_eq!(oldest, Some(NOW.minus(most)), "the ten that ended first are left out");
    }

    #[test]
    fn nothing_moves_when_a_certificate_ends() {
        let all = || [3, 1, 2].map(|key| held(key, NOW.plus(key))).to_vec();
        let keys = |now| named(all(), now).into_iter().map(|held| held.key).collect::<Vec<_>>();
        assert_eq!(keys(NOW), keys(NOW.plus(2)));
    }
}
