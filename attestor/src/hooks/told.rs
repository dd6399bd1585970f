//! What the software of one hook goes by, as far as it can be known.

use super::seen::Seen;

/// What is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Files changed.
    Reload,
    /// An authority left, or nothing is known of what was told before.
    Restart,
}

/// What software goes by, and should.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What it should go by.
    due: Option<Seen>,
    /// What it may go by; None: anything.
    by: Option<Seen>,
    /// The same, should the hook that runs end well.
    then: Option<Seen>,
    /// How the hook failed the last time.
    fault: Option<String>,
}

impl Told {
    /// Software that may go by `by`, or by anything.
    pub(super) fn new(by: Option<Seen>) -> Self {
        Self { by, ..Self::default() }
    }

    /// Software can read `next` from now on. True if that changes what it may go by.
    pub(super) fn may_see(&mut self, next: &Seen) -> bool {
        for seen in [&mut self.by, &mut self.then].into_iter().flatten() {
            seen.add(next);
        }
        self.by.as_ref().is_some_and(|by| by != next)
    }

    /// Software should go by `next`.
    pub(super) fn shall_see(&mut self, next: Seen) {
        self.due = Some(next);
    }

    /// What has to be run, if anything: its beginning.
    pub(super) fn begin(&mut self) -> Option<Run> {
        let due = self.due.clone().filter(|due| self.by.as_ref() != Some(due))?;
        let restart = self.by.as_ref().is_none_or(|by| due.lacks_authority_of(by));
        self.then = Some(due);
        Some(if restart { Run::Restart } else { Run::Reload })
    }

    /// It ended well: software goes by what it was told of, or by what it could see since.
    pub(super) fn end_well(&mut self) {
        self.by = self.then.take();
        self.fault = None;
    }

    /// It failed: software goes by what it did, or by what it was told of.
    pub(super) fn end_ill(&mut self, fault: String) {
        self.then = None;
        self.fault = Some(fault);
    }

    /// Whether software goes by what it should, as far as anything is told to it.
    pub(super) fn has_all(&self) -> bool {
        self.due.is_none() || self.by == self.due
    }

    /// What software may go by.
    pub(super) const fn goes_by(&self) -> Option<&Seen> {
        self.by.as_ref()
    }

    /// How the hook failed, if it did.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}
