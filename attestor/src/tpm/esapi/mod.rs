//! The port on tss-esapi and libtss2. No other module imports that library.
//!
//! On a software TPM the context is opened for each batch, because swtpm serves one connection at a time. libtss2
//! 3.2.1 even connects anew for each command, so other programs may get in between two commands of a batch:
//! nothing here relies on being alone, and full object slots are waited for. A device stays open. After any failed
//! verb the context is dropped, which flushes whatever the verb left behind, and the next verb opens a new one.

mod attestation;
mod endorsement;
mod fault;
mod identity;
mod manufacturer;

use std::{fmt, fs::OpenOptions, io, net::TcpStream, str::FromStr, thread, time::Duration};

use tss_esapi::{
    Context, TctiNameConf,
    constants::CapabilityType,
    handles::KeyHandle,
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{CapabilityData, Public},
    traits::UnMarshall,
};

use super::{
    Attestation, Credential, EkTemplate, Endorsement, IdentityKeyBlob, ManufacturerKey,
    ManufacturerSignature, Operation, PcrBank, PcrIndex, PcrSelection, PcrValue, Secret, Tpm, TpmAddress,
    TpmError, TpmFault,
};

/// How long to wait for a software TPM when finding out why it did not answer.
const PROBE: Duration = Duration::from_secs(1);
/// How often a verb is tried while the object slots are full, three seconds in all: without a resource manager (swtpm)
/// three slots are shared with every other program, and one that is short of processor time keeps its own for long.
const SLOT_ATTEMPTS: u32 = 150;
/// Pause between two such attempts.
const SLOT_PAUSE: Duration = Duration::from_millis(20);
/// Handles asked for in one TPM2_GetCapability: what fits one answer (MAX_CAP_HANDLES).
const MAX_HANDLES: u32 = 254;

/// The TPM behind libtss2.
pub struct EsapiTpm {
    address: TpmAddress,
    /// The address in the library's form, made once: the library compiles regular expressions for it, which
    /// takes longer than a signature.
    tcti: tss_esapi::Result<TctiNameConf>,
    context: Option<Context>,
}

impl EsapiTpm {
    /// Opens nothing yet: the first verb does.
    pub fn new(address: TpmAddress) -> Self {
        let tcti = TctiNameConf::from_str(&address.to_string());
        Self { address, tcti, context: None }
    }

    fn run<T>(
        &mut self,
        operation: Operation,
        verb: impl Fn(&mut Context) -> Result<T, TpmFault>,
    ) -> Result<T, TpmError> {
        let opened = self.context.take().map_or_else(|| self.open(), Ok);
        let mut context = opened.map_err(|fault| operation.failed(fault))?;
        let value = until_slots_free(|| verb(&mut context)).map_err(|fault| operation.failed(fault))?;
        self.context = Some(context);
        Ok(value)
    }

    fn open(&self) -> Result<Context, TpmFault> {
        Context::new(self.tcti.clone()?)
            .map_err(|error| diagnose(&self.address).unwrap_or_else(|| error.into()))
    }
}

impl Tpm for EsapiTpm {
    fn endorsement(&mut self) -> Result<Endorsement, TpmError> {
        self.run(Operation::ReadEndorsement, endorsement::read)
    }

    fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
        self.run(Operation::DeriveAttestationKey, attestation::public_area)
    }

    fn activate(&mut self, endorsement_key: EkTemplate, credential: &Credential) -> Result<Secret, TpmError> {
        self.run(Operation::ActivateCredential, |context| {
            endorsement::activate(context, endorsement_key, credential)
        })
    }

    fn read_pcrs(&mut self, bank: PcrBank, selection: PcrSelection) -> Result<Vec<PcrValue>, TpmError> {
        self.run(Operation::ReadPcrs, |context| attestation::read_pcrs(context, bank, selection))
    }

    fn extend(&mut self, pcr: PcrIndex, bank: PcrBank, digest: &[u8]) -> Result<(), TpmError> {
        self.run(Operation::ExtendPcr, |context| attestation::extend(context, pcr, bank, digest))
    }

    fn quote(
        &mut self,
        qualifying_data: &[u8],
        bank: PcrBank,
        selection: PcrSelection,
    ) -> Result<Attestation, TpmError> {
        self.run(Operation::Quote, |context| attestation::quote(context, qualifying_data, bank, selection))
    }

    fn create_identity_key(&mut self) -> Result<IdentityKeyBlob, TpmError> {
        self.run(Operation::CreateIdentityKey, identity::create)
    }

    fn certify(&mut self, key: &IdentityKeyBlob, qualifying_data: &[u8]) -> Result<Attestation, TpmError> {
        self.run(Operation::CertifyIdentityKey, |context| {
            identity::with_key(context, key, |context, key| {
                attestation::certify(context, key, qualifying_data)
            })
        })
    }

    fn sign_digest(&mut self, key: &IdentityKeyBlob, digest: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
        self.run(Operation::SignDigest, |context| {
            identity::with_key(context, key, |context, key| identity::sign(context, key, digest))
        })
    }

    fn sign_as_manufacturer(
        &mut self,
        key: &ManufacturerKey,
        message: &[u8],
        qualifying_data: &[u8],
    ) -> Result<ManufacturerSignature, TpmError> {
        self.run(Operation::SignAsManufacturer, |context| {
            manufacturer::sign(context, key, message, qualifying_data)
        })
    }

    fn release(&mut self) {
        if let TpmAddress::Swtpm(_) = self.address {
            self.context = None;
        }
    }
}

