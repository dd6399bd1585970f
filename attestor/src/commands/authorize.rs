//! `touchstone-attestor authorize`: may this peer open that service? Asks nobody: it reads the state of the device.

use std::path::{Path, PathBuf};

use policy::id::{ServiceName, ZoneName};

use super::{CommandError, Format, system};
use crate::authorize::{Answer, MAX_SHOWN, Question, answer_by, certificate};
use crate::config::Config;
use crate::durable;
use crate::plant::PlantRoot;
use crate::ports::{Clock, FlooredClock, System};
use crate::state::Keeper;
use crate::trust::Direction;

/// What is asked on the command line.
#[derive(Debug, Clone)]
pub struct Asked {
    /// File with the peer's certificate, PEM or DER.
    pub peer_cert: PathBuf,
    /// The service.
    pub service: ServiceName,
    /// The zone of this device; None: of those that have the service the one that it has been in longest.
    pub zone: Option<ZoneName>,
    /// Whether this device opens the peer's service.
    pub outbound: bool,
    /// File with a grant.
    pub grant: Option<PathBuf>,
}

/// The answer as text, and the exit code: 0 if the peer may, 1 if it may not.
pub fn authorize(config: &Path, asked: &Asked, format: Format) -> Result<(String, u8), CommandError> {
    let config = Config::load(config)?;
    let root = PlantRoot::load(&config.plant_root)?;
    let keeper = Keeper::load(&config.state, &config.plant, &root)?;
    let clock = FlooredClock::new(System::default(), keeper.read(|state| state.clock_floor));
    let read = |file: &Path| durable::read_bounded(file, u64::try_from(MAX_SHOWN).unwrap_or(u64::MAX));
    let shown = read(&asked.peer_cert).map_err(system("the peer's certificate"))?;
    let grant = asked.grant.as_deref().map(read).transpose().map_err(system("the grant"))?;
    let question = Question {
        // What is no certificate is refused with that reason.
        certificate: Some(certificate(&shown).unwrap_or(shown)),
        service: asked.service.clone(),
        direction: if asked.outbound { Direction::Outbound } else { Direction::Inbound },
        zone: asked.zone.clone(),
        grant: grant.map(|token| String::from_utf8_lossy(&token).trim().to_owned()),
        grant_required: false,
    };
    let found = answer_by(&keeper, &config.plant, &question, clock.now());
    let code = if found.allowed { 0 } else { 1 };
    Ok((print(&found, format), code))
}

fn print(answer: &Answer, format: Format) -> String {
    match format {
        Format::Text => answer.words(),
        Format::Json => {
            let mut json = serde_json::to_value(answer).unwrap_or_default();
            if let Some(fields) = json.as_object_mut() {
                fields.insert("schema".to_owned(), 1.into());
            }
            format!("{json:#}\n")
        }
    }
}
