//! The identity that the manufacturer gave the device (IDevID, IEEE 802.1AR), and how the device proves it.
//!
//! Promises: certificate and key are read once, at the start, and a key in a file is the certificate's; it signs nothing
//! but what is made of a challenge and the device's own statement.
//! Does not promise that the broker believes the manufacturer.

mod file_key;

use std::io;
use std::path::{Path, PathBuf};

use policy::evidence::devid::{self, Described, DevIdError};
use policy::evidence::{Purpose, qualifying_data};
use proto::v1;
use zeroize::Zeroizing;

use self::file_key::FileKey;
pub use self::file_key::FileKeyError;
use crate::config::{IdevIdFiles, IdevIdKey};
use crate::durable;
use crate::tpm::{ManufacturerKey, TpmError, TpmHandle};
use crate::tss2_key::{self, ParseKeyError};

/// Longest file in bytes: a certificate with all that is between it and its root, RSA-4096 throughout, has 20 KiB.
const MAX_FILE: u64 = 64 * 1024;
/// Most certificates between that of the device and the root: the broker reads no more.
const MAX_BETWEEN: usize = 8;

/// The device's IDevID cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdevIdError {
    /// A file of it.
    #[error("{key}: {} cannot be read: {source}; correct the path or its permissions", file.display())]
    File {
        /// What the configuration calls it.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The certificate is none.
    #[error("idevid.certificate: {} holds no IDevID certificate; name the file that the manufacturer provides", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<DevIdError>,
    },
    /// More certificates than any chain has.
    #[error("{key}: {} holds more than {MAX_BETWEEN} certificates besides the device's; leave those up to the root", file.display())]
    TooMany {
        /// What the configuration calls it.
        key: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// The key's file is neither form.
    #[error("idevid.key: {} cannot be used; name a PKCS#8 file in PEM, a TSS2 PRIVATE KEY file or a persistent handle", file.display())]
    KeyFile {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: FileKeyError,
    },
    /// A TSS2 key file that cannot be used.
    #[error("idevid.key: {} cannot be used", file.display())]
    Tss2 {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: ParseKeyError,
    },
    /// The key needs a TPM.
    #[error("idevid.key: {} is a key in a TPM, and tpm is \"none\"; name the device's TPM", file.display())]
    NeedsTpm {
        /// The file.
        file: PathBuf,
    },
    /// Key and certificate are of different devices.
    #[error("idevid.key is not the key of idevid.certificate; name those of the same device")]
    OtherKey,
    /// The TPM does not sign with it.
    #[error("the IDevID key cannot be used: {0}")]
    Tpm(#[source] Box<TpmError>),
    /// The file's key does not sign.
    #[error("the IDevID key cannot be used")]
    Sign(#[source] FileKeyError),
}

#[derive(Debug)]
enum Key {
    File(FileKey),
    Tpm(ManufacturerKey),
}

/// The device's IDevID.
#[derive(Debug)]
pub struct IdevId {
    certificate: Vec<u8>,
    between: Vec<Vec<u8>>,
    iak_certificate: Vec<u8>,
    key: Key,
    described: Described,
}

impl IdevId {
    /// Reads what `files` names; `tpm`: the device has one.
    pub fn load(files: &IdevIdFiles, tpm: bool) -> Result<Self, IdevIdError> {
        let file = &files.certificate;
        let mut certificates = certificates("idevid.certificate", file)?.into_iter();
        let certificate = certificates.next().unwrap_or_default();
        let described = devid::describe(&certificate)
            .map_err(|source| IdevIdError::Certificate { file: file.clone(), source: Box::new(source) })?;
        let key = key(&files.key, tpm)?;
        if let Key::File(key) = &key
            && key.digest() != described.key
        {
            return Err(IdevIdError::OtherKey);
        }
        let mut between: Vec<Vec<u8>> = certificates.collect();
        let iak_certificate = match &files.iak_certificate {
            Some(file) => {
                let mut iak = certificates_of_iak(file)?;
                between.extend(iak.split_off(1));
                iak.pop().unwrap_or_default()
            }
            None => Vec::new(),
        };
        between.dedup();
        if between.len() > MAX_BETWEEN {
            return Err(IdevIdError::TooMany { key: "idevid", file: file.clone() });
        }
        Ok(Self { certificate, between, iak_certificate, key, described })
    }

    /// What the certificate says.
    #[must_use]
    pub const fn described(&self) -> &Described {
        &self.described
    }

    /// Whether the key is in a file that can be copied.
    #[must_use]
    pub const fn is_in_file(&self) -> bool {
        matches!(self.key, Key::File(_))
    }

    /// The proof for this challenge and statement.
    pub async fn prove(
        &self,
        tpm: Option<&TpmHandle>,
        sealed: &[u8],
        statement: &[u8],
    ) -> Result<v1::ManufacturerIdentity, IdevIdError> {
        let to_sign = qualifying_data(Purpose::DeviceIdentity, sealed, statement);
        let identity = v1::ManufacturerIdentity {
            certificate: self.certificate.clone(),
            chain: self.between.clone(),
            iak_certificate: self.iak_certificate.clone(),
            ..v1::ManufacturerIdentity::default()
        };
        let (key, tpm) = match (&self.key, tpm) {
            (Key::Tpm(key), Some(tpm)) => (key.clone(), tpm),
            (Key::File(key), _) => {
                let signature = key.sign(&to_sign).map_err(IdevIdError::Sign)?;
                return Ok(v1::ManufacturerIdentity { signature, ..identity });
            }
            (Key::Tpm(_), None) => return Err(IdevIdError::OtherKey),
        };
        let to_certify = qualifying_data(Purpose::Certify, sealed, statement);
        let signed = tpm.sign_as_manufacturer(key, to_sign.to_vec(), to_certify.to_vec()).await;
        let signed = signed.map_err(|error| IdevIdError::Tpm(Box::new(error)))?;
        let certification = signed.certification.map(|said| (said.attest, said.signature));
        let (certify, certify_signature) = certification.unwrap_or_default();
        Ok(v1::ManufacturerIdentity {
            signature: signed.signature,
            public: signed.public,
            certify,
            certify_signature,
            ..identity
        })
    }
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, IdevIdError> {
    let fail = |source| IdevIdError::File { key, file: file.to_owned(), source };
    durable::read_bounded(file, MAX_FILE).map_err(fail)
}

/// The certificates in a PEM bundle, or the one in DER.
fn certificates(key: &'static str, file: &Path) -> Result<Vec<Vec<u8>>, IdevIdError> {
    let bytes = read(key, file)?;
    let found = pem::parse_many(&bytes).unwrap_or_default();
    let found: Vec<Vec<u8>> =
        found.into_iter().filter(|pem| pem.tag() == "CERTIFICATE").map(pem::Pem::into_contents).collect();
    if found.len() > MAX_BETWEEN {
        return Err(IdevIdError::TooMany { key, file: file.to_owned() });
    }
    Ok(if found.is_empty() { vec![bytes] } else { found })
}

/// The certificate of the attestation key, and what is between it and the root.
fn certificates_of_iak(file: &Path) -> Result<Vec<Vec<u8>>, IdevIdError> {
    certificates("idevid.iak_certificate", file)
}

fn key(key: &IdevIdKey, tpm: bool) -> Result<Key, IdevIdError> {
    let file = match key {
        IdevIdKey::Handle(handle) => return Ok(Key::Tpm(ManufacturerKey::Persistent(*handle))),
        IdevIdKey::File(file) => file,
    };
    let text = Zeroizing::new(read("idevid.key", file)?);
    let found = pem::parse(text.as_slice());
    if found.as_ref().is_ok_and(|pem| pem.tag() == tss2_key::LABEL) {
        if !tpm {
            return Err(IdevIdError::NeedsTpm { file: file.clone() });
        }
        let text = String::from_utf8_lossy(&text);
        return tss2_key::parse_any(&text)
            .map(Key::Tpm)
            .map_err(|source| IdevIdError::Tss2 { file: file.clone(), source });
    }
    let der = Zeroizing::new(found.map(pem::Pem::into_contents).unwrap_or_default());
    FileKey::parse(&der).map(Key::File).map_err(|source| IdevIdError::KeyFile { file: file.clone(), source })
}