impl fmt::Debug for EsapiTpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EsapiTpm {{ address: {}, open: {} }}", self.address, self.context.is_some())
    }
}

fn until_slots_free<T>(mut verb: impl FnMut() -> Result<T, TpmFault>) -> Result<T, TpmFault> {
    for _ in 1..SLOT_ATTEMPTS {
        match verb() {
            Err(TpmFault::SlotsFull { .. }) => thread::sleep(SLOT_PAUSE),
            result => return result,
        }
    }
    verb()
}

/// libtss2 has one code for every reason why a TPM cannot be opened: ask the system for the real one.
fn diagnose(address: &TpmAddress) -> Option<TpmFault> {
    match address {
        TpmAddress::Device(path) => {
            let source = OpenOptions::new().read(true).write(true).open(path).err()?;
            let path = path.clone();
            Some(match source.kind() {
                io::ErrorKind::NotFound => TpmFault::DeviceMissing { path },
                io::ErrorKind::PermissionDenied => TpmFault::DevicePermission { path },
                io::ErrorKind::ResourceBusy => TpmFault::DeviceBusy { path },
                _ => TpmFault::DeviceUnusable { path, source },
            })
        }
        &TpmAddress::Swtpm(socket) => {
            let source = TcpStream::connect_timeout(&socket, PROBE).err()?;
            Some(TpmFault::SwtpmUnreachable { socket, source })
        }
    }
}

/// Runs commands with the empty password: a Password session costs a quarter of an unsalted HMAC session.
fn authorized<T>(
    context: &mut Context,
    command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
) -> tss_esapi::Result<T> {
    context.execute_with_session(Some(AuthSession::Password), command)
}

/// Lends a transient key to `work` and flushes it afterwards, also when the work failed.
fn with_transient<T>(
    context: &mut Context,
    key: KeyHandle,
    work: impl FnOnce(&mut Context, KeyHandle) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    let result = work(context, key);
    let flushed = context.flush_context(key.into());
    let value = result?;
    flushed?;
    Ok(value)
}

/// Makes a primary key from a template (TPMT_PUBLIC) and lends it, with its public area, to `work`.
fn with_primary<T>(
    context: &mut Context,
    hierarchy: Hierarchy,
    template: &[u8],
    work: impl FnOnce(&mut Context, KeyHandle, Public) -> Result<T, TpmFault>,
) -> Result<T, TpmFault> {
    let template = Public::unmarshall(template)?;
    let primary =
        authorized(context, |context| context.create_primary(hierarchy, template, None, None, None, None))?;
    with_transient(context, primary.key_handle, |context, key| work(context, key, primary.out_public))
}

/// The handles in use from `first` on, ascending.
fn handles_from(context: &mut Context, first: u32) -> Result<Vec<u32>, TpmFault> {
    match context.get_capability(CapabilityType::Handles, first, MAX_HANDLES)? {
        (CapabilityData::Handles(handles), _) => Ok(handles.iter().copied().map(u32::from).collect()),
        _ => Err(TpmFault::UnexpectedAnswer { what: "capability" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str) -> TpmFault {
        let mut tpm = EsapiTpm::new(address.parse().unwrap());
        tpm.attestation_key().unwrap_err().fault
    }

    #[test]
    fn a_missing_device_is_named() {
        assert!(matches!(refusal("device:/nonexistent/tpmrm0"), TpmFault::DeviceMissing { .. }));
    }

    #[test]
    fn a_silent_software_tpm_is_named() {
        // Port 1 of the loopback device: nothing listens on tcpmux today.
        assert!(matches!(refusal("swtpm:host=127.0.0.1,port=1"), TpmFault::SwtpmUnreachable { .. }));
    }

    #[test]
    fn full_slots_are_waited_for_and_other_faults_are_not() {
        let mut answers = vec![Ok(5), Err(TpmFault::Lockout), Err(TpmFault::SlotsFull { code: 0x902 })];
        let mut next = || answers.pop().unwrap();
        assert!(matches!(until_slots_free(&mut next), Err(TpmFault::Lockout)));
        assert!(matches!(until_slots_free(&mut next), Ok(5)));
    }
}
