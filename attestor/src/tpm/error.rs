//! What can go wrong at the TPM, in words a technician can act on.

use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

use super::PcrBank;

/// A verb of the port failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {fault}")]
pub struct TpmError {
    /// What was asked of the TPM.
    pub operation: Operation,
    /// Why it failed, and what to do next.
    pub fault: TpmFault,
}

/// A verb of the port, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Tpm::endorsement`](super::Tpm::endorsement)
    ReadEndorsement,
    /// [`Tpm::attestation_key`](super::Tpm::attestation_key)
    DeriveAttestationKey,
    /// [`Tpm::activate`](super::Tpm::activate)
    ActivateCredential,
    /// [`Tpm::read_pcrs`](super::Tpm::read_pcrs)
    ReadPcrs,
    /// [`Tpm::extend`](super::Tpm::extend)
    ExtendPcr,
    /// [`Tpm::quote`](super::Tpm::quote)
    Quote,
    /// [`Tpm::create_identity_key`](super::Tpm::create_identity_key)
    CreateIdentityKey,
    /// [`Tpm::certify`](super::Tpm::certify)
    CertifyIdentityKey,
    /// [`Tpm::sign_digest`](super::Tpm::sign_digest)
    SignDigest,
    /// [`Tpm::sign_as_manufacturer`](super::Tpm::sign_as_manufacturer)
    SignAsManufacturer,
}

/// Completes "cannot ...".
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadEndorsement => "read the endorsement keys of the TPM",
            Self::DeriveAttestationKey => "derive the attestation key in the TPM",
            Self::ActivateCredential => "open the broker's credential challenge in the TPM",
            Self::ReadPcrs => "read PCRs from the TPM",
            Self::ExtendPcr => "extend a PCR of the TPM",
            Self::Quote => "have the TPM quote its PCRs",
            Self::CreateIdentityKey => "create an identity key in the TPM",
            Self::CertifyIdentityKey => "have the TPM certify an identity key",
            Self::SignDigest => "sign with an identity key of the TPM",
            Self::SignAsManufacturer => "sign with the manufacturer's IDevID key in the TPM",
        })
    }
}

