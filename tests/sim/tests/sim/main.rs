//! The simulated plant, under many seeds.

mod alike;
mod sabotage;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use sim::plan::Plan;
use sim::trace::{load, save};
use sim::world::{Run, Sabotage, run};

/// Seeds that are run if nobody says another number.
const SEEDS: u64 = 150;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Saves the run of `plan`, which broke something, and says how it is played again.
fn failed(plan: &Plan, run: &Run) -> String {
    let broken = run.broken.as_ref().expect("it broke something").to_string();
    let file = save(folder(), plan, &broken, &run.trace).expect("the run is saved");
    format!(
        "seed {}: {broken}\nplay it again: TOUCHSTONE_SEED={} cargo test -p sim replay",
        plan.seed,
        file.display()
    )
}

#[test]
fn whatever_happens_everything_holds() {
    let (first, seeds) =
        (number("TOUCHSTONE_FIRST_SEED").unwrap_or(0), number("TOUCHSTONE_SEEDS").unwrap_or(SEEDS));
    let (next, events) = (AtomicU64::new(first), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let begun = Instant::now();
    let threads = available_parallelism().map_or(1, usize::from);
    scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || failures.lock().expect("failures").len() >= 3 {
                        return;
                    }
                    let plan = Plan::of(seed);
                    let run = run(&plan, Sabotage::None);
                    events.fetch_add(run.trace.0.len() as u64, Ordering::Relaxed);
                    if run.broken.is_some() {
                        failures.lock().expect("failures").push(failed(&plan, &run));
                    }
                }
            });
        }
    });
    let (events, took) = (events.into_inner(), begun.elapsed());
    println!("{seeds} seeds, {events} events, {:.0} events a second", events as f64 / took.as_secs_f64());
    let failures = failures.into_inner().expect("failures");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let plan = Plan::of(7);
    let (first, second) = (run(&plan, Sabotage::None), run(&plan, Sabotage::None));
    let differs = first.trace.0.iter().zip(&second.trace.0).find(|(one, other)| one != other);
    assert_eq!(differs, None);
    assert_eq!(first.trace.hash(), second.trace.hash());
}

/// Plays a run again, from a file or from a seed, and prints it step by step. A file says where the run of today goes
/// another way.
#[test]
fn replay() {
    let Ok(given) = std::env::var("TOUCHSTONE_SEED") else { return };
    let (plan, recorded) = match given.parse() {
        Ok(seed) => (Plan::of(seed), None),
        Err(_) => {
            let (plan, trace) = load(Path::new(&given)).expect("a saved run");
            (plan, Some(trace))
        }
    };
    let run = run(&plan, Sabotage::None);
    for taken in &run.trace.0 {
        println!("{:>5} {:>10.3} s  {}", taken.n, taken.at as f64 / 1_000.0, taken.event);
        let was = recorded.as_ref().and_then(|recorded| recorded.0.get(taken.n as usize));
        if let Some(was) = was.filter(|was| *was != taken) {
            println!("      was {:>10.3} s  {}", was.at as f64 / 1_000.0, was.event);
        }
    }
    println!("{:?}", run.counts);
    assert_eq!(run.broken, None);
}

#[test]
fn a_run_that_is_saved_is_played_again_step_by_step() {
    let plan = Plan::of(11);
    let run_of = run(&plan, Sabotage::None);
    let file = save(folder(), &plan, "nothing", &run_of.trace).expect("it is saved");
    let (read, recorded) = load(&file).expect("it is read");
    assert_eq!((&read, &recorded), (&plan, &run_of.trace));
    assert_eq!(run(&read, Sabotage::None).trace, recorded);
}
