//! `touchstone-broker another`: the folder of one more broker of a plant on etcd.
//!
//! It holds the same configuration and key-encryption key, and an id of its own: the plant itself is in etcd.

use std::path::{Path, PathBuf};

use super::{InitError, id_file, kek_file, put, write};
use crate::config::{Backend, Config, ConfigError, FILE};
use crate::files::{make_private_dir, write_public};
use crate::kek::{Keeping, KekError};
use crate::ports::{Entropy, EntropyError, random};

/// What to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The folder of a broker of the plant.
    pub dir: PathBuf,
    /// The folder to make.
    pub out: PathBuf,
    /// Where the other broker shall listen, if that is another address.
    pub listen: Option<String>,
}

/// The folder could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AnotherError {
    /// The plant is in the folder.
    #[error(
        "the plant in {0} lives in that folder, so one broker serves it; a plant with several lives on etcd: make one with \
         `init --etcd` and `--kek`, and restore a backup of this one into it"
    )]
    Alone(PathBuf),
    /// There is something already.
    #[error("{0} is there already; choose another --out")]
    Exists(PathBuf),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration with the other address.
    #[error("the other broker could not use its configuration: {0}")]
    Unusable(String),
    /// The configuration lost its address.
    #[error("{0} has no line `listen = …`; write one")]
    Listen(PathBuf),
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] InitError),
}

/// Makes the folder, and returns how its key-encryption key is kept.
pub fn another(request: &Request, entropy: &dyn Entropy) -> Result<String, AnotherError> {
    let (dir, out) = (&request.dir, &request.out);
    if Config::load(dir)?.store == Backend::Sled {
        return Err(AnotherError::Alone(dir.clone()));
    }
    if out.exists() {
        return Err(AnotherError::Exists(out.clone()));
    }
    let text = read(&dir.join(FILE))?;
    let text = match &request.listen {
        Some(listen) => listening(&text, listen).ok_or_else(|| AnotherError::Listen(dir.join(FILE)))?,
        None => text,
    };
    // What cannot be used is told before anything is made.
    Config::parse(out, &text).map_err(|faults| AnotherError::Unusable(faults.join("; ")))?;
    let keeping = Keeping::read(&kek_file(dir))?;
    let root = read(&dir.join(ROOT))?;
    for folder in [out.clone(), out.join("secrets")] {
        make_private_dir(&folder).map_err(write(&folder))?;
    }
    keeping.write(&kek_file(out)).map_err(write(&kek_file(out)))?;
    let id = hex::encode(random::<4>(entropy)?);
    put(write_public, &id_file(out), format!("{id}\n").as_bytes())?;
    put(write_public, &out.join(ROOT), root.as_bytes())?;
    // Last: a folder with a configuration is whole.
    put(write_public, &out.join(FILE), text.as_bytes())?;
    Ok(keeping.describe())
}

/// The plant root, for devices.
const ROOT: &str = "plant-root.pem";

fn read(file: &Path) -> Result<String, AnotherError> {
    std::fs::read_to_string(file).map_err(|source| AnotherError::Read { file: file.to_owned(), source })
}

/// The configuration with another address: its first key of that name is in no section, whatever follows.
fn listening(text: &str, listen: &str) -> Option<String> {
    let is_it = |line: &&str| {
        line.trim_start().strip_prefix("listen").is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let line = text.lines().find(is_it)?;
    Some(text.replacen(line, &format!("listen = {listen:?}"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_alone_changes() {
        let text = "# listen = old\nlisten = \"0.0.0.0:1\"\nmetrics = \"a\"\n[publish]\nlisten = \"b\"\n";
        let other = listening(text, "0.0.0.0:2").unwrap();
        assert_eq!(other, text.replace("0.0.0.0:1", "0.0.0.0:2"));
        assert_eq!(listening("metrics = 1\n", "a"), None);
    }
}