impl Operation {
    /// Its name for monitors.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ReadEndorsement => "read-endorsement",
            Self::DeriveAttestationKey => "derive-attestation-key",
            Self::ActivateCredential => "activate-credential",
            Self::ReadPcrs => "read-pcrs",
            Self::ExtendPcr => "extend-pcr",
            Self::Quote => "quote",
            Self::CreateIdentityKey => "create-identity-key",
            Self::CertifyIdentityKey => "certify-identity-key",
            Self::SignDigest => "sign-digest",
            Self::SignAsManufacturer => "sign-as-manufacturer",
        }
    }

    /// This operation, failed for this reason.
    pub fn failed(self, fault: TpmFault) -> TpmError {
        TpmError { operation: self, fault }
    }
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum TpmFault {
    /// The device node does not exist.
    #[error(
        "there is no {}; switch the TPM on in the firmware set-up and load its driver, \
         or correct the TPM address in the configuration", path.display()
    )]
    DeviceMissing {
        /// The device node.
        path: PathBuf,
    },
    /// The device node may not be opened by this user.
    #[error("no permission for {}; add the attestor's user to the group tss and restart it", path.display())]
    DevicePermission {
        /// The device node.
        path: PathBuf,
    },
    /// Another program holds the device.
    #[error("{} is held by another program; use /dev/tpmrm0, which several programs can share", path.display())]
    DeviceBusy {
        /// The device node.
        path: PathBuf,
    },
    /// The device node cannot be opened for another reason.
    #[error("{} cannot be opened; see the system log", path.display())]
    DeviceUnusable {
        /// The device node.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No software TPM listens there.
    #[error(
        "no software TPM answers at {socket}; start swtpm or correct the TPM address in the configuration"
    )]
    SwtpmUnreachable {
        /// The command channel.
        socket: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection to the TPM broke in the middle of a command.
    #[error(
        "the connection to the TPM broke (code {code:#x}); if it stays so, restart the TPM or the machine"
    )]
    ConnectionLost {
        /// The code of libtss2.
        code: u32,
    },
    /// TPM_RC_INITIALIZE, or an object of ours is gone in the midst of a verb.
    #[error(
        "the TPM was reset in the midst of its work (code {code:#x}); the attestor tries again by itself, if it stays so \
         reboot the machine, whose firmware starts the TPM"
    )]
    Reset {
        /// The response code.
        code: u32,
    },
    /// TPM_RC_FAILURE.
    #[error(
        "the TPM failed its self-test (TPM_RC_FAILURE, 0x101); cut the machine's power for a minute, and replace the TPM \
         if it stays so"
    )]
    Failure,
    /// TPM_RC_LOCKOUT.
    #[error(
        "the TPM is locked after too many wrong passwords (TPM_RC_LOCKOUT, 0x921); wait for its recovery time \
         or run tpm2_dictionarylockout --clear-lockout"
    )]
    Lockout,
    /// TPM_RC_RETRY and its kin, after libtss2 has tried five times.
    #[error("the TPM is busy (code {code:#x}); try again")]
    Busy {
        /// The response code.
        code: u32,
    },
    /// TPM_RC_BAD_AUTH, TPM_RC_AUTH_FAIL.
    #[error(
        "a password is set where Touchstone expects none (code {code:#x}); remove the password of the owner \
         and endorsement hierarchies and of the storage key with tpm2_changeauth"
    )]
    PasswordSet {
        /// The response code.
        code: u32,
    },
    /// The object slots of the TPM are full: TPM_RC_OBJECT_MEMORY, TPM_RC_SESSION_MEMORY.
    #[error(
        "the TPM has no free slot (code {code:#x}); another program left objects behind: \
         use /dev/tpmrm0 or run tpm2_flushcontext -t"
    )]
    SlotsFull {
        /// The response code.
        code: u32,
    },
    /// An identity key was made under a storage key that no longer exists.
    #[error(
        "the key belongs to another storage root key: the TPM was cleared or replaced since; \
         the identity keys must be made anew"
    )]
    KeyOfAnotherTpm,
    /// There is no key of the manufacturer's where the configuration says.
    #[error(
        "the TPM holds nothing at {handle:#x}; correct idevid.key (`tpm2_getcap handles-persistent` lists what it holds), \
         or ask the manufacturer"
    )]
    NothingThere {
        /// The persistent handle.
        handle: u32,
    },
    /// The parent of an identity key is gone and is not one that can be derived again.
    #[error("the storage key {handle:#x} of the identity key is gone; the identity keys must be made anew")]
    ParentMissing {
        /// The persistent handle.
        handle: u32,
    },
    /// Both persistent handles for the storage key hold something else.
    #[error(
        "the handles {first:#x} and {second:#x} hold keys that cannot protect identity keys (noDA is not set); \
         free one with tpm2_evictcontrol"
    )]
    NoStorageKey {
        /// The storage root key's usual handle.
        first: u32,
        /// The handle taken when the first is not suitable.
        second: u32,
    },
    /// A credential was made for another endorsement key or another attestation key.
    #[error(
        "the challenge was made for another endorsement key or attestation key (code {code:#x}); \
         enroll again, the TPM may have been replaced"
    )]
    CredentialOfAnotherTpm {
        /// The response code.
        code: u32,
    },
    /// The bank is not allocated.
    #[error("the TPM keeps no {bank} PCRs; choose another bank or allocate it with tpm2_pcrallocate")]
    BankMissing {
        /// The bank asked for.
        bank: PcrBank,
    },
    /// An argument has not the form the TPM wants.
    #[error("{what} is malformed")]
    Malformed {
        /// The argument.
        what: &'static str,
    },
    /// The TPM answered with something unexpected.
    #[error("the TPM answered with an unexpected {what}; update its firmware")]
    UnexpectedAnswer {
        /// The part of the answer.
        what: &'static str,
    },
    /// Any other response code.
    #[error("{words} (code {code:#x})")]
    Code {
        /// The response code of the TPM or of libtss2.
        code: u32,
        /// The code in words.
        words: String,
    },
    /// The caller's deadline passed.
    #[error("no answer within {} s{}", deadline.as_secs_f32(), Occupied(*occupied))]
    Deadline {
        /// The deadline that was given.
        deadline: Duration,
        /// What the TPM thread was doing, and for how long already.
        occupied: Option<(Operation, Duration)>,
    },
    /// The bounded queue of the owner thread is full.
    #[error("{waiting} commands wait for the TPM already; try again later")]
    QueueFull {
        /// The bound of the queue.
        waiting: usize,
    },
    /// The owner thread has ended.
    #[error("the TPM thread has ended; restart the attestor")]
    ThreadEnded,
}

/// Names the command a stuck thread is in.
struct Occupied(Option<(Operation, Duration)>);

impl fmt::Display for Occupied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((operation, since)) => {
                write!(f, ": for {:.1} s the TPM has been asked to {operation}", since.as_secs_f32())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_deadline_names_what_holds_the_tpm() {
        let fault = TpmFault::Deadline {
            deadline: Duration::from_secs(5),
            occupied: Some((Operation::Quote, Duration::from_millis(7500))),
        };
        assert_eq!(
            Operation::SignDigest.failed(fault).to_string(),
            "cannot sign with an identity key of the TPM: no answer within 5 s: \
             for 7.5 s the TPM has been asked to have the TPM quote its PCRs"
        );
    }

    #[test]
    fn the_usual_first_faults_say_what_to_do() {
        let fault = TpmFault::DevicePermission { path: "/dev/tpmrm0".into() };
        assert_eq!(
            Operation::Quote.failed(fault).to_string(),
            "cannot have the TPM quote its PCRs: no permission for /dev/tpmrm0; \
             add the attestor's user to the group tss and restart it"
        );
    }
}
