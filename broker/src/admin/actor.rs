//! Who may do what: the one table of acts, rights and roles.

use policy::time::UnixTime;

use crate::audit::Event;
use crate::grpc::peer::AdministratorPeer;
use crate::plant::Plant;
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;

/// Longest administrator name that is looked up: a certificate's common name has at most 64 bytes (X.520).
const MAX_NAME: usize = 64;

/// Everything that an administrator can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The morning page.
    ReadStatus,
    /// Devices.
    ReadDevices,
    /// Golden releases.
    ReadReleases,
    /// Zones, conduits, authorities.
    ReadZones,
    /// The audit chain.
    ReadAudit,
    /// A draft of a release from reference devices.
    LearnRelease,
    /// A release's state.
    ApplyRelease,
    /// Which release a product's devices are told to install.
    WantRelease,
    /// Devices by EK, before they come.
    ImportDevices,
    /// A pending device, or the zones of a known one.
    AdmitDevice,
    /// Stops a device.
    QuarantineDevice,
    /// Ends a quarantine.
    ReadmitDevice,
    /// "Attest now".
    AttestDevice,
    /// A join token.
    CreateToken,
    /// A zone with its authorities.
    CreateZone,
    /// Opens a conduit.
    AllowConduit,
    /// Closes one.
    CloseConduit,
    /// The whole state as a file.
    Backup,
    /// The whole state from a file.
    Restore,
}

impl Act {
    /// Every act.
    pub const ALL: &[Self] = &[
        Self::ReadStatus,
        Self::ReadDevices,
        Self::ReadReleases,
        Self::ReadZones,
        Self::ReadAudit,
        Self::LearnRelease,
        Self::ApplyRelease,
        Self::WantRelease,
        Self::ImportDevices,
        Self::AdmitDevice,
        Self::QuarantineDevice,
        Self::ReadmitDevice,
        Self::AttestDevice,
        Self::CreateToken,
        Self::CreateZone,
        Self::AllowConduit,
        Self::CloseConduit,
        Self::Backup,
        Self::Restore,
    ];

    /// The least role that may do it. An owner may do everything, and every role reads.
    #[must_use]
    pub const fn needs(self) -> AdminRole {
        match self {
            Self::ReadStatus | Self::ReadDevices | Self::ReadReleases | Self::ReadZones | Self::ReadAudit => {
                AdminRole::Viewer
            }
            Self::LearnRelease | Self::ApplyRelease | Self::WantRelease => AdminRole::Engineer,
            Self::ImportDevices
            | Self::AdmitDevice
            | Self::QuarantineDevice
            | Self::ReadmitDevice
            | Self::AttestDevice
            | Self::CreateToken => AdminRole::Operator,
            Self::CreateZone | Self::AllowConduit | Self::CloseConduit => AdminRole::Security,
            Self::Backup | Self::Restore => AdminRole::Owner,
        }
    }

    /// Object and verb, as the audit chain and refusals name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadStatus => "status.read",
            Self::ReadDevices => "device.read",
            Self::ReadReleases => "golden.read",
            Self::ReadZones => "zone.read",
            Self::ReadAudit => "audit.read",
            Self::LearnRelease => "golden.learn",
            Self::ApplyRelease => "golden.apply",
            Self::WantRelease => "golden.want",
            Self::ImportDevices => "device.import",
            Self::AdmitDevice => "device.admit",
            Self::QuarantineDevice => "device.quarantine",
            Self::ReadmitDevice => "device.readmit",
            Self::AttestDevice => "device.attest-now",
            Self::CreateToken => "token.create",
            Self::CreateZone => "zone.create",
            Self::AllowConduit => "conduit.allow",
            Self::CloseConduit => "conduit.close",
            Self::Backup => "plant.backup",
            Self::Restore => "plant.restore",
        }
    }
}

const fn role_name(role: AdminRole) -> &'static str {
    match role {
        AdminRole::Viewer => "viewer",
        AdminRole::Engineer => "engineer",
        AdminRole::Operator => "operator",
        AdminRole::Security => "security",
        AdminRole::Owner => "owner",
    }
}

/// An administrator who was allowed one act. Only [`authorize`] makes it.
#[derive(Debug, Clone)]
pub struct Actor {
    name: String,
    act: Act,
    not_after: UnixTime,
}

impl Actor {
    /// The administrator's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the administrator's certificate ends.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The event that records the act.
    #[must_use]
    pub fn event(&self, now: UnixTime, subject: &str, text: &str) -> Event {
        Event::new(now, &self.name, self.act.name(), subject, text)
    }
}

/// Allows `peer` one act, if their record stands, names their key, and their role reaches that far.
pub async fn authorize(plant: &Plant, peer: &AdministratorPeer, act: Act) -> Result<Actor, Refusal> {
    let unknown = || {
        Refusal::NotPermitted(
            "this administrator certificate is not, or no longer, registered; ask an owner for a new one"
                .to_owned(),
        )
    };
    // A name that no store key can hold was never registered.
    if peer.name.len() > MAX_NAME || !peer.name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unknown());
    }
    let held: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(&peer.name)).await?;
    let record = held.map(|held| held.record).filter(|known| known.spki == peer.spki).ok_or_else(unknown)?;
    let needed = act.needs();
    let reaches =
        matches!(needed, AdminRole::Viewer) || record.role == needed || record.role == AdminRole::Owner;
    if !reaches {
        return Err(Refusal::NotPermitted(format!(
            "{} needs the role {}; {} has the role {}",
            act.name(),
            role_name(needed),
            record.name,
            role_name(record.role)
        )));
    }
    Ok(Actor { name: record.name, act, not_after: peer.not_after })
}
