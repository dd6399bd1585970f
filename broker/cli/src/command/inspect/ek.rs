//! `touchstone inspect ek`: an EK certificate and the chain to its manufacturer's root.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use policy::cause::chain;
use policy::evidence::endorsement::{
    EkDescription, EndorsedEk, EndorsementError, ValidityPolicy, describe, endorse,
};
use policy::time::UnixTime;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::{Page, Report, Session, View, words};
use crate::roots::Roots;

/// Which certificate, under which roots.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 it chains to a root, 3 it does not, 2 it cannot be read.
Example: touchstone inspect ek ek.der --roots /etc/touchstone/ek-roots -o json")]
pub(crate) struct EkArgs {
    /// EK certificate: DER, PEM, or as read from the TPM's NV memory with header or padding
    file: PathBuf,
    /// Certificates of manufacturers: PEM bundles, DER files, Microsoft's TrustedTpm.cab, or folders of them; may repeat
    #[arg(long, value_name = "FILE_OR_DIR", required = true, num_args = 1..)]
    roots: Vec<PathBuf>,
    /// Time at which the chain must be valid, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<UnixTime>,
}

/// What the certificate says, and whether it chains.
#[derive(Debug, Serialize)]
struct EkView {
    subject: String,
    issuer: String,
    key_type: Option<&'static str>,
    key_size: Option<u32>,
    manufacturer: Option<String>,
    model: Option<String>,
    version: Option<String>,
    serial: String,
    not_before: String,
    not_after: String,
    ek_digest: Option<String>,
    certificate_digest: String,
    advisories: Vec<&'static str>,
    chains: bool,
    root: Option<String>,
    root_file: Option<String>,
    reason: Option<String>,
}

impl EkView {
    fn new(about: EkDescription, walked: std::result::Result<EndorsedEk, EndorsementError>) -> Self {
        let (root, root_file, reason) = match &walked {
            Ok(ek) => (Some(ek.root_subject().to_owned()), Some(ek.root_label().to_owned()), None),
            Err(error) => (None, None, Some(chain(error))),
        };
        let advisories = match &walked {
            Ok(ek) => ek.advisories().iter().map(|advisory| advisory.id).collect(),
            Err(_) => about.advisories,
        };
        Self {
            subject: about.subject,
            issuer: about.issuer,
            key_type: about.key_type,
            key_size: about.key_size.as_deref().and_then(bits),
            manufacturer: about.manufacturer,
            model: about.model,
            version: about.firmware_version,
            serial: about.serial,
            not_before: about.not_before,
            not_after: about.not_after,
            ek_digest: about.ek_digest.map(|digest| digest.to_string()),
            certificate_digest: about.certificate_digest.to_string(),
            advisories,
            chains: walked.is_ok(),
            root,
            root_file,
            reason,
        }
    }
}

/// The bits of a key size that is written `2048` or `P-256`.
fn bits(size: &str) -> Option<u32> {
    size.strip_prefix("P-").unwrap_or(size).parse().ok()
}

impl View for EkView {
    fn text(&self, _page: &Page) -> String {
        let or_dash = |text: &Option<String>| words::or_dash(text.as_deref().unwrap_or_default());
        let key = match (self.key_type, self.key_size) {
            (Some(kind), Some(bits)) => format!("{kind} {bits}"),
            _ => "unreadable".to_owned(),
        };
        let lines = [
            ("subject", words::or_dash(&self.subject)),
            ("issuer", self.issuer.clone()),
            ("key", key),
            ("manufacturer", or_dash(&self.manufacturer)),
            ("model", or_dash(&self.model)),
            ("version", or_dash(&self.version)),
            ("serial", self.serial.clone()),
            ("valid", format!("{} to {}", self.not_before, self.not_after)),
            ("EK digest", or_dash(&self.ek_digest)),
            ("advisories", words::list(&self.advisories)),
        ];
        let mut text = String::new();
        for (label, value) in lines {
            let _ = writeln!(text, "{label:<13} {}", words::visible(&value));
        }
        let verdict = match (&self.root, &self.reason) {
            (Some(root), _) => format!("yes, to {root} ({})", or_dash(&self.root_file)),
            (None, reason) => format!("no: {}", or_dash(reason)),
        };
        let _ = writeln!(text, "{:<13} {}", "chains", words::visible(&verdict));
        text
    }
}

/// Describes the certificate; ends with 3 when it does not chain.
pub(super) fn run(args: &EkArgs, session: &Session) -> Result<Report> {
    let readout = file::read(&args.file)?;
    let about = describe(&readout)
        .map_err(|e| Failure::unusable(format!("{}: {}", args.file.display(), chain(&e))))?;
    let roots = Roots::load(&args.roots)?;
    let at = args.at.unwrap_or(session.now());
    let view = EkView::new(about, endorse(&readout, &[], &roots.store, at, ValidityPolicy::AtTime));
    let exit = if view.chains { Exit::Done } else { Exit::Negative };
    let report = session.report(&view)?.ending(exit);
    Ok(roots.left_out().fold(report, Report::aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sizes_are_in_bits() {
        assert_eq!((bits("2048"), bits("P-384"), bits("x")), (Some(2048), Some(384), None));
    }
}
