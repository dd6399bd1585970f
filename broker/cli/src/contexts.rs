//! The contexts of several plants: folders below `~/.config/touchstone`, one of them in use.
//!
//! Without a choice it is the folder `context`, as before there were several.

use std::fs;
use std::path::{Path, PathBuf};

use crate::args::Global;
use crate::failure::{Failure, Result};
use crate::file::Draft;

/// The context that is used when none was chosen.
const DEFAULT: &str = "context";
/// The file beside the contexts that holds the name of the chosen one.
const CHOSEN: &str = "current";
/// Longest name; a folder name may have 255 bytes.
const MAX_NAME: usize = 64;

/// The folder that the command line, the environment, the choice or the default names.
pub(crate) fn folder(global: &Global) -> Result<PathBuf> {
    match &global.context {
        Some(written) => Ok(named(written)),
        None => current(),
    }
}

/// A name of one's own contexts goes before a folder of that name where one happens to stand.
fn named(written: &Path) -> PathBuf {
    let own = written
        .to_str()
        .and_then(|name| Name::parse(name).ok())
        .and_then(|name| home().ok().map(|home| name.below(&home)));
    own.filter(|folder| is_context(folder)).unwrap_or_else(|| written.to_owned())
}

fn current() -> Result<PathBuf> {
    let home = home()?;
    Ok(home.join(chosen(&home)?))
}

/// The name of the context in use, or its folder where it has no name.
pub(crate) fn label(global: &Global) -> Result<String> {
    let folder = folder(global)?;
    let name = folder.file_name().filter(|_| home().is_ok_and(|home| folder.parent() == Some(&home)));
    Ok(name.map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned()))
}

/// The name that `context use` chose below `home`, or the default.
pub(crate) fn chosen(home: &Path) -> Result<String> {
    let path = home.join(CHOSEN);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Name::parse(text.trim()).map_err(Failure::unusable)?.0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DEFAULT.to_owned()),
        Err(error) => Err(Failure::unusable(format!("{}: {error}", path.display()))),
    }
}

/// Chooses `name` from now on.
pub(crate) fn choose(home: &Path, name: &Name) -> Result<()> {
    let mut draft = Draft::create(&home.join(CHOSEN), 0o600)?;
    draft.append(format!("{}\n", name.0).as_bytes())?;
    draft.publish()
}

/// Every context below `home`, by name.
pub(crate) fn all(home: &Path) -> Result<Vec<Name>> {
    let fault = |e: std::io::Error| Failure::unusable(format!("{}: {e}", home.display()));
    let mut names = Vec::new();
    let entries = match fs::read_dir(home) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(fault)?,
    };
    for entry in entries {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name().to_str().and_then(|name| Name::parse(name).ok());
        names.extend(name.filter(|_| is_context(&entry.path())));
    }
    names.sort();
    Ok(names)
}

/// Whether `folder` holds a context.
pub(crate) fn is_context(folder: &Path) -> bool {
    folder.join("context.toml").is_file()
}

/// The folder of the contexts.
pub(crate) fn home() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("touchstone")).ok_or_else(|| {
        Failure::unusable("there is no context folder: neither XDG_CONFIG_HOME nor HOME is set")
            .next("name it with --context or TOUCHSTONE_CONTEXT")
    })
}

/// The name of a context: a folder's name that no path and no option can be taken for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) String);

impl Name {
    /// Parses it, for clap.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if text.len() <= MAX_NAME && begins && text != CHOSEN && text.chars().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("`{text}` is no context name; write for example plant-north"))
    }

    /// Its folder below `home`.
    pub(crate) fn below(&self, home: &Path) -> PathBuf {
        home.join(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        assert!(Name::parse("plant-north").is_ok());
        for bad in ["", "..", ".hidden", "a/b", "-o", "current", &"a".repeat(65)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_stands_until_another_is_chosen() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(chosen(home.path()).unwrap(), "context");
        choose(home.path(), &Name::parse("north").unwrap()).unwrap();
        assert_eq!(chosen(home.path()).unwrap(), "north");
        fs::write(home.path().join(CHOSEN), "../elsewhere\n").unwrap();
        assert!(chosen(home.path()).unwrap_err().text().contains("no context name"));
    }
}
