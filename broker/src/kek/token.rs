//! A PKCS#11 token (OASIS PKCS #11 v2.40) opens the key, with a key of its own that never leaves it.
//!
//! Where the token has AES-GCM, its key is AES-256; a token without, as most smart cards, has an RSA key, and OAEP wraps.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism as Call, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files;
use crate::ports::{Entropy, EntropyError, random};
use crate::record::Bytes;
use crate::secrets::SecretKey;

/// What the wrapped key is bound to.
const CONTEXT: &[u8] = b"touchstone/v1/kek";
/// Bytes of a nonce (NIST SP 800-38D, section 8.2) and bits of a tag of AES-GCM.
const NONCE: usize = 12;
const TAG_BITS: u64 = 128;
/// Bits and public exponent (65537) of an RSA key that is made.
const RSA_BITS: u64 = 3072;
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];
/// Time that the token has to open the key: a network HSM connects first, a smart card takes seconds.
const OPEN: Duration = Duration::from_secs(60);
/// The same where it may have to make a key: an RSA pair takes a smart card minutes.
const MAKE: Duration = Duration::from_secs(600);
/// Longest file with a PIN in bytes.
const MAX_PIN: u64 = 1024;

/// Where the token's key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The token's driver, a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The file with the user's PIN.
    pub pin_file: PathBuf,
    /// The label of the key in it.
    pub key: String,
}

/// How the token wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// AES-256-GCM under a secret key.
    AesGcm,
    /// RSA-OAEP (RFC 8017, section 7.1) with SHA-1, the one hash that every token has for it.
    RsaOaep,
}

impl Mechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "AES-GCM",
            Self::RsaOaep => "RSA-OAEP",
        }
    }
}

/// A key-encryption key that a token opens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// Where the token's key is.
    #[serde(flatten)]
    place: Place,
    /// How it wraps.
    mechanism: Mechanism,
    /// The wrapped key, with its nonce before it.
    wrapped: Bytes,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { module, token, key, .. } = &self.place;
        let (mechanism, module) = (self.mechanism.name(), module.display());
        write!(f, "the key `{key}` ({mechanism}) of the PKCS#11 token `{token}` ({module})")
    }
}

/// The token does not open the key.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The driver.
    #[error(
        "the PKCS#11 module {module} cannot be used ({why}); install the token's driver, or correct `module` in secrets/kek"
    )]
    Module {
        /// The module.
        module: PathBuf,
        /// Why.
        why: String,
    },
    /// It does not answer.
    #[error(
        "the PKCS#11 token `{token}` ({module}) did not answer within {} s; see whether it is plugged in and its service runs \
         (`pkcs11-tool --module {module} --list-slots`), then start again", .time.as_secs()
    )]
    Late {
        /// The module.
        module: PathBuf,
        /// The token.
        token: String,
        /// Time that it had.
        time: Duration,
    },
    /// The token is not there.
    #[error(
        "no slot of {module} has the PKCS#11 token `{token}`; there is {found}: plug the token in, or correct `token` in secrets/kek"
    )]
    Absent {
        /// The module.
        module: PathBuf,
        /// The token.
        token: String,
        /// What is there.
        found: String,
    },
    /// The file with the PIN.
    #[error(
        "the file with the PIN of the token, {file}, cannot be used ({why}); write the PIN into it, with mode 600"
    )]
    PinFile {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Another PIN.
    #[error(
        "the PIN in {file} is not that of the PKCS#11 token `{token}` in slot {slot}; correct the file before the next start, \
         a token locks after a few wrong ones"
    )]
    Pin {
        /// The file.
        file: PathBuf,
        /// The token.
        token: String,
        /// Its slot.
        slot: u64,
    },
    /// Too many wrong ones.
    #[error("the PKCS#11 token `{token}` in slot {slot} is locked; its security officer sets a new PIN")]
    Locked {
        /// The token.
        token: String,
        /// Its slot.
        slot: u64,
    },
    /// The key is not in it.
    #[error(
        "the PKCS#11 token `{token}` has no {mechanism} key `{key}`; put back the token that has it, or correct `key`"
    )]
    NoKey {
        /// The token.
        token: String,
        /// The kind of key.
        mechanism: &'static str,
        /// Its label.
        key: String,
    },
    /// The token refused.
    #[error("the PKCS#11 token `{token}` cannot {what} ({why})")]
    Refused {
        /// The token.
        token: String,
        /// What.
        what: &'static str,
        /// Why.
        why: Error,
    },
    /// What it opened is no key.
    #[error(
        "what the PKCS#11 token `{0}` opened is no 256-bit key; put back the secrets/kek that belongs to it"
    )]
    NoKek(String),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// A token that the user is logged in to.
struct Opened<'a> {
    place: &'a Place,
    context: Pkcs11,
    slot: Slot,
    session: Session,
}

