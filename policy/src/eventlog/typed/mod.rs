//! Typed events: what an event's data says, and whether its digest vouches for it.
//!
//! Each type has its own rule of what firmware or a boot loader hashes. A reading keeps the two
//! apart: [`Bound`] holds what the digest covers under that rule and only a comparison of digests makes it;
//! everything else is a hint for people. The event's type itself is covered by nothing; which types may stand
//! where is the evidence grammar's business. Parsers are total and bounded, and nothing here is believed until
//! a quote confirms the digests.

mod bound;
pub mod gpt;
mod guid;
pub mod image;
pub mod ipl;
pub mod signature_list;
pub mod tagged;
pub(crate) mod text;
pub mod variable;

pub use bound::{Bound, Data};
pub use guid::Guid;

use crate::eventlog::event::EventType;
use crate::eventlog::tcg::Event;
use crate::reader::ReadError;
use crate::tpm::alg::HashAlg;
use gpt::Gpt;
use image::ImageLoad;
use ipl::Ipl;
use tagged::Tagged;
use variable::{BootVariable, Variable};

/// An event by its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypedEvent<'a> {
    /// The end of what the platform measured: hashed whole.
    Separator(Data<&'a [u8]>),
    /// Something that firmware did, as text: hashed whole.
    Action(Data<&'a [u8]>),
    /// A variable that configures the platform: hashed whole.
    DriverConfig(Data<Variable<'a>>),
    /// A variable that says what to boot.
    Boot(BootVariable<'a>),
    /// What vouched for an image: hashed whole but for shim's surplus byte.
    Authority(Data<Variable<'a>>),
    /// The policy about a device, or what vouched for it (SPDM): hashed whole.
    Device(Data<Variable<'a>>),
    /// A started or loaded image: the digest is of the image, the data is a hint.
    Image(ImageLoad<'a>),
    /// The partition table: hashed whole.
    Gpt(Data<Gpt>),
    /// Something that a boot loader measured.
    Ipl(Ipl),
    /// Something that a boot loader measured under a tag.
    Tagged(Data<Tagged<'a>>),
    /// An event of another type.
    Other,
}

impl<'a> TypedEvent<'a> {
    /// Reads an event by its type; data is bound where the digest of `bank` covers it. Offsets of errors count
    /// from the start of the event's data.
    pub fn parse(event: &Event<'a>, bank: HashAlg) -> Result<Self, ReadError> {
        let raw = || Data::whole(event, bank, Ok::<_, ReadError>);
        Ok(match event.event_type {
            EventType::SEPARATOR => Self::Separator(raw()?),
            EventType::ACTION | EventType::EFI_ACTION => Self::Action(raw()?),
            EventType::EFI_VARIABLE_DRIVER_CONFIG => {
                Self::DriverConfig(Data::whole(event, bank, Variable::parse)?)
            }
            EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2 => {
                Self::Boot(BootVariable::parse(event, bank)?)
            }
            EventType::EFI_VARIABLE_AUTHORITY => Self::Authority(variable::parse_authority(event, bank)?),
            EventType::EFI_SPDM_DEVICE_POLICY | EventType::EFI_SPDM_DEVICE_AUTHORITY => {
                Self::Device(Data::whole(event, bank, Variable::parse)?)
            }
            EventType::EFI_BOOT_SERVICES_APPLICATION
            | EventType::EFI_BOOT_SERVICES_DRIVER
            | EventType::EFI_RUNTIME_SERVICES_DRIVER => Self::Image(ImageLoad::parse(event.data)?),
            EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2 => {
                Self::Gpt(Data::whole(event, bank, Gpt::parse)?)
            }
            EventType::IPL => Self::Ipl(Ipl::parse(event, bank)),
            EventType::EVENT_TAG => Self::Tagged(Data::whole(event, bank, Tagged::parse)?),
            _ => Self::Other,
        })
    }
}
