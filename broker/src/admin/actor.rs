//! Who may do what: the one table of acts, rights and roles.

use std::sync::Arc;

use policy::time::UnixTime;
use prost::Message;

use super::reach::Scope;
use super::second::Second;
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
    /// The state of a release that is known, by name.
    SetReleaseState,
    /// Which release a product's devices are told to install.
    WantRelease,
    /// A key that may sign releases.
    AddReleaseKey,
    /// Another key in its place.
    RotateReleaseKey,
    /// Ends a key.
    RemoveReleaseKey,
    /// How many keys must sign.
    SetReleaseThreshold,
    /// Moves the wanted release through the devices of a product.
    StartRollout,
    /// Stops that.
    HaltRollout,
    /// Lets it go on.
    ResumeRollout,
    /// Makes the former release wanted again.
    Rollback,
    /// Devices by EK, before they come.
    ImportDevices,
    /// A pending device, or the zones of a known one.
    AdmitDevice,
    /// Stops a device.
    QuarantineDevice,
    /// Ends a quarantine.
    ReadmitDevice,
    /// To another zone, with certificates of both until it has arrived.
    MoveDevice,
    /// Another TPM under the same name.
    ReplaceDevice,
    /// Takes a device out of service.
    RetireDevice,
    /// IP addresses in a device's certificates.
    ChangeAddresses,
    /// A machine behind a gateway.
    SettleVouched,
    /// A TPM is to be cleared.
    ExpectClear,
    /// Accepts for a time what a device is refused for.
    Override,
    /// Accepts it no more.
    EndOverride,
    /// "Attest now".
    AttestDevice,
    /// A join token.
    CreateToken,
    /// Ends a join token before its time.
    RevokeToken,
    /// An SBOM document.
    AddSbom,
    /// Takes one away.
    RemoveSbom,
    /// A zone with its authorities.
    CreateZone,
    /// Opens a conduit.
    AllowConduit,
    /// Closes one.
    CloseConduit,
    /// How a zone is administered.
    SetZone,
    /// All zones and conduits, from one file.
    ApplyGraph,
    /// The next generation of a zone's authorities.
    RotateAuthority,
    /// Lets it sign before its time.
    ActivateAuthority,
    /// Takes a generation out of all trust files.
    DistrustAuthority,
    /// Changes that wait for a second person.
    ReadChanges,
    /// Carries one out.
    ApproveChange,
    /// Drops one.
    RejectChange,
    /// Who administers the plant.
    ReadAdministrators,
    /// A one-time code for another administrator.
    InviteAdministrator,
    /// Ends an administrator.
    RemoveAdministrator,
    /// Another role, other zones.
    SetAdministrator,
    /// A new certificate for one's own key.
    RenewCertificate,
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
        Self::SetReleaseState,
        Self::WantRelease,
        Self::AddReleaseKey,
        Self::RotateReleaseKey,
        Self::RemoveReleaseKey,
        Self::SetReleaseThreshold,
        Self::StartRollout,
        Self::HaltRollout,
        Self::ResumeRollout,
        Self::Rollback,
        Self::ImportDevices,
        Self::AdmitDevice,
        Self::QuarantineDevice,
        Self::ReadmitDevice,
        Self::MoveDevice,
        Self::ReplaceDevice,
        Self::RetireDevice,
        Self::ChangeAddresses,
        Self::SettleVouched,
        Self::ExpectClear,
        Self::Override,
        Self::EndOverride,
        Self::AttestDevice,
        Self::CreateToken,
        Self::RevokeToken,
        Self::AddSbom,
        Self::RemoveSbom,
        Self::CreateZone,
        Self::AllowConduit,
        Self::CloseConduit,
        Self::SetZone,
        Self::ApplyGraph,
        Self::RotateAuthority,
        Self::ActivateAuthority,
        Self::DistrustAuthority,
        Self::ReadChanges,
        Self::ApproveChange,
        Self::RejectChange,
        Self::ReadAdministrators,
        Self::InviteAdministrator,
        Self::RemoveAdministrator,
        Self::SetAdministrator,
        Self::RenewCertificate,
        Self::Backup,
        Self::Restore,
    ];

    /// The least role that may do it. An owner may do everything, and every role reads.
    #[must_use]
    pub const fn needs(self) -> AdminRole {
        match self {
            Self::ReadStatus
            | Self::ReadDevices
            | Self::ReadReleases
            | Self::ReadZones
            | Self::ReadAudit
            | Self::ReadChanges
            | Self::ReadAdministrators
            // One's own, for the same key.
            | Self::RenewCertificate
            // Whoever approves or rejects a change needs what the change itself needs.
            | Self::ApproveChange
            | Self::RejectChange => AdminRole::Viewer,
            Self::LearnRelease
            | Self::ApplyRelease
            | Self::SetReleaseState
            | Self::WantRelease
            | Self::AddSbom
            | Self::RemoveSbom
            | Self::StartRollout
            | Self::HaltRollout
            | Self::ResumeRollout
            | Self::Rollback => AdminRole::Engineer,
            Self::ImportDevices
            | Self::AdmitDevice
            | Self::QuarantineDevice
            | Self::ReadmitDevice
            | Self::MoveDevice
            | Self::ReplaceDevice
            | Self::RetireDevice
            | Self::ChangeAddresses
            | Self::SettleVouched
            | Self::ExpectClear
            | Self::Override
            | Self::EndOverride
            | Self::AttestDevice
            | Self::CreateToken
            | Self::RevokeToken => AdminRole::Operator,
            // Whoever makes releases does not say who may sign them.
            Self::AddReleaseKey
            | Self::RotateReleaseKey
            | Self::RemoveReleaseKey
            | Self::SetReleaseThreshold
            | Self::CreateZone
            | Self::AllowConduit
            | Self::CloseConduit
            | Self::SetZone
            | Self::ApplyGraph
            | Self::RotateAuthority
            | Self::ActivateAuthority
            | Self::DistrustAuthority => AdminRole::Security,
            Self::InviteAdministrator
            | Self::RemoveAdministrator
            | Self::SetAdministrator
            | Self::Backup
            | Self::Restore => AdminRole::Owner,
        }
    }

    /// How many people it needs. Acts of [`Demand::One`] are those that change nothing, and those that must
    /// never wait; each says why.
    #[must_use]
    pub const fn demand(self) -> Demand {
        match self {
            // They change nothing.
            Self::ReadStatus
            | Self::ReadDevices
            | Self::ReadReleases
            | Self::ReadZones
            | Self::ReadAudit
            | Self::ReadChanges
            | Self::ReadAdministrators
            | Self::LearnRelease
            | Self::Backup => Demand::One,
            // Stopping what goes wrong must not wait for anybody.
            Self::HaltRollout => Demand::One,
            // Stopping a machine, and asking it to prove itself, never wait: they only take trust away.
            Self::QuarantineDevice | Self::AttestDevice | Self::EndOverride => Demand::One,
            // Nobody lost by it what they have: another token is made as this one was.
            Self::RevokeToken => Demand::One,
            // A stolen key must not work until somebody else is found.
            Self::DistrustAuthority => Demand::One,
            // It sets golden values aside: who runs the machine asks, who answers for the plant's security agrees.
            Self::Override => Demand::TwoRoles(AdminRole::Security),
            // What a document says counts for a release only if the release's signers stated its digest.
            Self::AddSbom | Self::RemoveSbom => Demand::One,
            // They are the second person, or drop what nobody did yet.
            Self::ApproveChange | Self::RejectChange => Demand::One,
            // Nor does stopping a person, but one owner alone must not become the only one.
            Self::RemoveAdministrator => Demand::OfOwners,
            // For the same person and key.
            Self::RenewCertificate => Demand::One,
            // It comes after a loss, of the records of people too, and takes the key-encryption key of the host.
            Self::Restore => Demand::One,
            Self::ApplyRelease
            | Self::SetReleaseState
            | Self::WantRelease
            | Self::AddReleaseKey
            | Self::RotateReleaseKey
            | Self::RemoveReleaseKey
            | Self::SetReleaseThreshold
            | Self::StartRollout
            | Self::ResumeRollout
            | Self::Rollback
            | Self::ImportDevices
            | Self::AdmitDevice
            | Self::ReadmitDevice
            | Self::MoveDevice
            | Self::ReplaceDevice
            | Self::RetireDevice
            | Self::ChangeAddresses
            | Self::SettleVouched
            | Self::ExpectClear
            | Self::CreateToken
            | Self::CreateZone
            | Self::AllowConduit
            | Self::CloseConduit
            | Self::SetZone
            | Self::ApplyGraph
            | Self::RotateAuthority
            | Self::ActivateAuthority => Demand::ByZone,
            // Otherwise one owner would make the second person themselves.
            Self::InviteAdministrator | Self::SetAdministrator => Demand::ByOwners,
        }
    }

    /// The role of the second person, where there is one.
    #[must_use]
    pub const fn approved_by(self) -> AdminRole {
        self.demand().approver(self.needs())
    }

    /// The act with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|act| act.name() == name)
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
            Self::SetReleaseState => "golden.set-state",
            Self::WantRelease => "golden.want",
            Self::AddReleaseKey => "release-key.add",
            Self::RotateReleaseKey => "release-key.rotate",
            Self::RemoveReleaseKey => "release-key.remove",
            Self::SetReleaseThreshold => "release-key.threshold",
            Self::StartRollout => "rollout.start",
            Self::HaltRollout => "rollout.halt",
            Self::ResumeRollout => "rollout.resume",
            Self::Rollback => "rollout.rollback",
            Self::ImportDevices => "device.import",
            Self::AdmitDevice => "device.admit",
            Self::QuarantineDevice => "device.quarantine",
            Self::ReadmitDevice => "device.readmit",
            Self::MoveDevice => "device.move",
            Self::ReplaceDevice => "device.replace",
            Self::RetireDevice => "device.retire",
            Self::ChangeAddresses => "device.address",
            Self::SettleVouched => "device.vouch",
            Self::ExpectClear => "device.expect-clear",
            Self::Override => "device.override",
            Self::EndOverride => "device.end-override",
            Self::AttestDevice => "device.attest-now",
            Self::CreateToken => "token.create",
            Self::RevokeToken => "token.revoke",
            Self::AddSbom => "sbom.add",
            Self::RemoveSbom => "sbom.remove",
            Self::CreateZone => "zone.create",
            Self::AllowConduit => "conduit.allow",
            Self::CloseConduit => "conduit.close",
            Self::SetZone => "zone.set",
            Self::ApplyGraph => "zone.apply",
            Self::RotateAuthority => "authority.rotate",
            Self::ActivateAuthority => "authority.activate",
            Self::DistrustAuthority => "authority.distrust",
            Self::ReadChanges => "change.read",
            Self::ApproveChange => "change.approve",
            Self::RejectChange => "change.reject",
            Self::ReadAdministrators => "admin.read",
            Self::InviteAdministrator => "admin.invite",
            Self::RemoveAdministrator => "admin.remove",
            Self::SetAdministrator => "admin.role",
            Self::RenewCertificate => "admin.renew",
            Self::Backup => "plant.backup",
            Self::Restore => "plant.restore",
        }
    }
}

