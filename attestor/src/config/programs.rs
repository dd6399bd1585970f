//! Programs that the operator names: words, never a line for a shell.

use std::time::Duration;

use super::Faults;
use super::raw::{RawHealth, RawHook};
use crate::health::{self, HealthCheck};
use crate::hooks::{self, Hook};
use crate::program::{MAX_WORD, MAX_WORDS};

/// Most hooks: one for each service, and as many for software that is no service.
const MAX_HOOKS: usize = 64;
/// Longest name of a hook in bytes: it names a file.
const MAX_HOOK_NAME: usize = 40;

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
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = faults.required("hook.name", raw.name.as_ref(), "mosquitto")?;
    if name.is_empty() || name.len() > MAX_HOOK_NAME || !name.chars().all(plain) {
        faults.add("hook.name", format_args!("write 1 to {MAX_HOOK_NAME} of a-z, 0-9 and -"));
    }
    let service = raw.service.as_deref().map(|text| faults.parsed("hook.service", text));
    if raw.reload.is_none() && raw.restart.is_none() {
        faults.add(
            "hook.reload",
            "missing; write for example reload = [\"/usr/bin/systemctl\", \"reload\", \"mosquitto\"]",
        );
    }
    let reload = command("hook.reload", raw.reload.as_ref(), faults);
    let restart = command("hook.restart", raw.restart.as_ref(), faults);
    let timeout = limit("hook.timeout", raw.timeout, hooks::MOST_TIMEOUT, faults);
    Some(Hook {
        name: name.to_owned(),
        service: service.flatten(),
        reload: reload.clone().or_else(|| restart.clone())?,
        restart: restart.or(reload)?,
        timeout: timeout.unwrap_or(hooks::DEFAULT_TIMEOUT),
    })
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
