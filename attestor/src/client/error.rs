//! Why a call to the broker failed, in words that tell the network from the certificate from the verdict.

use std::error::Error;
use std::io;
use std::time::Duration;

use policy::time::UnixTime;
use proto::v1::Denial;
use rustls::CertificateError;
use tonic::{Code, Status};

use crate::config::BrokerAddress;
use crate::tpm::TpmError;

/// Longest text taken from a foreign status, in characters.
const MAX_TEXT: usize = 200;

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers.
    #[error("the broker at {broker} does not answer: {reason}; mend the network or start the broker")]
    Unreachable {
        /// Where it should be.
        broker: BrokerAddress,
        /// What the network said.
        reason: String,
    },
    /// Somebody answers, but not the plant's broker.
    #[error(
        "{broker} is not the broker of this plant ({name}): {reason}; correct `broker`, `plant` or `plant_root` in \
         the configuration, or the clock"
    )]
    NotTheBroker {
        /// Where it was looked for.
        broker: BrokerAddress,
        /// The name it must prove.
        name: String,
        /// What TLS said.
        reason: String,
    },
    /// Somebody answers by a certificate that has ended, by the clock here.
    #[error(
        "the certificate of the broker at {broker} ended at {end}, and the clock of this device shows {now}; mend the time \
         source of this device, or else start the broker, which renews it"
    )]
    Ended {
        /// Where it was looked for.
        broker: BrokerAddress,
        /// When it ended.
        end: UnixTime,
        /// What the clock here shows.
        now: UnixTime,
    },
    /// The device's own TLS settings cannot be used.
    #[error("TLS cannot be set up: {0}; reinstall the attestor")]
    Tls(rustls::Error),
    /// The device's TPM did not sign for the connection: the broker is not to blame.
    #[error("this device's TPM did not sign for the connection to the broker: {0}")]
    NotSigned(String),
    /// The broker refused, with its reason.
    #[error("the broker refused: {}", .0.message)]
    Denied(Box<Denial>),
    /// The broker failed without a reason of ours.
    #[error("the broker at {broker} failed with {code:?}: {message}; see its log")]
    Failed {
        /// The broker.
        broker: BrokerAddress,
        /// The gRPC code.
        code: Code,
        /// Its message.
        message: String,
    },
}

impl CallError {
    pub(super) fn unreachable(broker: &BrokerAddress, error: &dyn Error) -> Self {
        Self::Unreachable { broker: broker.clone(), reason: innermost(error) }
    }

    pub(super) fn late(broker: &BrokerAddress, deadline: Duration) -> Self {
        let reason = format!("nothing within {} s", deadline.as_secs());
        Self::Unreachable { broker: broker.clone(), reason }
    }

    pub(super) fn handshake(broker: &BrokerAddress, name: &str, error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::Other(own)) if own.0.is::<TpmError>() => Self::NotSigned(own.to_string()),
            Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => {
                let [now, end] = [time, not_after].map(|time| UnixTime(time.as_secs()));
                Self::Ended { broker: broker.clone(), end, now }
            }
            Some(tls) => {
                Self::NotTheBroker { broker: broker.clone(), name: name.to_owned(), reason: tls.to_string() }
            }
            None => Self::unreachable(broker, &error),
        }
    }

    pub(super) fn from_status(broker: &BrokerAddress, status: &Status) -> Self {
        if let Some(denial) = proto::denial::from_status(status) {
            return Self::Denied(Box::new(denial));
        }
        let message: String = status.message().chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        let broker = broker.clone();
        match status.code() {
            // What tonic makes of a broken connection.
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded => {
                let reason = status.source().map_or(message, innermost);
                Self::Unreachable { broker, reason }
            }
            code => Self::Failed { broker, code, message },
        }
    }

    /// Whether the broker was not there, rather than against it.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        let own = matches!(self, Self::Tls(_) | Self::NotSigned(_));
        own || matches!(self, Self::Unreachable { .. } | Self::NotTheBroker { .. } | Self::Ended { .. })
    }
}

/// tonic and hyper wrap the reason in layers that all say "transport error".
fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handshake that ended with this.
    fn handshake(error: rustls::Error) -> CallError {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        CallError::handshake(&"127.0.0.1:1".parse().unwrap(), "broker.control.plant.example", error)
    }

    #[test]
    fn a_certificate_that_ended_is_told_with_both_times_and_the_broker_is_away() {
        let [end, now] = [UnixTime(1_790_000_000), UnixTime(1_790_086_400)];
        let [not_after, time] =
            [end, now].map(|at| rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(at.0)));
        let ended = handshake(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            time,
            not_after,
        }));
        assert!(ended.is_absence());
        let words = ended.to_string();
        assert!(
            words.contains(&format!("ended at {end}, and the clock of this device shows {now}")),
            "{words}"
        );
    }

    #[test]
    fn what_another_shows_is_of_another_and_what_the_network_does_is_of_nobody() {
        let other = handshake(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(matches!(other, CallError::NotTheBroker { .. }) && other.is_absence(), "{other}");
        let cut = io::Error::from(io::ErrorKind::ConnectionReset);
        let cut = CallError::handshake(&"127.0.0.1:1".parse().unwrap(), "", cut);
        assert!(matches!(cut, CallError::Unreachable { .. }) && cut.is_absence(), "{cut}");
        let busy = CallError::Denied(Box::default());
        assert!(!busy.is_absence());
    }
}
