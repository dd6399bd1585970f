//! `touchstone-broker kek`: the key-encryption key is kept another way from now on, or copied for the safe.

use std::io;
use std::path::{Path, PathBuf};

use super::{Keeping, KekError, Mechanism, Place, Token};
use crate::files;
use crate::init::kek_file;
use crate::ports::Entropy;

/// How the key is to be kept.
#[derive(Debug, Clone)]
pub enum To {
    /// In the file, as it is.
    File,
    /// Under a key in a token.
    Token(Place, Option<Mechanism>),
    /// Printed by a command.
    Command(Vec<String>),
}

/// Where it was kept, and where it is kept now, for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// Before.
    pub from: String,
    /// Now; what was asked for, if it was only tried.
    pub to: String,
}

/// It is kept as before.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The key does not open, the old way or the new one.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The new way opens another key.
    #[error(
        "{0} opens another key than that of this plant; let it keep the key that `touchstone-broker kek export` writes"
    )]
    Other(String),
    /// A copy is there already.
    #[error("{0} is there already; choose another --out")]
    Exists(PathBuf),
    /// The file.
    #[error("{file} cannot be written: {source}")]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Keeps the key of the broker in `dir` as `to` says, once that was found to open the same key. With `dry_run` nothing
/// is written, and no key is made in a token.
pub fn rewrap(dir: &Path, to: To, dry_run: bool, entropy: &dyn Entropy) -> Result<Rewrapped, RewrapError> {
    let file = kek_file(dir);
    let former = Keeping::read(&file)?;
    let kek = former.open()?;
    let next = match to {
        To::File => Keeping::File(kek.clone()),
        To::Command(words) => Keeping::Command(words),
        To::Token(place, _) if dry_run => {
            place.probe().map_err(KekError::from)?;
            let to = format!("the PKCS#11 token `{}`", place.token);
            return Ok(Rewrapped { from: former.describe(), to });
        }
        To::Token(place, mechanism) => {
            let token = Token::wrap(place, mechanism, &kek, entropy).map_err(KekError::from)?;
            Keeping::Token(token)
        }
    };
    if next.open()?.expose() != kek.expose() {
        return Err(RewrapError::Other(next.describe()));
    }
    if !dry_run {
        next.write(&file).map_err(|source| RewrapError::Write { file, source })?;
    }
    Ok(Rewrapped { from: former.describe(), to: next.describe() })
}

/// Writes the key itself to `out`, for the safe.
pub fn export(dir: &Path, out: &Path) -> Result<(), RewrapError> {
    if out.exists() {
        return Err(RewrapError::Exists(out.to_owned()));
    }
    let kek = super::open(&kek_file(dir))?;
    let written = files::write_secret(out, kek.to_hex().as_bytes());
    written.map_err(|source| RewrapError::Write { file: out.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::System;
    use crate::secrets::SecretKey;

    fn to(words: &[&str]) -> To {
        To::Command(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_way_that_does_not_open_the_same_key_changes_nothing() {
        let (dir, system) = (tempfile::tempdir().unwrap(), System::default());
        std::fs::create_dir(dir.path().join("secrets")).unwrap();
        let file = kek_file(dir.path());
        let key = SecretKey::generate(&system).unwrap();
        Keeping::File(key.clone()).write(&file).unwrap();
        let before = std::fs::read(&file).unwrap();
        let copy = dir.path().join("copy");
        export(dir.path(), &copy).unwrap();
        assert_eq!(std::fs::read(&copy).unwrap(), before);
        assert!(matches!(export(dir.path(), &copy), Err(RewrapError::Exists(_))));

        let other = rewrap(dir.path(), to(&["echo", &"07".repeat(32)]), false, &system).unwrap_err();
        assert!(matches!(other, RewrapError::Other(_)), "{other}");
        let none = rewrap(dir.path(), to(&["false"]), false, &system).unwrap_err();
        assert!(matches!(none, RewrapError::Kek(KekError::Command(_))), "{none}");
        let cat = ["cat", copy.to_str().unwrap()];
        rewrap(dir.path(), to(&cat), true, &system).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), before, "a try writes nothing");

        let done = rewrap(dir.path(), to(&cat), false, &system).unwrap();
        assert!(done.from.contains("as it is") && done.to.contains("`cat "), "{done:?}");
        assert!(!std::fs::read_to_string(&file).unwrap().contains(key.to_hex().trim()));
        assert_eq!(super::super::open(&file).unwrap().expose(), key.expose());
        rewrap(dir.path(), To::File, false, &system).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}
