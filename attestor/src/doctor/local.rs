//! What is on the device itself: state, clock, programs to run, and the attestor as it last spoke.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use policy::time::UnixTime;

use super::Finding;
use crate::config::Config;
use crate::hooks::Action;
use crate::plant::PlantRoot;
use crate::ports::{Clock, is_set};
use crate::state::Keeper;
use crate::status::{Status, Word};
use crate::uptime::Uptime;

/// Seconds that a clock may be behind the last time the broker signed before somebody should look: time sources are
/// slower than that only when they are broken.
const CLOCK_LAG: u64 = 3600;
/// Any of the three rights to run a file.
const MAY_RUN: u32 = 0o111;

/// Looks at the device; the state is read only where the plant `root` is known that it belongs to.
pub(super) fn look(config: &Config, root: Option<&PlantRoot>, clock: &dyn Clock) -> Vec<Finding> {
    let (state, floor) = state(config, root);
    vec![state, of_clock(clock.now(), floor), programs(config), attestor(config, clock.now())]
}

fn state(config: &Config, root: Option<&PlantRoot>) -> (Finding, UnixTime) {
    const CHECK: &str = "state";
    let none = UnixTime(0);
    let Some(root) = root else {
        return (Finding::unknown(CHECK, "the plant root has to be pinned first"), none);
    };
    // Loading would make the folder.
    match fs::metadata(&config.state) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let found =
                format!("{}: nothing yet; the attestor makes it when it runs", config.state.display());
            return (Finding::good(CHECK, found), none);
        }
        Err(error) => {
            let found = format!("{}: {error}; run this as root", config.state.display());
            return (Finding::unknown(CHECK, found), none);
        }
        Ok(_) => {}
    }
    match Keeper::load(&config.state, &config.plant, root) {
        Ok(keeper) => keeper.read(|state| {
            let name = state.device.as_ref().map_or("no name yet", |name| name.as_str());
            let found = format!("{name}, {} certificates", state.svids.len());
            (Finding::good(CHECK, found), state.clock_floor)
        }),
        Err(error) => (Finding::fault(CHECK, error), none),
    }
}

/// The time here, and the last time at which the broker signed.
pub(super) fn of_clock(now: UnixTime, floor: UnixTime) -> Finding {
    const CHECK: &str = "clock";
    if !is_set(now, floor) {
        return Finding::warning(
            CHECK,
            format!(
                "it shows {now} and was never set; the attestor goes on from the broker's last time, other software may \
                 not: install a time source (systemd-timesyncd, chrony), or a clock battery"
            ),
        );
    }
    match floor.since(now) {
        late if late > CLOCK_LAG => Finding::warning(
            CHECK,
            format!("it shows {now}, {late} s before the broker's last signature; mend its time source"),
        ),
        _ => Finding::good(CHECK, now),
    }
}

fn programs(config: &Config) -> Finding {
    let hooks = config.hooks.iter().flat_map(|hook| [&hook.reload, &hook.restart]);
    let others = config.health.iter().map(|health| &health.command).chain(&config.on_wanted);
    let others = others.chain(config.state_hooks.iter().map(|hook| &hook.command));
    let commands = hooks.filter_map(Action::command).chain(others);
    let programs: Vec<&String> = commands.filter_map(|words| words.first()).collect();
    match programs.iter().find_map(|program| unusable(Path::new(program))) {
        Some(fault) => Finding::fault("programs", fault),
        None => Finding::good("programs", format!("{} can be run", programs.len())),
    }
}

pub(super) fn unusable(program: &Path) -> Option<String> {
    let runs = |found: &Metadata| found.is_file() && found.permissions().mode() & MAY_RUN != 0;
    match fs::metadata(program) {
        Ok(found) if runs(&found) => None,
        Ok(_) => Some(format!("{} is no program; correct its mode or attestor.toml", program.display())),
        Err(error) => Some(format!("{}: {error}; install it or correct attestor.toml", program.display())),
    }
}

fn attestor(config: &Config, now: UnixTime) -> Finding {
    const CHECK: &str = "attestor";
    match Status::read(&config.deliver, now) {
        Ok(status) if !status.is_live(&Uptime::now()) => {
            Finding::warning(CHECK, "it does not run: systemctl start --no-block touchstone-attestor")
        }
        Ok(status) => {
            let word = status.state.as_str();
            match (status.state, status.failing_hooks.first()) {
                (_, Some(hook)) => Finding::warning(
                    CHECK,
                    format!("{word}, and the hook {} fails: {}; mend its program", hook.name, hook.message),
                ),
                (Word::Trusted | Word::Holding, None) => Finding::good(CHECK, word),
                (Word::Refused | Word::Quarantined, None) => {
                    Finding::fault(CHECK, format!("{word}; `touchstone-attestor status` says why"))
                }
                (Word::Starting | Word::Enrolling | Word::Pending, None) => {
                    Finding::warning(CHECK, format!("{word}; `touchstone-attestor status` says why"))
                }
            }
        }
        Err(error) => Finding::warning(CHECK, error),
    }
}
