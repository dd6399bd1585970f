//! Who may become a device: TPMs that wait for an administrator, and join tokens.

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::record::Bytes;
use crate::record::person::{self, Person};
use crate::store::record::Record;

/// Prefix of TPMs that wait for an administrator.
pub const PENDING: &str = "pending/";
/// Prefix of join tokens.
pub const TOKEN: &str = "token/";

/// A TPM that proved itself and waits for an administrator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    /// Digest of its EK.
    pub ek: Digest,
    /// The name it asks for.
    pub name: Option<DeviceName>,
    /// The zones it asks for.
    pub zones: Vec<ZoneName>,
    /// What its TPM is, for people.
    pub tpm: String,
    /// When it first asked.
    pub since: UnixTime,
}

impl Record for Pending {
    const VERSION: u32 = 1;
    const KIND: &'static str = "pending device";
}

/// A one-time join token. The proof is an HMAC under the secret, so the secret itself is needed; it is
/// stored wrapped, never hashed and never in clear.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// The secret under the KEK.
    pub wrapped_secret: Bytes,
    /// Zones it admits to.
    pub zones: Vec<ZoneName>,
    /// Only this TPM may use it.
    pub ek: Option<Digest>,
    /// Name that the device gets.
    pub device: Option<DeviceName>,
    /// When it ends.
    pub expires: UnixTime,
    /// Who made it.
    pub by: String,
    /// That person as an administrator, and who approved it, if two were needed. Not known of older records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<Person>,
    /// Plant epoch it was made in: a restore voids it.
    pub epoch: u64,
    /// When it was made.
    #[serde(default)]
    pub made: UnixTime,
    /// It is for a device without a TPM, and for no other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_tpm: bool,
}

impl Token {
    /// Everybody who stands for it, who asked for it first.
    #[must_use]
    pub fn people(&self) -> Vec<Person> {
        person::people(&self.people, &self.by)
    }
}

impl Record for Token {
    const VERSION: u32 = 1;
    const KIND: &'static str = "join token";
}

/// Key of a pending device.
#[must_use]
pub fn pending_key(ek: &Digest) -> String {
    format!("{PENDING}{}", ek.hex())
}

/// Key of a token.
#[must_use]
pub fn token_key(id: &str) -> String {
    format!("{TOKEN}{id}")
}
