//! Why there is no connection to the broker: whose certificate or clock is in the way, and what to do.

use std::io;

use policy::time::{UnixTime, Validity};
use rustls::{AlertDescription, CertificateError};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::words;

/// What a person does whose certificate counts for nothing any more.
const ANOTHER: &str = "ask an owner to run `touchstone admin invite NAME --role ROLE`, and accept it with `touchstone admin accept`; where no owner is left, `touchstone-broker recover` makes one";

/// Nobody answers at `address`.
pub(super) fn unreachable(address: &str, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("the broker at {address} cannot be reached: {why}"))
        .next("is touchstone-broker running, and is the address right (--address, TOUCHSTONE_ADDRESS)?")
}

/// A TLS connection did not come about, or ended before the broker spoke.
pub(super) fn tls(context: &Context, error: &io::Error, now: UnixTime) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => not_accepted(context, *alert, now),
        Some(rustls::Error::InvalidCertificate(why)) => not_the_broker(context, why),
        _ => unreachable(&context.address, &error.to_string()),
    }
}

/// The broker refused the administrator's certificate. It does not say why, so the certificate is looked at here.
fn not_accepted(context: &Context, alert: AlertDescription, now: UnixTime) -> Failure {
    let refused = |what: String| Failure::new(Exit::NotPermitted, what);
    match context.identity.as_ref().and_then(|identity| identity.validity()) {
        Some(Validity { not_after, .. }) if not_after < now => {
            refused(format!("your certificate ended {}, on {not_after}", words::age(not_after.0, now)))
                .next(ANOTHER)
        }
        Some(Validity { not_before, .. }) if not_before > now => {
            let behind = words::span(not_before.since(now));
            refused(format!("your certificate begins on {not_before}, and this machine's clock says {now}"))
                .next(format!("this clock is at least {behind} behind the one of the broker that issued it: set it, then try again"))
        }
        Some(Validity { not_after, .. }) if alert == AlertDescription::CertificateExpired => {
            refused(format!(
                "the broker says that your certificate has ended; by this machine's clock it ends {}, on {not_after}",
                words::left(not_after.0, now)
            ))
            .next("one of the two clocks is wrong: compare `date -u` here and on the broker's machine")
        }
        _ => refused(format!("the broker does not accept this administrator's certificate ({alert:?})")).next(
            format!("admin.pem in {} may be of another plant or an issuing key that was replaced; {ANOTHER}", context.folder.display()),
        ),
    }
}

/// The server is certified by an issuing key that another has replaced.
pub(super) fn replaced(context: &Context, number: Option<u32>, own: u32) -> Failure {
    let (address, plant) = (&context.address, &context.plant);
    let what = match number {
        Some(number) => format!(
            "{address} is certified by issuing key {number} of {plant}, and {own} has taken its place: a thief or an old backup is at work"
        ),
        None => format!("{address} is not certified by an issuing key of {plant}"),
    };
    Failure::new(Exit::Unreachable, what).next(
        "if an old backup was restored there, `touchstone-broker recover --issuing-key` on its host makes a new key",
    )
}

/// The server's certificate is not the one that this plant's broker has.
fn not_the_broker(context: &Context, why: &CertificateError) -> Failure {
    let (address, plant) = (&context.address, &context.plant);
    let failed = |what: String| Failure::new(Exit::Unreachable, what);
    match why {
        CertificateError::ExpiredContext { time, not_after } => {
            let (now, ended) = (UnixTime(time.as_secs()), UnixTime(not_after.as_secs()));
            failed(format!(
                "the certificate of the broker at {address} ended on {ended}, {} by this machine's clock, which says {now}",
                words::age(ended.0, now)
            ))
            .next("if this clock is ahead, set it; if it is right, look why the broker renewed nothing: journalctl -u touchstone-broker")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let (now, begins) = (UnixTime(time.as_secs()), UnixTime(not_before.as_secs()));
            failed(format!(
                "the certificate of the broker at {address} begins on {begins}, and this machine's clock says {now}"
            ))
            .next(format!(
                "this machine's clock is at least {} behind the broker's: set the one that is wrong (`date -u` on both)",
                words::span(begins.since(now))
            ))
        }
        CertificateError::NotValidForNameContext { presented, .. } => failed(format!(
            "the server at {address} is {}, not {}, the broker of {plant}",
            words::list(&presented.iter().map(|name| bare(name)).collect::<Vec<_>>()),
            plant.broker_name()
        ))
        .next("check the address (--address, TOUCHSTONE_ADDRESS) and the plant in context.toml; `touchstone context list` shows your contexts"),
        CertificateError::UnknownIssuer if context.plant_root.is_empty() => failed(format!(
            "the server at {address} shows no plant root that has the fingerprint in the code"
        ))
        .next("check the address; if it is right, ask whoever invited you for plant-root.pem and name it with --root"),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => failed(format!(
            "the server at {address} is not the broker of {plant}: plant-root.pem does not vouch for it"
        ))
        .next(format!(
            "check the address, and that plant-root.pem in {} is this plant's",
            context.folder.display()
        )),
        why => failed(format!("the server at {address} is not the broker of {plant}: {why}"))
            .next("check the address (--address, TOUCHSTONE_ADDRESS)"),
    }
}

/// A name without the kind that rustls writes around it, `DnsName("…")`.
fn bare(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}
