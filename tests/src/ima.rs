//! Linux IMA on a device: extends PCR 10 and keeps the list, as the kernel does with template `ima-ng`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use attestor::tpm::{EsapiTpm, PcrBank, PcrIndex, PcrSelection, Tpm, TpmAddress};
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

/// TPM2_PCR_Extend without the TPM library, which opens a connection for each command: a host has some ten thousand of
/// those a minute (TPM 2.0, part 3, 22.2; an empty authorization by password).
fn extend_at_once(tpm: &mut TcpStream, digest: &HashValue) {
    const HEAD: [u8; 33] = [
        0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, // sessions, length, command
        0, 0, 0, PCR, // handle
        0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, // authorization
        0, 0, 0, 1, 0x00, 0x0b, // one digest, SHA-256
    ];
    tpm.write_all(&[&HEAD[..], digest.as_bytes()].concat()).expect("the TPM listens");
    let mut head = [0; 10];
    tpm.read_exact(&mut head).expect("the TPM answers");
    assert_eq!(head[6..], [0; 4], "TPM2_PCR_Extend failed");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - head.len()];
    tpm.read_exact(&mut rest).expect("the TPM answers");
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

    /// Starts programs until the list has this many records.
    pub fn execute_many(&self, records: usize) {
        let mut list = self.ima_list();
        let TpmAddress::Swtpm(address) = self.tpm() else { panic!("a software TPM") };
        let mut tpm = TcpStream::connect(address).expect("the TPM listens");
        for record_number in 1..records {
            let name = format!("/usr/lib/python3/dist-packages/module_{record_number:06}.py");
            let data = data(&name, &digest_of(&name));
            list.extend(record(&data));
            extend_at_once(&mut tpm, &HashAlg::Sha256.hash(&[&data]));
        }
        self.set_ima_list(&list);
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