/// How many people an act needs. An act that may wait belongs to one RPC alone: its request is kept and
/// carried out later (`grpc::admin::change`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// One, whatever zones say.
    One,
    /// Two where a zone that it touches asks for two, else one.
    ByZone,
    /// The same, and two wherever the plant has two owners.
    ByOwners,
    /// One, whatever zones say, but two for what takes a right from another owner.
    OfOwners,
    /// Two, always.
    Two,
    /// Two of different roles, always: the second has this one.
    TwoRoles(AdminRole),
}

impl Demand {
    /// The role of the second person for an act that needs `role`.
    const fn approver(self, role: AdminRole) -> AdminRole {
        match self {
            Self::TwoRoles(other) => other,
            Self::One | Self::ByZone | Self::ByOwners | Self::OfOwners | Self::Two => role,
        }
    }

    /// Whether zones that are touched are asked.
    pub(super) const fn asks_zones(self) -> bool {
        !matches!(self, Self::One | Self::OfOwners)
    }

    /// Whether it waits, where `asked` says whether a zone that is touched, or the plant, asks for two.
    pub(super) const fn waits(self, asked: bool) -> bool {
        match self {
            // Of which owner is known where it is decided: `Reach::of_owner`.
            Self::One | Self::OfOwners => false,
            Self::ByZone | Self::ByOwners => asked,
            Self::Two | Self::TwoRoles(_) => true,
        }
    }