impl Place {
    fn open(&self) -> Result<Opened<'_>, TokenError> {
        let module = |why: Error| TokenError::Module { module: self.module.clone(), why: why.to_string() };
        let context = Pkcs11::new(&self.module).map_err(module)?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(module(error)),
        }
        let slot = self.slot(&context, module)?;
        let refused = |what| move |why| TokenError::Refused { token: self.token.clone(), what, why };
        let session = context.open_rw_session(slot).map_err(refused("open a session"))?;
        let pin = AuthPin::new(pin(&self.pin_file)?.as_str().into());
        let (token, slot_id) = (self.token.clone(), slot.id());
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(Error::Pkcs11(RvError::PinLocked, _)) => {
                return Err(TokenError::Locked { token, slot: slot_id });
            }
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                return Err(TokenError::Pin { file: self.pin_file.clone(), token, slot: slot_id });
            }
            Err(why) => return Err(refused("log in")(why)),
        }
        Ok(Opened { place: self, context, slot, session })
    }

    /// The slot that has the token.
    fn slot(&self, context: &Pkcs11, module: impl Fn(Error) -> TokenError) -> Result<Slot, TokenError> {
        let mut found = Vec::new();
        for slot in context.get_slots_with_token().map_err(&module)? {
            let info = context.get_token_info(slot).map_err(&module)?;
            if info.label().trim_end() == self.token {
                return Ok(slot);
            }
            found.push(format!("`{}` in slot {}", info.label().trim_end(), slot.id()));
        }
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        Err(TokenError::Absent { module: self.module.clone(), token: self.token.clone(), found })
    }

    /// Finds out whether the token is there and takes the PIN.
    pub(super) fn probe(&self) -> Result<(), TokenError> {
        self.within(OPEN, |place| place.open().map(drop))
    }

    /// What `work` comes to, in a thread of its own: a call of a PKCS#11 module has no deadline and cannot be broken off. One
    /// that hangs keeps its thread until the process ends, which is what whoever asked for the key does next.
    fn within<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl FnOnce(&Self) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        let (sender, receiver) = sync_channel(1);
        let place = self.clone();
        // Nobody listens any more after the deadline.
        thread::spawn(move || drop(sender.send(work(&place))));
        receiver.recv_timeout(time).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                TokenError::Late { module: self.module.clone(), token: self.token.clone(), time }
            }
            RecvTimeoutError::Disconnected => {
                TokenError::Module { module: self.module.clone(), why: "it broke off".to_owned() }
            }
        })?
    }
}

fn pin(file: &Path) -> Result<Zeroizing<String>, TokenError> {
    let unusable = |why: &str| TokenError::PinFile { file: file.to_owned(), why: why.to_owned() };
    let bytes = files::read_bounded(file, MAX_PIN).map_err(|error| unusable(&error.to_string()))?;
    let text = Zeroizing::new(String::from_utf8(bytes).map_err(|_| unusable("it is no text"))?);
    if files::readable_by_others(file).map_err(|error| unusable(&error.to_string()))? {
        return Err(unusable("others may read it"));
    }
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

impl Opened<'_> {
    fn refused(&self, what: &'static str) -> impl Fn(Error) -> TokenError {
        let token = self.place.token.clone();
        move |why| TokenError::Refused { token: token.clone(), what, why }
    }

    /// AES-GCM where the token has it.
    fn mechanism(&self) -> Result<Mechanism, TokenError> {
        let known =
            self.context.get_mechanism_list(self.slot).map_err(self.refused("list what it can do"))?;
        Ok(if known.contains(&MechanismType::AES_GCM) { Mechanism::AesGcm } else { Mechanism::RsaOaep })
    }

    fn find(&self, class: ObjectClass, kind: KeyType) -> Result<Option<ObjectHandle>, TokenError> {
        let label = Attribute::Label(self.place.key.clone().into_bytes());
        let template = [Attribute::Class(class), Attribute::KeyType(kind), label];
        let found = self.session.find_objects(&template).map_err(self.refused("look for its key"))?;
        Ok(found.first().copied())
    }

    /// The key that opens.
    fn opener(&self, mechanism: Mechanism) -> Result<ObjectHandle, TokenError> {
        let found = match mechanism {
            Mechanism::AesGcm => self.find(ObjectClass::SECRET_KEY, KeyType::AES)?,
            Mechanism::RsaOaep => self.find(ObjectClass::PRIVATE_KEY, KeyType::RSA)?,
        };
        let Place { token, key, .. } = self.place;
        found.ok_or_else(|| TokenError::NoKey {
            token: token.clone(),
            mechanism: mechanism.name(),
            key: key.clone(),
        })
    }

    /// The key that wraps; made where there is none.
    fn wrapper(&self, mechanism: Mechanism) -> Result<ObjectHandle, TokenError> {
        let label = || Attribute::Label(self.place.key.clone().into_bytes());
        let kept = [Attribute::Token(true), Attribute::Private(true), Attribute::Sensitive(true)];
        let secret =
            || [&kept[..], &[Attribute::Extractable(false), Attribute::Decrypt(true), label()]].concat();
        let failed = self.refused("make a key");
        match mechanism {
            Mechanism::AesGcm => match self.find(ObjectClass::SECRET_KEY, KeyType::AES)? {
                Some(key) => Ok(key),
                None => {
                    let template = [secret(), vec![Attribute::Encrypt(true), Attribute::ValueLen(32.into())]];
                    self.session.generate_key(&Call::AesKeyGen, &template.concat()).map_err(failed)
                }
            },
            Mechanism::RsaOaep => match self.find(ObjectClass::PUBLIC_KEY, KeyType::RSA)? {
                Some(key) => Ok(key),
                None => {
                    let public = [
                        Attribute::Token(true),
                        Attribute::Private(false),
                        Attribute::Encrypt(true),
                        Attribute::ModulusBits(RSA_BITS.into()),
                        Attribute::PublicExponent(RSA_EXPONENT.to_vec()),
                        label(),
                    ];
                    let made = self.session.generate_key_pair(&Call::RsaPkcsKeyPairGen, &public, &secret());
                    Ok(made.map_err(failed)?.0)
                }
            },
        }
    }
}

