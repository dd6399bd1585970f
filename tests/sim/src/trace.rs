//! What happened, step by step, and a run as a file that is played again.
//!
//! A file has a line of JSON for each thing: first the seed and what broke, then the actions of the plan, then every event
//! that the run took. Actions may be taken out by hand: the run is made anew from the seed and what is left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Planned};

/// An event that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Its number.
    pub n: u64,
    /// Milliseconds after the beginning.
    pub at: u64,
    /// What it was, and what came of it.
    pub event: String,
}

/// All events of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace(pub Vec<Taken>);

impl Trace {
    /// Adds an event.
    pub fn take(&mut self, at: u64, event: String) {
        self.0.push(Taken { n: self.0.len() as u64, at, event });
    }

    /// Adds what came of the last event.
    pub fn note(&mut self, outcome: &str) {
        if let Some(last) = self.0.last_mut() {
            last.event += "; ";
            last.event += outcome;
        }
    }

    /// A number that is another as soon as any event is (FNV-1a).
    #[must_use]
    pub fn hash(&self) -> u64 {
        let text = self.0.iter().map(|taken| format!("{} {}\n", taken.at, taken.event)).collect::<String>();
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Head { seed: u64, broken: String },
    Action(Planned),
    Event(Taken),
}

/// Saves a run that broke something, and says where.
pub fn save(folder: &Path, plan: &Plan, broken: &str, trace: &Trace) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("seed-{}.jsonl", plan.seed));
    let head = Line::Head { seed: plan.seed, broken: broken.to_owned() };
    let actions = plan.actions.iter().cloned().map(Line::Action);
    let events = trace.0.iter().cloned().map(Line::Event);
    let lines = [head].into_iter().chain(actions).chain(events);
    let text: Result<Vec<String>, _> = lines.map(|line| serde_json::to_string(&line)).collect();
    fs::write(&file, text?.join("\n") + "\n")?;
    Ok(file)
}

/// Reads a run: what was planned, and what happened.
pub fn load(file: &Path) -> io::Result<(Plan, Trace)> {
    let (mut plan, mut trace) = (Plan { seed: 0, actions: Vec::new() }, Trace::default());
    for line in fs::read_to_string(file)?.lines() {
        match serde_json::from_str(line)? {
            Line::Head { seed, .. } => plan.seed = seed,
            Line::Action(planned) => plan.actions.push(planned),
            Line::Event(taken) => trace.0.push(taken),
        }
    }
    Ok((plan, trace))
}
