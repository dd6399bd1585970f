//! The commands of `touchstone-attestor`.

mod authorize;
mod doctor;
mod gate;
mod identify;
mod reset;
mod run;
mod status;

use std::path::PathBuf;

use policy::cause::chain;

use crate::bootstrap::PrepareError;
use crate::config::{ConfigError, LocalAddress};
use crate::evidence::ProverError;
use crate::idevid::IdevIdError;
use crate::images::LedgerError;
use crate::plant::PlantRootError;
use crate::renewal::driver::DriverError;
use crate::state::LoadStateError;
use crate::status::ReadStatusError;

pub use authorize::{Asked, authorize};
pub use doctor::doctor;
pub use gate::gate;
pub use identify::{Identity, identify};
pub use reset::reset;
pub use run::run;
pub use status::status;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines, with a schema number.
    Json,
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no such gate.
    #[error("the gate cannot open: {0}")]
    Gate(String),
    /// Whom to believe is not known yet.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The plant root it names cannot be pinned.
    #[error(transparent)]
    PlantRoot(#[from] PlantRootError),
    /// The plant gives no name for the broker.
    #[error(transparent)]
    BrokerName(#[from] crate::client::BrokerNameError),
    /// There is no TPM that can be used.
    #[error(transparent)]
    Tpm(#[from] ProverError),
    /// The device is said to have none, and has no IDevID either.
    #[error(
        "tpm = \"none\": a device without a TPM and an IDevID has nothing to be registered by; it joins with a token \
         (`touchstone token create --without-tpm --device NAME --zone ZONE`)"
    )]
    NoTpm,
    /// The identity that its manufacturer gave it cannot be used.
    #[error("{}", chain(.0))]
    IdevId(#[from] IdevIdError),
    /// Images cannot be measured.
    #[error(transparent)]
    Images(#[from] LedgerError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] LoadStateError),
    /// There is no status.
    #[error(transparent)]
    Status(#[from] ReadStatusError),
    /// The daemon ended by itself.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// Local software cannot ask.
    #[error("{key}: {address} cannot be listened on: {source}; free it, or name another")]
    Listen {
        /// What the configuration calls it.
        key: &'static str,
        /// Where.
        address: LocalAddress,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Another daemon would save over what this one hears.
    #[error("another touchstone-attestor runs on the state in {}: stop it first, or name another folder as `state`", .0.display())]
    Taken(PathBuf),
    /// The attestor would make anew what is removed.
    #[error("the attestor runs; stop it first: systemctl stop touchstone-attestor")]
    Running,
    /// A part of what the attestor made is still there.
    #[error("{} cannot be removed: {source}; run this as root, and again afterwards", path.display())]
    NotRemoved {
        /// What.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The system refused a thread, a signal handler or the output.
    #[error("the system refused {what}: {source}; see its limits and log")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// Its reason.
        #[source]
        source: std::io::Error,
    },
}

impl CommandError {
    /// The exit code, after sysexits.h: EX_USAGE for what the operator wrote, EX_UNAVAILABLE for the TPM.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Gate(_)
            | Self::PlantRoot(_)
            | Self::BrokerName(_)
            | Self::Listen { .. }
            | Self::IdevId(_)
            | Self::NoTpm => 64,
            Self::Tpm(_) => 69,
            Self::Prepare(_)
            | Self::Running
            | Self::Taken(_)
            | Self::Images(_)
            | Self::NotRemoved { .. }
            | Self::State(_)
            | Self::Status(_)
            | Self::Driver(_)
            | Self::System { .. } => 1,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> CommandError {
    move |source| CommandError::System { what, source }
}
