//! The grammar of PCR 7: what a log must hold there for its Secure Boot state to be read.
//!
//! Firmware measures SecureBoot, PK, KEK, db and dbx (TCG PC Client Platform Firmware Profile 1.06, 3.3.4.8), a
//! separator, and what vouched for each image; shim continues in the same PCR. Each variable must be there once,
//! each one's data must be what was hashed, and what firmware says it found in db must be in the measured db
//! (checklist rows 19 to 22). Firmware that changes db after measuring it measures it again and starts over, so
//! there is no honest log in which the two differ.
//!
//! Not promised: that the keys are good, or that the digests were ever extended; a quote confirms those.

mod authority;
mod state;

use crate::digest::Digest;
use crate::eventlog::event::EventType;
use crate::eventlog::replay::ReplayError;
use crate::eventlog::tcg::{Event, EventLog};
use crate::eventlog::typed::signature_list::parse_database;
use crate::eventlog::typed::variable::Variable;
use crate::eventlog::typed::{Bound, Data, Guid, TypedEvent, text};
use crate::reader::ReadError;
use crate::tpm::alg::HashAlg;
use crate::tpm::pcr::PcrIndex;

use super::grammar::{self, GrammarError};
pub use state::{
    Authority, CertificateName, KeyCertificate, KeyDatabase, MAX_CERTIFICATES, OtherEvent, SecureBootState,
    Voucher,
};
use state::{DatabaseError, Flags};

/// Most events of PCR 7: collected logs have at most ten. Authorities are looked up in db one by one, and
/// variables in one another.
pub const MAX_EVENTS: usize = 512;

/// A log tells no Secure Boot state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecureBootError {
    /// The events of PCR 7 do not replay in this bank.
    #[error(transparent)]
    Replay(ReplayError),
    /// PCR 7 is not built as firmware builds it.
    #[error(transparent)]
    Grammar(GrammarError),
}

/// Reads what a log says about Secure Boot in `bank`, without a quote: for people and forecasts.
pub fn told_by(log: &EventLog<'_>, bank: HashAlg) -> Result<SecureBootState, SecureBootError> {
    if !log.banks().contains(&bank) {
        return Err(SecureBootError::Replay(ReplayError::NoBank(bank)));
    }
    let mut events = Vec::new();
    for event in log.events().iter().filter(|event| event.extends().is_some_and(|pcr| pcr.number() == 7)) {
        let (position, pcr) = (event.position, event.extends());
        if let (None, Some(pcr)) = (event.digest(bank), pcr) {
            return Err(SecureBootError::Replay(ReplayError::NoDigest { position, pcr, bank }));
        }
        events.push(event);
    }
    if let Some(pcr) = PcrIndex::new(7) {
        grammar::pcr_events(pcr, &events, bank).map_err(SecureBootError::Grammar)?;
    }
    parse(&events, bank).map_err(SecureBootError::Grammar)
}

/// Reads the state out of the events of PCR 7, whose types and separator already hold.
pub(super) fn parse(events: &[&Event<'_>], bank: HashAlg) -> Result<SecureBootState, GrammarError> {
    if let Some(surplus) = events.get(MAX_EVENTS) {
        return Err(GrammarError::TooManyEvents { position: surplus.position });
    }
    let mut seen = Seen::default();
    for event in events {
        seen.read(event, bank)?;
    }
    seen.finish()
}

/// A variable whose data a digest covers, and where it stands.
struct Measured<'a> {
    position: usize,
    variable: Variable<'a>,
}

/// What the events told so far.
#[derive(Default)]
struct Seen<'a> {
    configured: Vec<Measured<'a>>,
    authorities: Vec<Measured<'a>>,
    others: Vec<OtherEvent>,
}

impl<'a> Seen<'a> {
    fn read(&mut self, event: &Event<'a>, bank: HashAlg) -> Result<(), GrammarError> {
        let position = event.position;
        let typed = TypedEvent::parse(event, bank).map_err(|reason| unreadable(event, bank, reason))?;
        match typed {
            TypedEvent::DriverConfig(data) => {
                let variable = bound(data).ok_or(GrammarError::UnboundVariable { position })?;
                self.configure(Measured { position, variable })
            }
            TypedEvent::Authority(data) => {
                let variable = bound(data).ok_or(GrammarError::UnboundAuthority { position })?;
                self.authorities.push(Measured { position, variable });
                Ok(())
            }
            TypedEvent::Device(data) => {
                let variable = bound(data).ok_or(GrammarError::UnboundVariable { position })?;
                if (variable.guid, variable.name.as_str()) != (Guid::DEVICE_SECURITY_DATABASE, "devdb") {
                    return Err(GrammarError::UnexpectedVariable { position, name: variable.name });
                }
                self.put_aside(event, variable.digest(), variable.name);
                Ok(())
            }
            TypedEvent::Action(data) => {
                let action = bound(data).ok_or(GrammarError::UnboundAction { position })?;
                let told = text::ascii(action).ok_or(GrammarError::UnboundAction { position })?;
                self.put_aside(event, Digest::of(action), told);
                Ok(())
            }
            // The separator was compared before; no other type stands in PCR 7.
            _ => Ok(()),
        }
    }

