//! What holds whatever devices do, and whenever the broker is restarted.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::rollout::{Effect, Health, Member, Stage, Trust, Wave};
use policy::time::UnixTime;
use proptest::prelude::*;

use crate::fleet::{DEADLINE, Memory, NOW, member, plan, release};

/// What a device makes of being told.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Updates,
    LosesTrust,
    Sickens,
    Vanishes,
    WasSickBefore,
}

#[derive(Debug, Clone)]
struct Machine {
    fate: Fate,
    /// Seconds from being told to its next attestation.
    takes: u64,
    on: Vec<u8>,
}

fn machine() -> impl Strategy<Value = Machine> {
    let fate = prop_oneof![
        6 => Just(Fate::Updates),
        1 => Just(Fate::LosesTrust),
        1 => Just(Fate::Sickens),
        1 => Just(Fate::Vanishes),
        1 => Just(Fate::WasSickBefore),
    ];
    (fate, 1..DEADLINE, prop::collection::vec(0..6_u8, 0..3)).prop_map(|(fate, takes, on)| Machine {
        fate,
        takes,
        on,
    })
}

/// Names 0 to 2 are what devices share, 3 to 5 are devices themselves.
fn dependency(n: u8) -> String {
    if n < 3 { format!("loop-{n}") } else { format!("press-{}", n - 3) }
}

fn new_fleet(machines: &[Machine]) -> Vec<Member> {
    let build = |(n, machine): (usize, &Machine)| {
        let mut member = member(&format!("press-{n}"));
        member.depends_on = Arc::new(machine.on.iter().copied().map(dependency).collect());
        if n % 3 == 0 {
            member.zones = ["staging".parse().unwrap()].into();
        }
        if matches!(machine.fate, Fate::WasSickBefore) {
            member.health = Health::Failing { in_a_row: 4 };
        }
        member
    };
    machines.iter().enumerate().map(build).collect()
}

/// Lets every device that was told go on as it is fated to.
fn live(fleet: &mut [Member], machines: &[Machine], memory: &Memory, now: UnixTime) {
    for (member, machine) in fleet.iter_mut().zip(machines) {
        let Some(told) = memory.told.get(&member.device) else { continue };
        if matches!(machine.fate, Fate::Vanishes) {
            member.trust = Trust::Unknown;
        } else if now.since(told.at) >= machine.takes {
            match machine.fate {
                Fate::LosesTrust => member.trust = Trust::Lost,
                Fate::Sickens => {
                    (member.running, member.health) = (Some(release("2.0")), Health::Failing { in_a_row: 2 });
                }
                Fate::Updates | Fate::WasSickBefore | Fate::Vanishes => {
                    member.running = Some(release("2.0"));
                }
            }
        }
    }
}

fn ties(member: &Member) -> BTreeSet<String> {
    let mut ties = BTreeSet::clone(&member.depends_on);
    ties.insert(member.device.to_string());
    ties
}

/// What must hold right after a step.
fn assert_holds(memory: &Memory, fleet: &[Member], effects: &[Effect], was_ended: bool, now: UnixTime) {
    let seen = memory.seen(fleet);
    let staged: Vec<_> = seen.iter().map(|member| (member, member.stage(&memory.plan, now))).collect();
    let count = |wanted: &dyn Fn(Stage) -> bool| staged.iter().filter(|(_, stage)| wanted(*stage)).count();
    let flying: Vec<_> = staged.iter().filter(|(_, stage)| *stage == Stage::InFlight).collect();
    for (n, (one, _)) in flying.iter().enumerate() {
        for (other, _) in &flying[n + 1..] {
            let shared: Vec<_> = ties(one).intersection(&ties(other)).cloned().collect();
            assert!(shared.is_empty(), "{} and {} share {shared:?}", one.device, other.device);
        }
    }
    let tells = effects.iter().any(|effect| matches!(effect, Effect::Tell(_)));
    if tells {
        assert!(!was_ended, "a rollout that is over or halted told somebody");
        let budget = memory.plan.budget();
        let (lost, sick) = (count(&Stage::costs_trust), count(&|stage| stage == Stage::Sick));
        assert!(
            lost + flying.len() <= usize::try_from(budget.trust).unwrap(),
            "{lost} lost, {} in flight",
            flying.len()
        );
        assert!(
            sick + flying.len() <= usize::try_from(budget.health).unwrap(),
            "{sick} sick, {} in flight",
            flying.len()
        );
    }
    for member in seen.iter().filter(|member| member.told.is_some()) {
        let wave = memory.plan.waves().iter().position(|wave| wave.selects(memory.plan.id(), member));
        assert!(wave.unwrap() <= memory.position.wave, "{} was told before its wave", member.device);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_devices_do_the_promises_hold(
        machines in prop::collection::vec(machine(), 1..14),
        (trust, health, hold) in (1..5_u32, 1..5_u32, 0..4_000_u64),
        share in 1..=100_u8,
        steps in prop::collection::vec((1..2_000_u64, any::<bool>()), 200..201),
    ) {
        let share = Wave::Percent(share).to_string();
        let mut memory = Memory::new(plan(&["zone=staging", &share, "100%"], trust, health, hold));
        let mut fleet = new_fleet(&machines);
        let mut now = NOW;
        for (passed, restart) in steps {
            now = now.plus(passed);
            live(&mut fleet, &machines, &memory, now);
            for _ in 0..100 {
                let was_ended = memory.ended.is_some();
                let backwards: Vec<_> = fleet.iter().rev().cloned().collect();
                prop_assert_eq!(memory.decide(&fleet, now), memory.decide(&backwards, now));
                if restart {
                    let restarted = memory.restarted();
                    prop_assert_eq!(&restarted, &memory);
                    prop_assert_eq!(restarted.decide(&fleet, now), memory.decide(&fleet, now));
                    memory = restarted;
                }
                let effects = memory.step(&fleet, now);
                assert_holds(&memory, &fleet, &effects, was_ended, now);
                if effects.is_empty() { break }
            }
            prop_assert!(memory.decide(&fleet, now).is_empty(), "it never comes to rest");
        }
        let seen = memory.seen(&fleet);
        let stuck = |member: &&Member| match member.stage(&memory.plan, now) {
            Stage::InFlight => true,
            Stage::Waiting => policy::rollout::Holders::new(&memory.plan, &seen, now).of(member).is_empty(),
            _ => false,
        };
        // Long after every deadline it is over, or waits for a person about devices that are down.
        let left: Vec<_> = seen.iter().filter(stuck).collect();
        prop_assert!(memory.ended.is_some() || left.is_empty(), "{:?} is stuck on {left:?}", memory.position);
    }

    #[test]
    fn a_healthy_fleet_is_always_finished(
        machines in prop::collection::vec(machine(), 1..10),
        (trust, health) in (1..4_u32, 1..4_u32),
    ) {
        let machines: Vec<_> = machines.into_iter().map(|m| Machine { fate: Fate::Updates, ..m }).collect();
        let mut memory = Memory::new(plan(&["10%", "100%"], trust, health, 60));
        let mut fleet = new_fleet(&machines);
        let mut now = NOW;
        for _ in 0..60 {
            now = now.plus(DEADLINE - 1);
            live(&mut fleet, &machines, &memory, now);
            memory.settle(&fleet, now);
        }
        prop_assert_eq!(memory.ended.as_deref(), Some("finished"));
        prop_assert_eq!(memory.told.len(), fleet.len());
    }
}
