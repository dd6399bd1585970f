//! Linux IMA on a device: extends PCR 10 and keeps the list, as the kernel does with template `ima-ng`.

use std::fs;

use attestor::tpm::{EsapiTpm, PcrBank, PcrIndex, PcrSelection, Tpm};
use policy::tpm::alg::{HashAlg, HashValue};

use crate::Device;

/// The PCR that IMA extends.
const PCR: u8 = 10;

/// SHA-256 of a file's content.
pub fn digest_of(content: &str) -> HashValue {
    HashAlg::Sha256.hash(&[content.as_bytes()])
}

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("records are short").to_le_bytes()
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&number(bytes.len())[..], bytes].concat()
}

/// Template data: digest and name.
fn data(name: &str, digest: &HashValue) -> Vec<u8> {
    let digest = [b"sha256:\0", digest.as_bytes()].concat();
    [field(&digest), field(format!("{name}\0").as_bytes())].concat()
}

fn record(data: &[u8]) -> Vec<u8> {
    let digest = HashAlg::Sha1.hash(&[data]);
    [&u32::from(PCR).to_le_bytes()[..], digest.as_bytes(), &field(b"ima-ng"), &field(data)].concat()
}

impl Device {
    /// Starts IMA after the firmware's measurements: a list with the boot aggregate, and nothing after it.
    pub fn start_ima(&self) {
        let mut tpm = EsapiTpm::new(self.tpm());
        let booted: PcrSelection =
            (0..10).map(|pcr| PcrIndex::try_from(pcr).expect("a PCR of the boot")).collect();
        let values = tpm.read_pcrs(PcrBank::Sha256, booted).expect("the TPM tells its PCRs");
        tpm.release();
        let values: Vec<&[u8]> = values.iter().map(|value| value.digest.as_slice()).collect();
        self.set_ima_list(&[]);
        self.extend_ima("boot_aggregate", &HashAlg::Sha256.hash(&values));
    }

    /// Starts a program.
    pub fn execute(&self, path: &str, content: &str) {
        self.extend_ima(path, &digest_of(content));
    }

    /// Starts programs of `folder` until the list has this many bytes; gives the number of its records. Each is a connection
    /// to the TPM, of which the host has some ten thousand a minute.
    pub fn execute_many(&self, folder: &str, bytes: usize) -> usize {
        let mut list = self.ima_list();
        let mut tpm = EsapiTpm::new(self.tpm());
        let pcr = PcrIndex::try_from(PCR).expect("a TPM has 24 PCRs");
        let mut records = 1;
        while list.len() < bytes {
            let name = format!("{folder}/module_{records:06}.py");
            let data = data(&name, &digest_of(&name));
            list.extend(record(&data));
            let extended = HashAlg::Sha256.hash(&[&data]);
            tpm.extend(pcr, PcrBank::Sha256, extended.as_bytes()).expect("the TPM extends");
            records += 1;
        }
        tpm.release();
        self.set_ima_list(&list);
        records
    }

    /// The list.
    pub fn ima_list(&self) -> Vec<u8> {
        fs::read(self.path("ima.bin")).expect("IMA was started")
    }

    /// Puts another list in its place; the TPM stays as it is.
    pub fn set_ima_list(&self, list: &[u8]) {
        fs::write(self.path("ima.bin"), list).expect("a file in the device's folder");
    }

    /// The list first, then the PCR: a quote in between covers less than the list.
    fn extend_ima(&self, name: &str, digest: &HashValue) {
        let data = data(name, digest);
        let mut list = self.ima_list();
        list.extend(record(&data));
        self.set_ima_list(&list);
        let mut tpm = EsapiTpm::new(self.tpm());
        let pcr = PcrIndex::try_from(PCR).expect("a TPM has 24 PCRs");
        let extended = HashAlg::Sha256.hash(&[&data]);
        tpm.extend(pcr, PcrBank::Sha256, extended.as_bytes()).expect("the TPM extends");
        tpm.release();
    }
}
