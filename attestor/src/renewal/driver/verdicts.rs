//! What the broker answers, and what it says on the stream: taken over, and told to the machine.

use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::id::ZoneName;
use proto::v1::{Denial, DenialReason};

use super::super::adopt::{AdoptError, Adopted};
use super::super::exchange::{Answered, ExchangeError};
use super::super::machine::{Input, Outcome, is_of_one_zone, revokes};
use super::super::watch::News;
use super::Driver;
use crate::client::CallError;
use crate::state::State;
use crate::status::remedy;

impl Driver {
    pub(in crate::renewal) fn finish(&mut self, result: Result<Answered, ExchangeError>) {
        self.in_flight = None;
        self.reporter.problem = None;
        let outcome = match result {
            Ok(answer) => {
                (self.reporter.reachable, self.behind) = (Some(true), answer.behind);
                match self.attester.adopt(answer) {
                    Ok(Adopted { outcome, complaint }) => {
                        self.reporter.problem = complaint.map(|error| error.to_string());
                        self.note_forgotten(outcome);
                        outcome
                    }
                    Err(error) => self.not_adopted(&error),
                }
            }
            Err(error) => self.failed(&error),
        };
        if let Outcome::Issued { .. } = outcome {
            self.wanted.notify_one();
            self.show_credentials();
        }
        self.input(Input::Finished(outcome));
        let goes_on = matches!(outcome, Outcome::Issued { .. } | Outcome::Pending { keys_missing: true, .. });
        if !(goes_on && self.attester.keeper.has_place_alone()) {
            self.settle();
        }
    }

    fn note_forgotten(&mut self, outcome: Outcome) {
        if let (Outcome::Pending { keys_missing: false, .. }, true) = (outcome, self.attester.is_certified())
        {
            let problem = "the broker does not know this device any more, as after a restore of an older backup; have an \
                           administrator run `touchstone device admit`: what the device holds stays until it ends";
            tracing::error!("{problem}");
            self.reporter.problem = Some(problem.to_owned());
        }
    }

    fn not_adopted(&mut self, error: &AdoptError) -> Outcome {
        tracing::error!(%error, "the broker's answer is not taken");
        self.reporter.problem = Some(error.to_string());
        Outcome::Failed
    }

    fn failed(&mut self, error: &ExchangeError) -> Outcome {
        match error {
            ExchangeError::Call { at_begin, call: CallError::Denied(denial) } => {
                self.reporter.reachable = Some(true);
                self.denied(*at_begin, denial)
            }
            ExchangeError::Call { call, .. } => {
                self.reporter.reachable = Some(!call.is_absence());
                self.reporter.problem = Some(call.to_string());
                tracing::warn!(error = %call, "not attested");
                match call.is_absence() {
                    true => Outcome::Unreachable,
                    false => Outcome::Failed,
                }
            }
            other => {
                tracing::error!(error = %other, "not attested");
                self.reporter.problem = Some(other.to_string());
                if let ExchangeError::BrokerClock { .. } | ExchangeError::ClockAhead { .. } = other {
                    self.reporter.reachable = Some(true);
                }
                if !other.keys_are_lost() {
                    return Outcome::Failed;
                }
                self.attester.keeper.note(State::forget_keys);
                self.credentials.send_replace(None);
                Outcome::KeysLost
            }
        }
    }

    fn denied(&mut self, at_begin: bool, denial: &Denial) -> Outcome {
        let reason = denial.reason();
        tracing::warn!(
            device.id = self.attester.name(),
            verdict = "refused",
            reason = reason.as_str_name(),
            findings = denial.findings.len(),
            "{}; what to do: {}",
            denial.message.escape_debug(),
            remedy(reason)
        );
        let verdict = match reason {
            DenialReason::TryLater | DenialReason::MustReattest | DenialReason::Unspecified => false,
            // Of a bound device: the broker forgot it, and it enrolls again.
            DenialReason::NotFound | DenialReason::NotAdmitted => !(at_begin && self.machine.is_bound()),
            _ => true,
        };
        if verdict {
            self.refused(denial, revokes(reason));
        }
        let retry_after = Duration::from_secs(denial.retry_after_seconds.into());
        Outcome::Denied { at_begin, reason, retry_after }
    }

    pub(in crate::renewal) fn hear(&mut self, item: News) {
        match item {
            News::Opened => {
                (self.reporter.watching, self.reporter.reachable) = (true, Some(true));
                self.attester.heard.anew();
                self.input(Input::BrokerHeard);
            }
            News::Closed => {
                self.reporter.watching = false;
                self.report(false);
            }
            News::NotSigned => {
                self.attester.untried.store(true, Ordering::SeqCst);
                self.input(Input::AttestNow);
            }
            News::Alive => self.report(false),
            News::Trust(signed, before) => {
                if let Err(error) = self.attester.adopt_trust(*signed, before) {
                    tracing::error!(%error, "a trust set is not taken");
                    self.reporter.problem = Some(error.to_string());
                }
                self.report(false);
            }
            News::AttestNow(reason) => {
                tracing::info!(reason = %reason.escape_debug(), "the broker asks for proof now");
                self.input(Input::AttestNow);
            }
            News::Wanted(wanted) => {
                self.attester.adopt_wanted(&wanted);
                self.wanted.notify_one();
                self.report(false);
                self.settle();
            }
            News::TrustLost { denial, of } => self.lose(&denial, &of),
        }
    }

    /// The certificate `of` was revoked, and with it all that the device holds, or all of one of its zones. If it holds
    /// others in its place by now, a proof tells what they are worth.
    fn lose(&mut self, denial: &Denial, of: &[u8]) {
        let (reason, now) = (denial.reason(), self.attester.now());
        let (zone, any, beside) = self.attester.keeper.read(|state: &State| {
            let zone = state.zone_of(of);
            (zone.cloned(), state.holds_any(), zone.is_some_and(|zone| state.holds_beside(zone, now)))
        });
        match zone {
            None if any => {
                tracing::info!("a certificate was revoked that is replaced already; proving anew");
                return self.input(Input::AttestNow);
            }
            Some(zone) if beside && is_of_one_zone(reason) => return self.lose_zone(&zone, denial),
            Some(_) | None => {}
        }
        tracing::error!(
            device.id = self.attester.name(),
            verdict = "refused",
            reason = reason.as_str_name(),
            "the certificates were revoked: {}; what to do: {}",
            denial.message.escape_debug(),
            remedy(reason)
        );
        self.refused(denial, true);
        self.input(Input::TrustLost(reason));
        self.settle();
    }

    /// What the device holds in other zones is as good as before, as far as was said: its next proof tells.
    fn lose_zone(&mut self, zone: &ZoneName, denial: &Denial) {
        let why = denial.message.escape_debug();
        let problem = format!(
            "the certificates of zone {zone} were revoked: {why}; the device proves itself at once, and gets others if the zone \
             still takes it"
        );
        tracing::error!(
            device.id = self.attester.name(),
            reason = denial.reason().as_str_name(),
            "{problem}"
        );
        self.attester.keeper.note(|state| state.void_zone(zone));
        self.reporter.problem = Some(problem);
        self.show_credentials();
        self.input(Input::ZoneLost);
        self.settle();
    }

    /// Takes a refusal; `lost`: the certificates are worth nothing any more. Nobody who hears of it waits for a disk.
    fn refused(&mut self, denial: &Denial, lost: bool) {
        self.attester.adopt_refusal(denial, lost);
        if lost {
            self.credentials.send_replace(None);
        }
        self.wanted.notify_one();
    }
}
