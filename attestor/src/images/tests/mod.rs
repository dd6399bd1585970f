//! Images on a TPM in memory, which fails when it is told to.

mod ledger;
mod rounds;
mod stamps;
mod walk;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use policy::digest::Digest;
use policy::eventlog::image::recovery::Recovery;
use policy::eventlog::image::{ImageKind, ImageLog, ImageMeasurement};
use policy::tpm::alg::{HashAlg, HashValue};

use crate::tpm::{
    Attestation, Credential, EkTemplate, Endorsement, IdentityKeyBlob, ManufacturerKey,
    ManufacturerSignature, Operation, PcrBank, PcrIndex, PcrSelection, PcrValue, Secret, Tpm, TpmError,
    TpmFault, TpmHandle,
};

/// How an extension goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The TPM did nothing.
    Before,
    /// It did it, and the answer was lost.
    After,
}

/// PCR 13 in two banks.
#[derive(Debug, Clone)]
struct Pcr {
    values: Arc<Mutex<[HashValue; 2]>>,
    faults: Arc<Mutex<VecDeque<Option<Fault>>>>,
}

impl Pcr {
    fn new() -> Self {
        let zero = |bank| HashValue::repeated(bank, 0);
        let values = [HashAlg::Sha256, HashAlg::Sha384].map(zero);
        Self { values: Arc::new(Mutex::new(values)), faults: Arc::default() }
    }

    fn start(&self) -> TpmHandle {
        TpmHandle::start(self.clone()).unwrap()
    }

    fn fail(&self, plan: impl IntoIterator<Item = Option<Fault>>) {
        self.faults.lock().unwrap().extend(plan);
    }

    /// Whether a Verifier would find every entry of `log` in the PCR, and nothing else.
    fn assert_explained(&self, log: &[u8]) -> Vec<ImageMeasurement> {
        let log = ImageLog::parse(log).unwrap();
        let values = *self.values.lock().unwrap();
        assert_eq!(log.recovery(&values), Ok(Recovery::Extend(Vec::new())));
        log.entries().iter().map(|entry| entry.image.clone()).collect()
    }
}

impl Tpm for Pcr {
    fn read_pcrs(&mut self, bank: PcrBank, selection: PcrSelection) -> Result<Vec<PcrValue>, TpmError> {
        let values = *self.values.lock().unwrap();
        let value = values.iter().find(|value| value.alg().name() == bank.to_string());
        let value = value.ok_or_else(|| Operation::ReadPcrs.failed(TpmFault::BankMissing { bank }))?;
        Ok(selection.iter().map(|index| PcrValue { index, digest: value.as_bytes().to_vec() }).collect())
    }

    fn extend(&mut self, pcr: PcrIndex, bank: PcrBank, digest: &[u8]) -> Result<(), TpmError> {
        assert_eq!(u8::from(pcr), 13);
        let fault = self.faults.lock().unwrap().pop_front().flatten();
        if fault != Some(Fault::Before) {
            let mut values = self.values.lock().unwrap();
            let value = values.iter_mut().find(|value| value.alg().name() == bank.to_string()).unwrap();
            *value = value.extend(digest);
        }
        fault.map_or(Ok(()), |_| Err(Operation::ExtendPcr.failed(TpmFault::Lockout)))
    }

    fn release(&mut self) {}

    fn endorsement(&mut self) -> Result<Endorsement, TpmError> {
        unreachable!("measuring needs no keys")
    }

    fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
        unreachable!("measuring needs no keys")
    }

    fn activate(&mut self, _: EkTemplate, _: &Credential) -> Result<Secret, TpmError> {
        unreachable!("measuring needs no keys")
    }

    fn quote(&mut self, _: &[u8], _: PcrBank, _: PcrSelection) -> Result<Attestation, TpmError> {
        unreachable!("measuring needs no quote")
    }

    fn create_identity_key(&mut self) -> Result<IdentityKeyBlob, TpmError> {
        unreachable!("measuring needs no keys")
    }

    fn certify(&mut self, _: &IdentityKeyBlob, _: &[u8]) -> Result<Attestation, TpmError> {
        unreachable!("measuring needs no keys")
    }

    fn sign_digest(&mut self, _: &IdentityKeyBlob, _: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
        unreachable!("measuring needs no keys")
    }

    fn sign_as_manufacturer(
        &mut self,
        _: &ManufacturerKey,
        _: &[u8],
        _: &[u8],
    ) -> Result<ManufacturerSignature, TpmError> {
        unreachable!("measuring needs no keys")
    }
}

fn image(path: &str, content: &str) -> ImageMeasurement {
    let (digest, size) = (Digest::of(content.as_bytes()), u64::try_from(content.len()).unwrap());
    ImageMeasurement { kind: ImageKind::File, path: path.to_owned(), digest, size }
}
