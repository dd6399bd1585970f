//! A device that moves leaves the old zone when it says that it delivered its certificates of the new one.
//!
//! Until then those of the old zone hold, and are renewed as long as there are none of the new: a zone that does not
//! trust the device must not stop it. From then on none is made anew, so a device that never says so is out of the
//! old zone when the last one ends. Nor does it stay there by never asking for another: when the move is
//! [due](Leaving::due) none is made anew either.

use std::collections::BTreeSet;

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Admission, Role};
use proto::v1;

use super::Refusal;
use super::proof::Proven;
use super::ruling::Ruling;
use crate::plant::Plant;
use crate::record::device::{Device, HeldCertificate, HeldCertificates, Leaving, held_key};
use crate::record::{Held, fetch};

/// Where a moving device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Departure {
    /// It does not move.
    None,
    /// It has no certificates of the new zone yet.
    Joining(Leaving),
    /// It has none, and had time enough to get them.
    Overdue(Leaving),
    /// It has some, and did not say yet that it delivered them.
    Certified(ZoneName),
    /// It is out of this zone.
    Left(ZoneName),
}

/// What a device says of the zone that it goes to.
struct Said<'a> {
    /// Serials of the certificates that its software has; none: its attestor does not say.
    delivered: Option<&'a BTreeSet<String>>,
    /// Whether it asks for certificates there.
    asks: bool,
}

impl Departure {
    /// Of a device with these certificates of the zone that it goes to.
    fn of(
        leaving: Leaving,
        holds_old: bool,
        new: &[HeldCertificate],
        said: &Said<'_>,
        now: UnixTime,
    ) -> Self {
        let overdue = now > leaving.due();
        match (new.is_empty(), holds_old) {
            (false, false) => Self::Left(leaving.from),
            (false, true) if said.has(new) => Self::Left(leaving.from),
            (false, true) => Self::Certified(leaving.from),
            (true, false) if overdue => Self::Left(leaving.from),
            (true, true) if overdue => Self::Overdue(leaving),
            (true, _) => Self::Joining(leaving),
        }
    }

    /// The zone that it left just now.
    pub(super) const fn left(&self) -> Option<&ZoneName> {
        match self {
            Self::Left(zone) => Some(zone),
            Self::None | Self::Joining(_) | Self::Overdue(_) | Self::Certified(_) => None,
        }
    }

    /// Whether the device gets certificates in `zone` for what it proved, when the zones ruled so: none of the old
    /// zone beside some of the new.
    pub(super) fn certifies(&self, zone: &ZoneName, rulings: &[Ruling], proven: &Proven) -> bool {
        match self {
            Self::None | Self::Left(_) => true,
            Self::Certified(from) => from != zone,
            Self::Overdue(leaving) => leaving.from != *zone,
            Self::Joining(leaving) => leaving.from != *zone || !arrives(&leaving.to, rulings, proven),
        }
    }

    /// `device` as it is stored: asked to say soon that it delivered what it gets now in the zone that it goes to.
    pub(super) fn awaiting(&self, device: &Device, svids: &[v1::Svid]) -> Device {
        let gets = match self {
            Self::Joining(leaving) | Self::Overdue(leaving) => {
                svids.iter().any(|svid| svid.zone == leaving.to.as_str())
            }
            Self::None | Self::Certified(_) | Self::Left(_) => false,
        };
        let asked = device.asked.saturating_add(gets.into());
        Device { asked, ..device.clone() }
    }
}

/// Whether the device gets certificates of the zone that it goes to.
fn arrives(to: &ZoneName, rulings: &[Ruling], proven: &Proven) -> bool {
    let trusts =
        |ruling: &Ruling| ruling.zone.record.name == *to && matches!(ruling.admission, Admission::Trusted(_));
    rulings.iter().any(trusts) && proven.keys().iter().any(|key| key.zone == *to)
}

impl Said<'_> {
    /// Whether its software has a certificate of each role that there is one of. An attestor that says nothing of it
    /// asks for none where it holds one.
    fn has(&self, new: &[HeldCertificate]) -> bool {
        let Some(serials) = self.delivered else { return !self.asks };
        let of = |role: Role| new.iter().filter(move |one| one.role == role);
        let has = |role: Role| of(role).next().is_none() || of(role).any(|one| serials.contains(&one.serial));
        has(Role::Caller) && has(Role::Listener)
    }
}