/// The call of the token for this nonce.
fn call<'a>(mechanism: Mechanism, nonce: &'a mut [u8]) -> Result<Call<'a>, Error> {
    Ok(match mechanism {
        Mechanism::AesGcm => Call::AesGcm(GcmParams::new(nonce, CONTEXT, TAG_BITS.into())?),
        Mechanism::RsaOaep => Call::RsaPkcsOaep(PkcsOaepParams::new(
            MechanismType::SHA1,
            PkcsMgfType::MGF1_SHA1,
            PkcsOaepSource::empty(),
        )),
    })
}

impl Token {
    /// Wraps `kek` under the key at `place`, which is made if it is not there; AES-GCM where the token has it, if
    /// nothing else is asked for.
    pub(super) fn wrap(
        place: Place,
        mechanism: Option<Mechanism>,
        kek: &SecretKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, TokenError> {
        let nonce: [u8; NONCE] = random(entropy)?;
        let kek = kek.clone();
        let (mechanism, wrapped) =
            place.within(MAKE, move |place| wrapped(&place.open()?, mechanism, &kek, nonce))?;
        Ok(Self { place, mechanism, wrapped: wrapped.into() })
    }

    /// The key.
    pub(super) fn open(&self) -> Result<SecretKey, TokenError> {
        let (mechanism, wrapped) = (self.mechanism, self.wrapped.0.clone());
        self.place.within(OPEN, move |place| opened(&place.open()?, mechanism, &wrapped))
    }
}

/// The mechanism, and `kek` wrapped with its nonce before it.
fn wrapped(
    opened: &Opened<'_>,
    mechanism: Option<Mechanism>,
    kek: &SecretKey,
    mut nonce: [u8; NONCE],
) -> Result<(Mechanism, Vec<u8>), TokenError> {
    let mechanism = mechanism.map_or_else(|| opened.mechanism(), Ok)?;
    let key = opened.wrapper(mechanism)?;
    let mut wrapped = nonce.to_vec();
    let failed = opened.refused("wrap a key");
    let call = call(mechanism, &mut nonce).map_err(&failed)?;
    wrapped.extend(opened.session.encrypt(&call, key, kek.expose()).map_err(failed)?);
    Ok((mechanism, wrapped))
}

/// The key that [`wrapped`] wrapped.
fn opened(opened: &Opened<'_>, mechanism: Mechanism, wrapped: &[u8]) -> Result<SecretKey, TokenError> {
    let no_kek = || TokenError::NoKek(opened.place.token.clone());
    let (nonce, body) = wrapped.split_first_chunk::<NONCE>().ok_or_else(no_kek)?;
    let (mut nonce, key, failed) = (*nonce, opened.opener(mechanism)?, opened.refused("open the key"));
    let call = call(mechanism, &mut nonce).map_err(&failed)?;
    let kek = Zeroizing::new(opened.session.decrypt(&call, key, body).map_err(failed)?);
    SecretKey::from_bytes(&kek).ok_or_else(no_kek)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let file = |name: &str| PathBuf::from(name);
        let (token, key) = ("plant".to_owned(), "kek".to_owned());
        Place { module: file("/usr/lib/hsm.so"), token, pin_file: file("/etc/pin"), key }
    }

    #[test]
    fn a_module_that_hangs_or_breaks_off_is_named() {
        // Held until the test ends, so the call stands still until then.
        let (_held, never) = sync_channel::<()>(0);
        let stuck = move |_: &Place| never.recv().map_err(|_| TokenError::NoKek("it went on".to_owned()));
        let late = place().within(Duration::from_millis(50), stuck).unwrap_err();
        assert!(matches!(late, TokenError::Late { .. }), "{late}");
        let text = late.to_string();
        assert!(text.contains("`plant` (/usr/lib/hsm.so) did not answer within 0 s"), "{text}");
        assert!(text.contains("pkcs11-tool --module /usr/lib/hsm.so --list-slots"), "{text}");
        let broken = place().within(OPEN, |_| -> Result<(), TokenError> { panic!("a fault of the driver") });
        assert!(matches!(broken, Err(TokenError::Module { .. })));
        assert_eq!(place().within(OPEN, |place| Ok(place.key.clone())).unwrap(), "kek");
    }
}