    fn configure(&mut self, measured: Measured<'a>) -> Result<(), GrammarError> {
        let Measured { position, variable } = &measured;
        let is_same = |other: &Variable<'_>| other.guid == variable.guid && other.name == variable.name;
        if self.configured.iter().any(|other| is_same(&other.variable)) {
            return Err(GrammarError::SecondVariable { position: *position, name: variable.name.clone() });
        }
        self.configured.push(measured);
        Ok(())
    }

    fn put_aside(&mut self, event: &Event<'_>, digest: Digest, text: String) {
        let (position, event_type) = (event.position, event.event_type);
        self.others.push(OtherEvent { position, event_type, text, digest });
    }

    /// Takes a variable out, so that what remains is what nobody asked for.
    fn take(&mut self, guid: Guid, name: &str) -> Option<Measured<'a>> {
        let is_wanted = |it: &Measured<'_>| it.variable.guid == guid && it.variable.name == name;
        let at = self.configured.iter().position(is_wanted)?;
        Some(self.configured.remove(at))
    }

    fn finish(mut self) -> Result<SecureBootState, GrammarError> {
        let flags = self.flags()?;
        let (_, pk) = self.database(Guid::GLOBAL_VARIABLE, "PK")?;
        let (_, kek) = self.database(Guid::GLOBAL_VARIABLE, "KEK")?;
        let (db_contents, db) = self.database(Guid::IMAGE_SECURITY_DATABASE, "db")?;
        let (_, dbx) = self.database(Guid::IMAGE_SECURITY_DATABASE, "dbx")?;
        // Parsed a moment ago, so it parses.
        let entries = parse_database(db_contents.variable.value).unwrap_or_default();
        let mut authorities = Vec::new();
        for Measured { position, variable } in &self.authorities {
            let not_in_db = GrammarError::AuthorityNotInDb { position: *position };
            authorities.push(authority::identify(*position, variable, &entries).ok_or(not_in_db)?);
        }
        let mut others = self.others;
        others.extend(self.configured.iter().map(OtherEvent::from));
        others.sort_by_key(|other| other.position);
        let state = SecureBootState { flags, pk, kek, db, dbx, authorities, others };
        if state.is_enabled() && !state.authorities.iter().any(Authority::is_of_firmware) {
            return Err(GrammarError::NoAuthority);
        }
        Ok(state)
    }

    fn flags(&mut self) -> Result<Flags, GrammarError> {
        let secure_boot = self.flag("SecureBoot")?;
        Ok(Flags {
            secure_boot: secure_boot.ok_or(GrammarError::MissingVariable { name: "SecureBoot" })?,
            setup_mode: self.flag("SetupMode")?,
            audit_mode: self.flag("AuditMode")?,
            deployed_mode: self.flag("DeployedMode")?,
        })
    }

    /// One flag; a flag that does not exist is measured with no data and counts as 0.
    fn flag(&mut self, name: &'static str) -> Result<Option<bool>, GrammarError> {
        let Some(Measured { position, variable }) = self.take(Guid::GLOBAL_VARIABLE, name) else {
            return Ok(None);
        };
        match variable.value {
            [] | [0] => Ok(Some(false)),
            [1] => Ok(Some(true)),
            _ => Err(GrammarError::Flag { position, name: variable.name }),
        }
    }

    fn database(
        &mut self,
        guid: Guid,
        name: &'static str,
    ) -> Result<(Measured<'a>, KeyDatabase), GrammarError> {
        let measured = self.take(guid, name).ok_or(GrammarError::MissingVariable { name })?;
        let position = measured.position;
        match KeyDatabase::parse(position, measured.variable.value) {
            Ok(database) => Ok((measured, database)),
            Err(DatabaseError::Structure(reason)) => Err(GrammarError::Database { position, name, reason }),
            Err(DatabaseError::TooManyCertificates) => {
                Err(GrammarError::TooManyCertificates { position, name })
            }
        }
    }
}

impl From<&Measured<'_>> for OtherEvent {
    fn from(measured: &Measured<'_>) -> Self {
        let Measured { position, variable } = measured;
        Self {
            position: *position,
            event_type: EventType::EFI_VARIABLE_DRIVER_CONFIG,
            text: variable.name.clone(),
            digest: variable.digest(),
        }
    }
}

fn unreadable(event: &Event<'_>, bank: HashAlg, reason: ReadError) -> GrammarError {
    let position = event.position;
    match (Bound::whole(event, bank), event.event_type) {
        (Some(_), _) => GrammarError::Unreadable { position, reason },
        (None, EventType::EFI_VARIABLE_AUTHORITY) => GrammarError::UnboundAuthority { position },
        (None, _) => GrammarError::UnboundVariable { position },
    }
}

fn bound<T>(data: Data<T>) -> Option<T> {
    match data {
        Data::Bound(bound) => Some(bound.into_value()),
        Data::Hint(_) => None,
    }
}