/// Lets `device` leave its old zone, if it has arrived in the new one.
pub(super) async fn depart(
    plant: &Plant,
    device: &mut Device,
    proven: &Proven,
) -> Result<Departure, Refusal> {
    let Some(leaving) = device.leaving.clone() else { return Ok(Departure::None) };
    let now = plant.now();
    let new = living(plant, &device.name, &leaving.to, now).await?;
    let old = living(plant, &device.name, &leaving.from, now).await?;
    let said = Said {
        delivered: proven.statement().delivered.as_ref(),
        asks: proven.keys().iter().any(|key| key.zone == leaving.to),
    };
    let departure = Departure::of(leaving, !old.is_empty(), &new, &said, now);
    if let Some(from) = departure.left() {
        device.zones.retain(|zone| zone != from);
        device.addresses.remove(from);
        device.leaving = None;
    }
    Ok(departure)
}

async fn living(
    plant: &Plant,
    device: &DeviceName,
    zone: &ZoneName,
    now: UnixTime,
) -> Result<Vec<HeldCertificate>, Refusal> {
    let held: Option<Held<HeldCertificates>> = fetch(plant.store.as_ref(), held_key(device, zone)).await?;
    let all = held.map(|held| held.record.certificates).unwrap_or_default();
    Ok(all.into_iter().filter(|one| one.validity.not_after > now).collect())
}

#[cfg(test)]
mod tests {
    use policy::digest::Digest;
    use policy::time::Validity;
    use proptest::prelude::*;

    use super::*;

    const SINCE: UnixTime = UnixTime(1_800_000_000);
    const WEEK: u64 = 7 * 86_400;

    fn leaving() -> Leaving {
        Leaving { from: "cell-3".parse().unwrap(), to: "cell-4".parse().unwrap(), since: SINCE }
    }

    fn certificate(role: Role, serial: &str) -> HeldCertificate {
        HeldCertificate {
            role,
            generation: 1,
            serial: serial.to_owned(),
            spki: Digest([0; 32]),
            validity: Validity { not_before: SINCE, not_after: SINCE.plus(3600) },
            service: None,
            workload: None,
            addresses: BTreeSet::new(),
        }
    }

    fn of(leaves: bool, new: &[HeldCertificate], delivered: Option<&[&str]>, after: u64) -> Departure {
        let delivered = delivered.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        let said = Said { delivered: delivered.as_ref(), asks: true };
        Departure::of(leaving(), leaves, new, &said, SINCE.plus(after))
    }

    #[test]
    fn it_leaves_when_its_software_has_what_there_is_of_the_new_zone() {
        let (caller, listener) = (certificate(Role::Caller, "c"), certificate(Role::Listener, "l"));
        let both = [caller.clone(), listener];
        assert_eq!(of(true, &both, Some(&["c", "l"]), 0), Departure::Left(leaving().from));
        let certified = Departure::Certified(leaving().from);
        assert_eq!(of(true, &both, Some(&["c"]), 0), certified, "of each role");
        assert_eq!(of(true, &both, None, 0), certified, "it asks for others");
        assert_eq!(
            of(true, std::slice::from_ref(&caller), Some(&[]), 0),
            certified,
            "one role is an arrival too"
        );
        assert_eq!(of(true, &[caller], Some(&["c"]), 0), Departure::Left(leaving().from));
        let silent = Said { delivered: None, asks: false };
        assert_eq!(Departure::of(leaving(), true, &both, &silent, SINCE), Departure::Left(leaving().from));
    }

    #[test]
    fn it_keeps_its_place_in_the_old_zone_while_the_new_gives_nothing_but_not_for_ever() {
        for leaves in [true, false] {
            assert_eq!(of(leaves, &[], Some(&[]), WEEK), Departure::Joining(leaving()), "{leaves}");
        }
        assert_eq!(of(true, &[], Some(&[]), WEEK + 1), Departure::Overdue(leaving()));
        assert_eq!(of(false, &[], Some(&[]), WEEK + 1), Departure::Left(leaving().from));
    }

    proptest! {
        #[test]
        fn whatever_it_says_the_old_zone_is_renewed_a_week_at_most_and_only_without_the_new(
            leaves: bool, caller: bool, listener: bool, says: Option<bool>, asks: bool, after in 0..30 * 86_400_u64,
        ) {
            let held = [(caller, Role::Caller, "c"), (listener, Role::Listener, "l")];
            let new: Vec<_> = held.iter().filter(|one| one.0).map(|one| certificate(one.1, one.2)).collect();
            let all: BTreeSet<String> = ["c".to_owned(), "l".to_owned()].into();
            let delivered = says.map(|says| if says { all } else { BTreeSet::new() });
            let said = Said { delivered: delivered.as_ref(), asks };
            let departure = Departure::of(leaving(), leaves, &new, &said, SINCE.plus(after));
            let renewed = matches!(departure, Departure::Joining(_));
            prop_assert_eq!(renewed, new.is_empty() && after <= WEEK);
            prop_assert!(departure.left().is_none() || !new.is_empty() || (!leaves && after > WEEK));
        }
    }
}
