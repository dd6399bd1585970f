//! Waves: their text, and which devices they select.

use std::sync::Arc;

use policy::rollout::{Budget, Plan, PlanError, RolloutId, Wave};
use proptest::prelude::*;

use crate::fleet::{id, member, plan, release};

#[test]
fn waves_are_written_as_people_say_them() {
    for text in ["zone=staging", "label=line=7", "label=site=plant=2", "10%", "100%"] {
        assert_eq!(text.parse::<Wave>().unwrap().to_string(), text);
    }
    for bad in ["", "0%", "101%", "-1%", "%", "1.5%", "zone=", "zone=A", "label=line", "label==7", "line=7"] {
        let error = bad.parse::<Wave>().unwrap_err();
        assert!(error.to_string().contains("is no wave; write zone=NAME"), "{bad}: {error}");
    }
    assert!(format!("label=line={}", "x".repeat(49)).parse::<Wave>().is_err());
}

#[test]
fn a_wave_selects_by_zone_and_inventory_value() {
    let mut press = member("press-7");
    press.labels = Arc::new([("line".to_owned(), "7".to_owned())].into());
    let selects = |wave: &str| wave.parse::<Wave>().unwrap().selects(&id(), &press);
    assert!(selects("zone=cell-3") && selects("label=line=7") && selects("100%"));
    assert!(!selects("zone=staging") && !selects("label=line=8") && !selects("label=site=7"));
}

#[test]
fn a_plan_that_cannot_be_kept_is_refused() {
    let build = |waves: &[&str], trust, health, times| {
        let waves = waves.iter().map(|wave| wave.parse().unwrap()).collect();
        Plan::new(id(), release("2.0"), waves, Budget { trust, health }, times).unwrap_err()
    };
    assert_eq!(build(&[], 1, 1, (0, 60)), PlanError::Waves(0));
    assert_eq!(build(&["100%"; 17], 1, 1, (0, 60)), PlanError::Waves(17));
    assert_eq!(build(&["100%", "99%"], 1, 1, (0, 60)), PlanError::LastWave(Wave::Percent(99)));
    assert_eq!(build(&["100%"], 0, 1, (0, 60)), PlanError::Budget);
    assert_eq!(build(&["100%"], 1, 0, (0, 60)), PlanError::Budget);
    assert_eq!(build(&["100%"], 1, 1, (0, 59)), PlanError::Time);
    assert_eq!(build(&["100%"], 1, 1, (31 * 86_400 + 1, 60)), PlanError::Time);
    let text = plan(&["100%"], 1, 1, 0).with_budget(Budget { trust: 0, health: 1 }).unwrap_err().to_string();
    assert!(text.contains("as many are updated at a time"), "{text}");
}

#[test]
fn a_share_is_about_that_share_of_a_large_fleet() {
    let fleet: Vec<_> = (0..10_000).map(|n| member(&format!("press-{n}"))).collect();
    for share in [1, 10, 50, 100] {
        let selected = fleet.iter().filter(|member| Wave::Percent(share).selects(&id(), member)).count();
        let (wanted, slack) = (usize::from(share) * 100, 200);
        assert!(selected.abs_diff(wanted) < slack, "{share}%: {selected} of 10000");
    }
    assert!(fleet.iter().all(|member| Wave::Percent(100).selects(&id(), member)));
    let other = RolloutId { number: 2, ..id() };
    let same =
        |member: &&_| Wave::Percent(10).selects(&id(), member) && Wave::Percent(10).selects(&other, member);
    assert!(fleet.iter().filter(same).count() < 200, "another rollout begins with other devices");
}

proptest! {
    #[test]
    fn a_share_is_stable_and_part_of_every_larger_one(name in "[a-z][a-z0-9]{0,20}", a in 1..=100_u8, b in 1..=100_u8) {
        let device = member(&name);
        let selects = |share| Wave::Percent(share).selects(&id(), &device);
        prop_assert_eq!(selects(a), selects(a));
        prop_assert!(!selects(a.min(b)) || selects(a.max(b)));
        let moved = policy::rollout::Member { zones: [].into(), ..device.clone() };
        prop_assert_eq!(selects(a), Wave::Percent(a).selects(&id(), &moved), "only its name counts");
    }
}
