//! In whose hands administrators are: two people of one hand are not two.
//!
//! An owner who alone let somebody in may hold both keys, so the two count as one. While a plant has one owner, there
//! is nobody else who could let people in: two whom they let in are two then, but never with that owner. As soon as
//! there are two owners, both let in whoever comes, and each can confirm whom the other let in before.

use std::collections::BTreeMap;

use policy::time::UnixTime;

use crate::plant::Plant;
use crate::record::plant::{ADMIN, AdminRole, Administrator};
use crate::record::{Held, list};
use crate::session::Refusal;

/// Everybody who administers the plant.
pub(in crate::admin) struct Hands {
    people: BTreeMap<String, Administrator>,
    owners: usize,
}

impl Hands {
    pub(in crate::admin) async fn read(plant: &Plant) -> Result<Self, Refusal> {
        let all: Vec<Held<Administrator>> = list(plant.store.as_ref(), ADMIN).await?;
        Ok(Self::of(all.into_iter().map(|held| held.record), plant.now()))
    }

    fn of(people: impl Iterator<Item = Administrator>, now: UnixTime) -> Self {
        let people: BTreeMap<String, Administrator> =
            people.map(|record| (record.name.clone(), record)).collect();
        let owns = |record: &&Administrator| record.role == AdminRole::Owner && record.not_after > now;
        Self { owners: people.values().filter(owns).count(), people }
    }

    /// Whether a second owner is there, who lets people in too.
    pub(in crate::admin) const fn have_two_owners(&self) -> bool {
        self.owners >= 2
    }

    /// As whom `name` counts: an owner as themselves, whoever was let in by one owner alone as that owner.
    fn hand<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        // Everybody is looked at once at most.
        for _ in 0..self.people.len() {
            let Some(record) = self.people.get(name).filter(|record| record.role != AdminRole::Owner) else {
                break;
            };
            let Some(by) = &record.let_in_by else { break };
            name = by;
        }
        name
    }

    /// Refuses two people who may be one.
    pub(in crate::admin) fn apart(&self, one: &str, other: &str) -> Result<(), Refusal> {
        let (first, second) = (self.hand(one), self.hand(other));
        let neither_is_it = one != first && other != second;
        if first != second || (neither_is_it && !self.have_two_owners()) {
            return Ok(());
        }
        let alone: Vec<&str> = [one, other].into_iter().filter(|name| *name != first).collect();
        let remedy = match self.have_two_owners() {
            true => "another owner confirms them with `touchstone admin role`",
            false => "let a second owner in with `touchstone admin invite NAME --role owner`",
        };
        Err(Refusal::NotPermitted(format!(
            "{one} and {other} are not two people here: {first} alone let in {}; {remedy}",
            alone.join(" and ")
        )))
    }

    /// Whether two of `names` are two people.
    pub(in crate::admin) fn two_of(&self, names: &[&str]) -> bool {
        let with_later = |(at, one): (usize, &&str)| {
            names.iter().skip(at.saturating_add(1)).any(|other| self.apart(one, other).is_ok())
        };
        names.iter().enumerate().any(with_later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::digest::Digest;

    const NOW: UnixTime = UnixTime(1000);

    fn person(name: &str, role: AdminRole, let_in_by: Option<&str>) -> Administrator {
        Administrator {
            name: name.to_owned(),
            role,
            spki: Digest([0; 32]),
            created: UnixTime(1),
            zones: None,
            not_after: NOW.plus(1),
            let_in_by: let_in_by.map(str::to_owned),
        }
    }

    fn plant(more: &[(&str, AdminRole, Option<&str>)]) -> Hands {
        let ada = ("ada", AdminRole::Owner, None);
        let all = [ada].into_iter().chain(more.iter().copied());
        Hands::of(all.map(|(name, role, by)| person(name, role, by)), NOW)
    }

    fn refused(hands: &Hands, one: &str, other: &str) -> String {
        hands.apart(one, other).unwrap_err().to_string()
    }

    #[test]
    fn an_owner_and_whom_they_let_in_alone_are_one_both_ways() {
        let hands = plant(&[("cy", AdminRole::Security, Some("ada"))]);
        for (one, other) in [("ada", "cy"), ("cy", "ada")] {
            let text = refused(&hands, one, other);
            assert!(text.contains("ada alone let in cy; let a second owner in"), "{text}");
        }
        assert!(!hands.two_of(&["ada", "cy"]));
    }

    #[test]
    fn two_whom_the_only_owner_let_in_are_two_until_there_is_a_second() {
        let both = [("cy", AdminRole::Security, Some("ada")), ("di", AdminRole::Operator, Some("ada"))];
        plant(&both).apart("cy", "di").unwrap();
        let bob = ("bob", AdminRole::Owner, Some("ada"));
        let hands = plant(&[both[0], both[1], bob]);
        let text = refused(&hands, "di", "cy");
        assert!(text.contains("ada alone let in di and cy; another owner confirms"), "{text}");
        hands.apart("ada", "bob").unwrap();
        hands.apart("bob", "cy").unwrap();
        // A second owner whose certificate ended lets nobody in.
        let ended = Administrator { not_after: NOW, ..person("bob", AdminRole::Owner, Some("ada")) };
        let people = both.map(|(name, role, by)| person(name, role, by));
        Hands::of(people.into_iter().chain([person("ada", AdminRole::Owner, None), ended]), NOW)
            .apart("cy", "di")
            .unwrap();
    }

    #[test]
    fn whom_two_owners_let_in_stands_for_themselves() {
        let hands = plant(&[("bob", AdminRole::Owner, None), ("cy", AdminRole::Security, None)]);
        for (one, other) in [("ada", "cy"), ("bob", "cy"), ("ada", "bob")] {
            hands.apart(one, other).unwrap();
        }
    }

    #[test]
    fn one_who_was_an_owner_counts_as_whoever_let_them_in() {
        let cy = ("cy", AdminRole::Security, Some("bob"));
        let hands = plant(&[("bob", AdminRole::Security, Some("ada")), cy]);
        assert_eq!(hands.hand("cy"), "ada");
        refused(&hands, "ada", "cy");
        let round = plant(&[("bob", AdminRole::Viewer, Some("cy")), cy]);
        assert!(["bob", "cy"].contains(&round.hand("cy")), "a circle ends");
    }
}
