//! How the key-encryption key (KEK) is kept: what every stored key is wrapped under.
//!
//! The file `secrets/kek` alone says it. Either it holds the key itself, as 64 hex digits; or a PKCS#11 token opens what
//! the file holds; or a command prints the key, as that of a TPM that sealed it. The key is the same one whichever way
//! it is kept, so backups of before open after it was moved.
//!
//! Promises: without the token, or the machine whose TPM sealed it, file and store together open nothing; the file is
//! replaced whole, and only after the new way was found to open the same key. Does not promise anything about a copy
//! that was made while the file held the key itself, or about a running broker's memory, which holds the opened keys.

mod command;
pub mod rewrap;
mod token;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::command::CommandError;
pub use self::token::{Mechanism, Place, Token, TokenError};

use crate::files;
use crate::ports::EntropyError;
use crate::secrets::SecretKey;

/// Longest file: paths, a command, and what a token wrapped.
const MAX_FILE: u64 = 64 * 1024;

/// The key-encryption key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// No file, or no permission.
    #[error(
        "{file} cannot be read ({why}); run as the broker's user, or restore the file from the host's own backup"
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        why: String,
    },
    /// The file says nothing that can be understood.
    #[error(
        "{file} does not hold a 256-bit key, nor say how one opens ({why}); restore the file from the host's own backup"
    )]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Others may read it.
    #[error("{0} may be read by others; run `chmod 600` on it")]
    Exposed(PathBuf),
    /// The token does not open it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The command does not print it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl KekError {
    /// Whether a setting is wrong: the next try is no better, and some tokens lock after a few.
    #[must_use]
    pub const fn is_setting(&self) -> bool {
        matches!(self, Self::Token(TokenError::Pin { .. } | TokenError::Locked { .. }))
    }
}

/// How the key is kept.
#[derive(Debug, Clone)]
pub enum Keeping {
    /// The file holds it.
    File(SecretKey),
    /// A token opens it.
    Token(Token),
    /// A command prints it.
    Command(Vec<String>),
}

/// The file where it does not hold the key itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pkcs11: Option<Token>,
}

/// Reads `file` and opens the key.
pub fn open(file: &Path) -> Result<SecretKey, KekError> {
    Keeping::read(file)?.open()
}

impl Keeping {
    /// What `file` says.
    pub fn read(file: &Path) -> Result<Self, KekError> {
        let unreadable =
            |error: std::io::Error| KekError::Unreadable { file: file.to_owned(), why: error.to_string() };
        let bytes = Zeroizing::new(files::read_bounded(file, MAX_FILE).map_err(unreadable)?);
        if files::readable_by_others(file).map_err(unreadable)? {
            return Err(KekError::Exposed(file.to_owned()));
        }
        let malformed = |why: String| KekError::Malformed { file: file.to_owned(), why };
        let text = std::str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
        if let Some(key) = SecretKey::from_hex(text) {
            return Ok(Self::File(key));
        }
        let written: Result<Written, _> = toml::from_str(text);
        // The parser's words would show the line, which may be most of a key.
        match written.map_err(|_| malformed("it has another form".to_owned()))? {
            Written { command: Some(command), pkcs11: None } => Ok(Self::Command(command)),
            Written { command: None, pkcs11: Some(token) } => Ok(Self::Token(token)),
            _ => Err(malformed("it names both a command and a token, or neither".to_owned())),
        }
    }

    /// The key.
    pub fn open(&self) -> Result<SecretKey, KekError> {
        match self {
            Self::File(key) => Ok(key.clone()),
            Self::Token(token) => Ok(token.open()?),
            Self::Command(words) => Ok(command::run(words)?),
        }
    }

    /// Replaces `file` whole: after a power cut it says how the key was kept before, or how it is kept now.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        let written = match self {
            Self::File(key) => return files::write_secret(file, key.to_hex().as_bytes()),
            Self::Token(token) => Written { command: None, pkcs11: Some(token.clone()) },
            Self::Command(words) => Written { command: Some(words.clone()), pkcs11: None },
        };
        let text = toml::to_string(&written).map_err(std::io::Error::other)?;
        let text =
            format!("# How the key-encryption key opens; moved with `touchstone-broker kek rewrap`.\n{text}");
        files::write_secret(file, text.as_bytes())
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::File(_) => "the file secrets/kek, as it is".to_owned(),
            Self::Token(token) => token.to_string(),
            Self::Command(words) => format!("the command `{}`", words.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ports::System;

    fn read(text: &str) -> Result<Keeping, KekError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kek");
        files::write_secret(&file, text.as_bytes()).unwrap();
        Keeping::read(&file)
    }

    #[test]
    fn a_key_in_the_file_is_read_back_and_others_may_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kek");
        let key = SecretKey::generate(&System::default()).unwrap();
        Keeping::File(key.clone()).write(&file).unwrap();
        assert_eq!(open(&file).unwrap().expose(), key.expose());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&file), Err(KekError::Exposed(_))));
    }

    #[test]
    fn a_command_prints_the_key_in_hex_or_as_it_is_and_nothing_else() {
        let hex = "07".repeat(32);
        for words in
            [&["echo", &hex], &["printf", "%s", &"07".repeat(32)][..], &["printf", &"\\007".repeat(32)]]
        {
            let command = Keeping::Command(words.iter().map(|word| (*word).to_owned()).collect());
            let folder = tempfile::tempdir().unwrap();
            command.write(&folder.path().join("kek")).unwrap();
            assert_eq!(open(&folder.path().join("kek")).unwrap().expose(), &[7; 32], "{words:?}");
        }
        let run = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            Keeping::Command(words).open().unwrap_err().to_string()
        };
        assert!(run(&["echo", "0707"]).contains("prints no 256-bit key"));
        assert!(run(&["/no/such/program"]).contains("cannot be run"));
        let failed = run(&["sh", "-c", "echo the TPM is locked >&2; exit 3"]);
        assert!(failed.contains("exit status: 3") && failed.contains("the TPM is locked"), "{failed}");
    }

    #[test]
    fn what_says_nothing_is_malformed_and_not_repeated() {
        for text in ["", "0707", "key = 1", "command = []\n[pkcs11]\n", &"07".repeat(33)] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, KekError::Malformed { .. }), "{text}: {error}");
            assert!(!error.to_string().contains("0707"), "{error}");
        }
    }
}
