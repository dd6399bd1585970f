//! What a log can lack that replays and is not built as firmware builds it.

use crate::eventlog::event::EventType;
use crate::evidence::secure_boot::{MAX_CERTIFICATES, MAX_EVENTS};
use crate::reader::ReadError;
use crate::tpm::pcr::PcrIndex;

/// A log replays but is not built as firmware builds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// A type that firmware does not measure into this PCR, or none that is known.
    #[error(
        "event {position} of type {event_type} does not belong into PCR {pcr}; report the firmware or reject the device"
    )]
    UnexpectedType {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
        /// The type.
        event_type: EventType,
    },
    /// No separator: the log is cut or the firmware did not finish.
    #[error("PCR {pcr} has no separator event; send the whole log of a finished boot")]
    NoSeparator {
        /// The PCR.
        pcr: PcrIndex,
    },
    /// More than one separator.
    #[error(
        "event {position} is a second separator in PCR {pcr}; the log was changed or the firmware is faulty"
    )]
    SecondSeparator {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
    },
    /// A separator other than four zero bytes: firmware reports an error with it.
    #[error(
        "event {position} is no plain separator in PCR {pcr}; the firmware reported an error or the log was changed"
    )]
    ErrorSeparator {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
    },
    /// Configuration or firmware code after the separator.
    #[error(
        "event {position} of type {event_type} comes after the separator of PCR {pcr}; the log was changed or the firmware is faulty"
    )]
    AfterSeparator {
        /// Place in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
        /// The type.
        event_type: EventType,
    },
    /// The data of a Secure Boot variable is not what was hashed.
    #[error(
        "event {position} measures a Secure Boot variable and its data is not what was hashed; the log was changed"
    )]
    UnboundVariable {
        /// Place in the log.
        position: usize,
    },
    /// A variable is measured twice.
    #[error(
        "event {position} measures variable {name} a second time; the log was changed or the firmware is faulty"
    )]
    SecondVariable {
        /// Place in the log.
        position: usize,
        /// The variable.
        name: String,
    },
    /// A Secure Boot flag that is not one byte of 0 or 1.
    #[error(
        "event {position} measures {name} with a value other than 0 and 1; the log was changed or the firmware is faulty"
    )]
    Flag {
        /// Place in the log.
        position: usize,
        /// The variable.
        name: String,
    },
    /// A variable that every firmware with Secure Boot measures is not there.
    #[error(
        "PCR 7 does not tell variable {name}; the log was changed or the firmware does not measure Secure Boot"
    )]
    MissingVariable {
        /// The variable.
        name: &'static str,
    },
    /// More events in PCR 7 than are looked at.
    #[error(
        "event {position} is one too many in PCR 7, at most {MAX_EVENTS} are looked at; report the firmware"
    )]
    TooManyEvents {
        /// Place in the log.
        position: usize,
    },
    /// What the digest covers cannot be read.
    #[error("event {position} is covered by its digest and cannot be read; report the firmware")]
    Unreadable {
        /// Place in the log.
        position: usize,
        /// What is wrong with its data.
        #[source]
        reason: ReadError,
    },
    /// The contents of a key variable are no signature lists.
    #[error("event {position} measures {name}, whose contents cannot be read as signature lists")]
    Database {
        /// Place in the log.
        position: usize,
        /// The variable.
        name: &'static str,
        /// What is wrong with its contents.
        #[source]
        reason: ReadError,
    },
    /// A variable holds more certificates than are looked at.
    #[error("event {position} measures {name} with more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates {
        /// Place in the log.
        position: usize,
        /// The variable.
        name: &'static str,
    },
    /// The data of an authority is not what was hashed.
    #[error(
        "event {position} measures what vouched for an image and its data is not what was hashed; the log was changed"
    )]
    UnboundAuthority {
        /// Place in the log.
        position: usize,
    },
    /// Firmware says that db vouched for an image with something that db does not hold.
    #[error(
        "event {position} says that db vouched for an image with an entry that the measured db does not have; the log was changed or the firmware is faulty"
    )]
    AuthorityNotInDb {
        /// Place in the log.
        position: usize,
    },
    /// The text of an action in PCR 7 is not what was hashed, or no text.
    #[error("event {position} is an action in PCR 7 without a text that was hashed; the log was changed")]
    UnboundAction {
        /// Place in the log.
        position: usize,
    },
    /// An event about devices that measures another variable than devdb.
    #[error("event {position} measures {name}, which its type does not allow; the log was changed")]
    UnexpectedVariable {
        /// Place in the log.
        position: usize,
        /// The variable.
        name: String,
    },
    /// Secure Boot is on and nothing was verified under it.
    #[error(
        "Secure Boot is on and no entry of db vouched for any image in PCR 7; the log was changed or the firmware is faulty"
    )]
    NoAuthority,
}
