//! What a monitoring system asks: the status as numbers, and how long the TPM takes, in the text format of OpenMetrics.
//!
//! Promises: what is shown is what `status` shows, and asking costs no TPM command and no word with the broker. Does not
//! promise secrecy: every program on this machine may ask, and reads names of zones, operations and hooks.

use std::fmt::{Display, Write};
use std::sync::Arc;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use policy::time::UnixTime;

use crate::local_http::{self, Listener, said};
use crate::ports::Clock;
use crate::renewal::Attester;
use crate::software_key::Holder;
use crate::status::{SoftwareKeyStatus, Status, Word};
use crate::tpm::{Operation, Spent, TpmHandle};

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `GET /metrics` for ever.
pub async fn serve(listener: Listener, attester: Arc<Attester>) {
    local_http::serve(listener, move |request| respond(&attester, request)).await;
}

fn respond<B>(attester: &Attester, request: &Request<B>) -> Response<String> {
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "ask with GET /metrics\n".to_owned());
    }
    match Status::read(&attester.config.deliver, attester.clock.now()) {
        Ok(status) => {
            let hooks = attester.config.hooks.iter().map(|hook| hook.name.as_str());
            let hooks = hooks.chain(attester.config.state_hooks.iter().map(|hook| hook.name.as_str()));
            let tpm = attester.prover.tpm().map(TpmTimes::of).unwrap_or_default();
            let mut response = said(StatusCode::OK, page(&status, &hooks.collect::<Vec<_>>(), &tpm));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            response
        }
        Err(error) => said(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// How long the TPM took.
#[derive(Debug, Default)]
struct TpmTimes {
    spent: Vec<(Operation, Spent)>,
    /// Seconds that it has worked on the present command.
    busy: f64,
}

impl TpmTimes {
    fn of(tpm: &TpmHandle) -> Self {
        let busy = tpm.occupation().map_or(0.0, |(_, since)| since.as_secs_f64());
        Self { spent: tpm.spent(), busy }
    }
}

/// A page that is being written. Writing to a String cannot fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {PREFIX}{name} {kind}\n# HELP {PREFIX}{name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let _ = write!(self.0, "{PREFIX}{name}");
        // Names of zones, roles, holders, operations and hooks need no escapes.
        for (number, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{value}\"", if number == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

/// Begins the name of every metric.
const PREFIX: &str = "touchstone_attestor_";

fn page(status: &Status, hooks: &[&str], tpm: &TpmTimes) -> String {
    let mut page = Page::default();
    page.family("build", "info", "The attestor");
    page.sample("build_info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    page.family("state", "gauge", "1 for the state that the device is in, 0 for the others");
    for word in Word::ALL {
        page.sample("state", &[("state", &word.as_str())], u8::from(word == status.state));
    }
    page.gauge("state_since_timestamp_seconds", "Since when", status.since.0);
    let attested = status.last_attestation.unwrap_or(UnixTime(0));
    page.gauge("last_attestation_timestamp_seconds", "The last good attestation; 0: none yet", attested.0);
    certificates(&mut page, status);
    page.gauge("trust_sequence", "Sequence of the trust set that is delivered", status.trust_sequence);
    let (reachable, watching) = (u8::from(status.broker.reachable), u8::from(status.broker.watching));
    page.gauge("broker_reachable", "1 if the broker answered the last time", reachable);
    page.gauge("broker_watching", "1 while the broker can tell of changes at once", watching);
    page.family("hook_failing", "gauge", "1 if the hook did not end well the last time it ran");
    for hook in hooks {
        let fails = status.failing_hooks.iter().any(|failing| failing.name == *hook);
        page.sample("hook_failing", &[("hook", hook)], u8::from(fails));
    }
    page.family("tpm_seconds", "summary", "Time that the TPM took for its operations, by operation");
    for (operation, spent) in &tpm.spent {
        let labels: [(&str, &dyn Display); 1] = [("operation", &operation.label())];
        page.sample("tpm_seconds_count", &labels, spent.count);
        page.sample("tpm_seconds_sum", &labels, spent.time.as_secs_f64());
    }
    page.gauge(
        "tpm_busy_seconds",
        "Time that the TPM has worked on its present operation; 0: on none",
        tpm.busy,
    );
    page.0 + "# EOF\n"
}

fn certificates(page: &mut Page, status: &Status) {
    let name = "certificate_not_after_timestamp_seconds";
    page.family(name, "gauge", "Last second at which a certificate of the device holds");
    for one in &status.certificates {
        page.sample(name, &[("zone", &one.zone), ("role", &one.role)], one.not_after.0);
    }
    let name = "software_key_not_after_timestamp_seconds";
    page.family(name, "gauge", "Last second at which the certificate of a software key holds");
    for SoftwareKeyStatus { seat, not_after, .. } in &status.software_keys {
        let (kind, holder): (_, &dyn Display) = match &seat.holder {
            Holder::Service(service) => ("service", service),
            Holder::Workload { name, .. } => ("workload", name),
        };
        let role = seat.own().role;
        let labels: [(&str, &dyn Display); 4] =
            [("zone", &seat.zone), ("kind", &kind), ("holder", holder), ("role", &role)];
        page.sample(name, &labels, not_after.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hooks::FailingHook;
    use crate::role::Role;
    use crate::software_key::SoftwareSeat;
    use crate::status::{BrokerStatus, CertificateStatus, SCHEMA};

    fn status() -> Status {
        let certificate = CertificateStatus {
            zone: "press".parse().unwrap(),
            role: Role::Caller,
            serial: "0a".to_owned(),
            not_after: UnixTime(1_800_043_200),
            hours_left: 12,
        };
        let key = |holder| SoftwareKeyStatus {
            seat: SoftwareSeat { zone: "press".parse().unwrap(), holder },
            serial: "0b".to_owned(),
            not_after: UnixTime(1_800_043_100),
            hours_left: 11,
        };
        let service = key(Holder::Service("hmi".parse().unwrap()));
        let workload = key(Holder::Workload { name: "historian".parse().unwrap(), role: Role::Caller });
        let failing = FailingHook { name: "nginx".to_owned(), message: "it ended with 1".to_owned() };
        Status {
            schema: SCHEMA,
            device: Some("press-7".parse().unwrap()),
            zones: vec!["press".parse().unwrap()],
            state: Word::Trusted,
            since: UnixTime(1_800_000_000),
            certificates: vec![certificate],
            software_keys: [service, workload].into(),
            refused_keys: Vec::new(),
            last_attestation: Some(UnixTime(1_800_000_001)),
            broker: BrokerStatus {
                address: "broker:8443".to_owned(),
                reachable: true,
                asked: true,
                watching: false,
                heard: None,
            },
            denial: None,
            wanted: None,
            failing_hooks: vec![failing],
            unbound: Vec::new(),
            images: None,
            problem: None,
            trust_sequence: 7,
            written_at: UnixTime(1_800_000_002),
            written_up: None,
            stopped: false,
        }
    }

    #[test]
    fn the_page_is_the_status_as_numbers() {
        let spent = Spent { count: 3, time: Duration::from_millis(750) };
        let tpm = TpmTimes { spent: vec![(Operation::Quote, spent)], busy: 0.5 };
        let page = page(&status(), &["nginx", "lamp"], &tpm);
        for line in [
            "touchstone_attestor_state{state=\"trusted\"} 1",
            "touchstone_attestor_state{state=\"refused\"} 0",
            "touchstone_attestor_last_attestation_timestamp_seconds 1800000001",
            "touchstone_attestor_certificate_not_after_timestamp_seconds{zone=\"press\",role=\"caller\"} 1800043200",
            "touchstone_attestor_software_key_not_after_timestamp_seconds{zone=\"press\",kind=\"service\",holder=\"hmi\",role=\"listener\"} 1800043100",
            "touchstone_attestor_software_key_not_after_timestamp_seconds{zone=\"press\",kind=\"workload\",holder=\"historian\",role=\"caller\"} 1800043100",
            "touchstone_attestor_broker_reachable 1",
            "touchstone_attestor_broker_watching 0",
            "touchstone_attestor_hook_failing{hook=\"nginx\"} 1",
            "touchstone_attestor_hook_failing{hook=\"lamp\"} 0",
            "touchstone_attestor_tpm_seconds_count{operation=\"quote\"} 3",
            "touchstone_attestor_tpm_seconds_sum{operation=\"quote\"} 0.75",
            "touchstone_attestor_tpm_busy_seconds 0.5",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("\n# EOF\n"));
    }

    #[test]
    fn every_sample_is_of_a_family_that_is_documented() {
        let spent = Spent { count: 1, time: Duration::ZERO };
        let tpm = TpmTimes { spent: vec![(Operation::Quote, spent)], busy: 0.0 };
        let page = page(&status(), &["nginx"], &tpm);
        let documented = include_str!("../METRICS.md");
        let families: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let families: Vec<&str> = families.iter().filter_map(|line| line.split(' ').next()).collect();
        for family in &families {
            assert!(documented.contains(&format!("| `{family}` |")), "{family} is not in METRICS.md");
        }
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            assert!(families.iter().any(|family| line.starts_with(family)), "{line} is of no family");
        }
    }
}
