//! Generations of a zone's authority: prepared, active, old, distrusted; and which step comes next.
//!
//! ```text
//! prepared -- known to all who meet the zone, or late enough -->  active  -- the next is active -->  old
//!     old  -- no certificate under it is left -->  distrusted            any  -- an administrator -->  distrusted
//! ```
//!
//! Promises: a rotation breaks no connection: an authority signs only after those that meet its certificates believe
//! it, and is believed until the last of them has ended. There is an active one as long as nobody distrusts the last.
//! What this module does not promise: that a device that stayed dark past the deadline knows the new authority; it
//! gets it with its next attestation.

use serde::{Deserialize, Serialize};

use super::model::MAX_OUTLIVE;
use crate::time::UnixTime;

/// Longest life of a certificate in seconds, whatever its zone said when it was issued.
const LONGEST_CERTIFICATE: u64 = MAX_OUTLIVE + MAX_OUTLIVE / 2;

/// When a generation that is old since then leaves all trust files: nothing that it signed is left.
#[must_use]
pub const fn leaves(since: UnixTime) -> UnixTime {
    since.plus(LONGEST_CERTIFICATE)
}

/// Most generations of one authority that are in trust files: one that signs, the next, and one of before.
pub const MAX_GENERATIONS: usize = 3;

/// Where a generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    /// In trust files, signs nothing yet.
    Prepared,
    /// Signs.
    Active,
    /// Signs nothing any more, still in trust files.
    Old,
    /// In no trust file.
    Distrusted,
}

/// One generation of one of a zone's authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// Its number; the next has a higher one.
    pub number: u32,
    /// Where it is in its life.
    pub state: GenerationState,
    /// Since when.
    pub since: UnixTime,
    /// Sequence of the first trust sets that it is in.
    pub published: u64,
    /// When its certificate begins.
    pub not_before: UnixTime,
    /// When its certificate ends.
    pub not_after: UnixTime,
}

/// What comes next in the life of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the next generation.
    Prepare,
    /// Make one that signs at once: none does, as after a backup was restored from before the last was distrusted.
    Replace,
    /// Let this one sign, and the one that signs now grow old.
    Activate {
        /// Its number.
        number: u32,
        /// Devices that did not say that they believe it, past the deadline.
        stragglers: usize,
    },
    /// Take this one out of all trust files: no certificate under it is left.
    Forget(u32),
}

/// The next step, if one is due at `now`. The zone's certificates live `lifetime` seconds; readers of published bundles
/// look again after `reread` seconds, 0 without any; `lagging` counts the devices that meet the zone's certificates and
/// have not said that they hold a trust set of this sequence or a later one.
#[must_use]
pub fn next_step(
    generations: &[Generation],
    lifetime: u64,
    reread: u64,
    now: UnixTime,
    lagging: impl Fn(u64) -> usize,
) -> Option<Step> {
    let of = |state| generations.iter().filter(move |one| one.state == state);
    if let Some(prepared) = of(GenerationState::Prepared).max_by_key(|one| one.number) {
        let stragglers = lagging(prepared.published);
        // A device that did not come for as long as certificates live has none that still holds, and one that has ended
        // signs nothing that holds: the broker was off for years.
        let over = of(GenerationState::Active).all(|one| now >= one.not_after);
        let read = now >= prepared.since.plus(reread);
        let due = (stragglers == 0 && read) || over || now >= prepared.since.plus(lifetime);
        let number = prepared.number;
        return due.then_some(Step::Activate { number, stragglers });
    }
    if let Some(old) = of(GenerationState::Old).find(|one| now >= leaves(one.since)) {
        return Some(Step::Forget(old.number));
    }
    match of(GenerationState::Active).max_by_key(|one| one.number) {
        Some(active) => is_ripe(active, now).then_some(Step::Prepare),
        None => (!generations.is_empty()).then_some(Step::Replace),
    }
}

/// Whether half of its life is over.
fn is_ripe(one: &Generation, now: UnixTime) -> bool {
    let life = one.not_after.since(one.not_before);
    now >= one.not_before.plus(life / 2)
}
