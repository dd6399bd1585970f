//! Programs that the operator names: words, never a line for a shell. Hooks may name a unit or a signal instead.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Faults;
use super::raw::{RawHealth, RawHook, RawSafeState, RawStateHook};
use crate::health::{self, HealthCheck};
use crate::hooks::{self, Action, Hook, Job, Process, SAFE_STATE, SignalName, StateHook};
use crate::program::{MAX_WORD, MAX_WORDS};
use crate::status::Word;

/// Most hooks: one for each service, and as many for software that is no service.
const MAX_HOOKS: usize = 64;
/// Most state hooks: they run one after another.
const MAX_STATE_HOOKS: usize = 16;
/// States of which a hook can be told, and those of which the safe state is: the device is not trusted, and it was decided.
const STATES: [Word; 6] =
    [Word::Enrolling, Word::Trusted, Word::Holding, Word::Pending, Word::Refused, Word::Quarantined];
const NOT_TRUSTED: [Word; 3] = [Word::Pending, Word::Refused, Word::Quarantined];
/// Longest name of a hook in bytes: it names a file.
const MAX_HOOK_NAME: usize = 40;
/// Longest name of a unit in bytes (systemd: UNIT_NAME_MAX, less its end).
const MAX_UNIT: usize = 255;
/// How a hook may be written.
const ACTIONS: &str = "write { unit = \"mosquitto.service\" }, { signal = \"HUP\", unit = \"mosquitto.service\" }, \
                       { signal = \"HUP\", pid_file = \"/run/mosquitto.pid\" }, or a program with its arguments as \
                       [\"/usr/local/bin/program\", \"--quiet\"]";

pub(super) fn health(raw: Option<&RawHealth>, faults: &mut Faults) -> Option<HealthCheck> {
    let raw = raw?;
    faults.unknown("health.", &raw.unknown);
    let command = command("health.command", Some(&raw.command), faults)?;
    let timeout = limit("health.timeout", raw.timeout, health::MOST_TIMEOUT, faults);
    Some(HealthCheck { command, timeout: timeout.unwrap_or(health::DEFAULT_TIMEOUT) })
}

pub(super) fn hooks(raw: &[RawHook], faults: &mut Faults) -> Vec<Hook> {
    faults.bounded("hook", raw.len(), MAX_HOOKS);
    let mut hooks: Vec<Hook> = Vec::new();
    for one in raw.iter().take(MAX_HOOKS) {
        let Some(hook) = hook(one, faults) else { continue };
        match hooks.iter().any(|other| other.name == hook.name) {
            true => faults.add("hook.name", format_args!("`{}` is listed twice; rename one", hook.name)),
            false => hooks.push(hook),
        }
    }
    hooks
}

fn hook(raw: &RawHook, faults: &mut Faults) -> Option<Hook> {
    faults.unknown("hook.", &raw.unknown);
    let name = name("hook.name", raw.name.as_ref(), "mosquitto", faults)?;
    let service = raw.service.as_deref().map(|text| faults.parsed("hook.service", text));
    if raw.reload.is_none() && raw.restart.is_none() {
        faults.add("hook.reload", "missing; write for example reload = { unit = \"mosquitto.service\" }");
    }
    let reload = action("hook.reload", Job::Reload, raw.reload.as_ref(), faults);
    let restart = action("hook.restart", Job::Restart, raw.restart.as_ref(), faults);
    let timeout = limit("hook.timeout", raw.timeout, hooks::MOST_TIMEOUT, faults);
    Some(Hook {
        name,
        service: service.flatten(),
        reload: reload.clone().or_else(|| restart.clone())?,
        restart: restart.or(reload)?,
        timeout: timeout.unwrap_or(hooks::DEFAULT_TIMEOUT),
    })
}

/// A program, or a table with a unit or a signal; `job` is what is done with a unit.
fn action(key: &str, job: Job, raw: Option<&toml::Value>, faults: &mut Faults) -> Option<Action> {
    match raw? {
        toml::Value::Array(words) => {
            let words: Option<Vec<String>> =
                words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
            command(key, Some(&words.unwrap_or_default()), faults).map(Action::Command)
        }
        toml::Value::Table(table) => table_action(key, job, table, faults),
        _ => {
            faults.add(key, ACTIONS);
            None
        }
    }
}

fn table_action(key: &str, job: Job, table: &toml::Table, faults: &mut Faults) -> Option<Action> {
    let known = |name: &str| ["unit", "signal", "pid_file"].contains(&name);
    let unknown = table.iter().filter(|(name, _)| !known(name));
    let unknown: BTreeMap<_, _> = unknown.map(|(name, value)| (name.clone(), value.clone())).collect();
    faults.unknown(&format!("{key}."), &unknown);
    let text = |name: &str| table.get(name).map(|value| value.as_str().unwrap_or_default());
    let unit = text("unit").map(|text| unit(key, text, faults));
    let signal = text("signal").map(|text| signal(key, text, faults));
    let file = text("pid_file").map(|text| pid_file(key, text, faults));
    match (unit, signal, file) {
        (Some(unit), None, None) => Some(Action::Unit { unit: unit?, job }),
        (Some(unit), Some(signal), None) => {
            Some(Action::Signal { signal: signal?, to: Process::Main(unit?) })
        }
        (None, Some(signal), Some(file)) => Some(Action::Signal { signal: signal?, to: file? }),
        (None, _, None) | (_, None, Some(_)) | (Some(_), Some(_), Some(_)) => {
            faults.add(key, ACTIONS);
            None
        }
    }
}