    /// Whether one role must not do it alone, even with two people.
    pub(super) const fn needs_two_roles(self) -> bool {
        matches!(self, Self::TwoRoles(_))
    }
}

/// An administrator who was allowed one act. Only [`authorize`] makes it; together with a second person,
/// only the approval of a change does.
#[derive(Debug, Clone)]
pub struct Actor {
    name: String,
    act: Act,
    role: AdminRole,
    scope: Scope,
    since: UnixTime,
    not_after: UnixTime,
    request: Arc<[u8]>,
    second: Option<Second>,
}

impl Actor {
    /// The administrator's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What they were allowed.
    #[must_use]
    pub const fn act(&self) -> Act {
        self.act
    }

    /// Their role.
    #[must_use]
    pub const fn role(&self) -> AdminRole {
        self.role
    }

    /// The zones they are limited to.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Since when they are an administrator: another one of this name has another time.
    pub(super) const fn since(&self) -> UnixTime {
        self.since
    }

    /// When the administrator's certificate ends.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The same, with the request that is kept if it has to wait for a second person.
    #[must_use]
    pub fn asking(mut self, request: &impl Message) -> Self {
        if self.act.demand() != Demand::One {
            self.request = request.encode_to_vec().into();
        }
        self
    }

    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }

    /// Whether `name` is one of the people who do this.
    pub(super) fn includes(&self, name: &str) -> bool {
        self.name == name || self.second.as_ref().is_some_and(|second| second.name() == name)
    }

    /// The second person, if there is one.
    pub(super) const fn second(&self) -> Option<&Second> {
        self.second.as_ref()
    }

    /// Who asked for a change, as of today, for the same act again, with whoever approves it.
    pub(super) fn with(asked: &Administrator, act: Act, second: Second) -> Result<Self, Refusal> {
        permitted(&asked.name, asked.role, act, act.needs())?;
        let mut actor = Self::of(asked, act, asked.not_after);
        actor.second = Some(second);
        Ok(actor)
    }

    fn of(record: &Administrator, act: Act, not_after: UnixTime) -> Self {
        Self {
            name: record.name.clone(),
            act,
            role: record.role,
            scope: Scope::of(record),
            since: record.created,
            not_after,
            request: Arc::from([]),
            second: None,
        }
    }
}

/// Allows `role` an act that needs `needed`. Everybody reads, and an owner may do everything.
pub(super) fn permitted(name: &str, role: AdminRole, act: Act, needed: AdminRole) -> Result<(), Refusal> {
    if matches!(needed, AdminRole::Viewer) || role == needed || role == AdminRole::Owner {
        return Ok(());
    }
    Err(Refusal::NotPermitted(format!(
        "{} needs the role {}; {name} has the role {}",
        act.name(),
        needed.name(),
        role.name()
    )))
}

/// Allows `peer` one act, if their record stands, names their key, and their role reaches that far. How far
/// they reach among zones is decided where the zones are known: [`Actor::reach`].
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
    permitted(&record.name, record.role, act, act.needs())?;
    Ok(Actor::of(&record, act, peer.not_after))
}