fn unit(key: &str, text: &str, faults: &mut Faults) -> Option<String> {
    // systemd.unit(5): what a name is made of.
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let name = text.strip_suffix(".service").filter(|name| !name.is_empty() && !name.starts_with('-'));
    if text.len() > MAX_UNIT || !name.is_some_and(|name| name.chars().all(plain)) {
        faults.add(&format!("{key}.unit"), "write the name of a service, for example \"mosquitto.service\"");
        return None;
    }
    Some(text.to_owned())
}

fn signal(key: &str, text: &str, faults: &mut Faults) -> Option<SignalName> {
    let found = SignalName::of(text);
    if found.is_none() {
        faults.add(&format!("{key}.signal"), "known are HUP, USR1, USR2, INT, QUIT and TERM");
    }
    found
}

fn pid_file(key: &str, text: &str, faults: &mut Faults) -> Option<Process> {
    if !text.starts_with('/') || text.len() > MAX_WORD || text.contains('\0') {
        faults.add(&format!("{key}.pid_file"), "write its full path, for example \"/run/mosquitto.pid\"");
        return None;
    }
    Some(Process::PidFile(Path::new(text).to_owned()))
}

/// The safe state first, then the others in their order.
pub(super) fn state_hooks(
    safe_state: Option<&RawSafeState>,
    others: &[RawStateHook],
    faults: &mut Faults,
) -> Vec<StateHook> {
    faults.bounded("on_state", others.len(), MAX_STATE_HOOKS);
    let mut hooks: Vec<StateHook> = safe_state.and_then(|raw| safe(raw, faults)).into_iter().collect();
    for one in others.iter().take(MAX_STATE_HOOKS) {
        let Some(hook) = state_hook(one, faults) else { continue };
        match hook.name == SAFE_STATE || hooks.iter().any(|other| other.name == hook.name) {
            true => faults.add("on_state.name", format_args!("`{}` is taken; rename it", hook.name)),
            false => hooks.push(hook),
        }
    }
    hooks
}

fn safe(raw: &RawSafeState, faults: &mut Faults) -> Option<StateHook> {
    faults.unknown("safe_state.", &raw.unknown);
    let timeout = limit("safe_state.timeout", raw.timeout, hooks::MOST_TIMEOUT, faults);
    let none = Vec::new();
    let command = command("safe_state.command", Some(raw.command.as_ref().unwrap_or(&none)), faults)?;
    let (name, states) = (SAFE_STATE.to_owned(), Some(NOT_TRUSTED.to_vec()));
    Some(StateHook { name, command, states, timeout: timeout.unwrap_or(hooks::DEFAULT_TIMEOUT) })
}

fn state_hook(raw: &RawStateHook, faults: &mut Faults) -> Option<StateHook> {
    faults.unknown("on_state.", &raw.unknown);
    let name = name("on_state.name", raw.name.as_ref(), "lamp", faults);
    let none = Vec::new();
    let command = command("on_state.command", Some(raw.command.as_ref().unwrap_or(&none)), faults);
    let states =
        raw.states.as_ref().map(|words| words.iter().filter_map(|word| state(word, faults)).collect());
    let timeout = limit("on_state.timeout", raw.timeout, hooks::MOST_TIMEOUT, faults);
    Some(StateHook {
        name: name?,
        command: command?,
        states,
        timeout: timeout.unwrap_or(hooks::DEFAULT_TIMEOUT),
    })
}

fn state(word: &str, faults: &mut Faults) -> Option<Word> {
    let found = STATES.into_iter().find(|state| state.as_str() == word);
    if found.is_none() {
        faults.add(
            "on_state.states",
            "known are enrolling, trusted, holding, pending, refused and quarantined",
        );
    }
    found
}

fn name(key: &str, raw: Option<&String>, example: &str, faults: &mut Faults) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = faults.required(key, raw, example)?;
    if name.is_empty() || name.len() > MAX_HOOK_NAME || !name.chars().all(plain) {
        faults.add(key, format_args!("write 1 to {MAX_HOOK_NAME} of a-z, 0-9 and -"));
    }
    Some(name.to_owned())
}

fn limit(key: &str, seconds: Option<i64>, most: Duration, faults: &mut Faults) -> Option<Duration> {
    let limit = u64::try_from(seconds?).map(Duration::from_secs);
    let limit = limit.ok().filter(|limit| !limit.is_zero() && *limit <= most);
    if limit.is_none() {
        faults.add(key, format_args!("write 1 to {} seconds", most.as_secs()));
    }
    limit
}

pub(super) fn command(key: &str, raw: Option<&Vec<String>>, faults: &mut Faults) -> Option<Vec<String>> {
    let words = raw?;
    let fits = |word: &String| word.len() <= MAX_WORD && !word.contains('\0');
    let absolute = words.first().is_some_and(|program| program.starts_with('/'));
    if !absolute || words.len() > MAX_WORDS || !words.iter().all(fits) {
        faults.add(
            key,
            format_args!(
                "write the program by its full path and each argument as a word of its own, at most {MAX_WORDS}, for \
                 example [\"/usr/local/bin/program\", \"--quiet\"]"
            ),
        );
        return None;
    }
    Some(words.clone())
}
