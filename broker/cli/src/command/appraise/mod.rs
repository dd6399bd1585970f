//! `touchstone appraise`: evidence in a folder against golden releases, without broker and TPM.
//!
//! What comes out proves nothing to a broker: it is for the person who has the folder.

pub(crate) mod folder;
mod view;

use std::path::PathBuf;

use clap::Args;
use policy::appraisal::Verdict;
use policy::appraisal::offline::{OfflineResult, appraise_offline, refute};
use policy::cause::chain;
use policy::evidence::endorsement::{EndorsedEk, EndorsementError, ValidityPolicy, endorse};
use policy::evidence::offline::OfflineEvidence;
use policy::reference::by_hand::ReferenceByHand;

use self::folder::EvidenceFolder;
use self::view::AppraisalPage;
use crate::command::golden::envelope::LocalRelease;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Report, Session, words};
use crate::roots::Roots;

/// Which evidence, against what.
#[derive(Debug, Args)]
#[command(after_help = "\
Files of the folder:
  eventlog.bin   firmware event log (binary_bios_measurements of the kernel)
  pcrs.txt       lines bank:index:hex; several banks may be there, PCRs 0 to 15 are appraised
  quote.bin      TPMS_ATTEST or TPM2B_ATTEST      } all four or none. Without quote.bin and
  quote.sig      TPMT_SIGNATURE (tpm2_quote -s)   } quote.sig the PCR values are unproven, which is
  ak.pub         TPM2B_PUBLIC, TPMT_PUBLIC, PEM   } said, and the exit code follows what they are.
  nonce.bin      the qualifying data, raw         }
  ek.crt         EK certificate, held against --roots; optional
  ima.bin        IMA list since boot (binary_runtime_measurements), held against its PCRs; optional
  userspace.log  systemd's log (/run/log/systemd/tpm2-measure.log), which goes on where the firmware's ends; optional

Exit codes:
   0  affirming
   3  not affirming: no golden release matches; or the evidence contradicts itself: the quote is not
      signed by ak.pub, is of another nonce or of other PCR values, the log replays to other PCR values
      or is not what firmware writes, ek.crt does not chain
   2  the evidence cannot be used: a file is missing, unreadable or malformed, a PCR has two values,
      there is no sha256 or stronger bank in both log and values
  64  bad usage; also a --golden or --roots file that cannot be read, which is no fault of the evidence

Example: touchstone appraise --evidence press-7/ --golden edge.toml -o json")]
pub(crate) struct AppraiseArgs {
    /// Folder with the evidence
    #[arg(long, value_name = "DIR")]
    evidence: PathBuf,
    /// Manifest of a golden release, signed or not; may repeat. You vouch for it: signatures are not verified
    #[arg(long, value_name = "FILE", required = true)]
    golden: Vec<PathBuf>,
    /// Certificates of TPM manufacturers for ek.crt: PEM bundles, DER files, TrustedTpm.cab, or folders of them; may repeat
    #[arg(long, value_name = "FILE_OR_DIR", num_args = 1..)]
    roots: Vec<PathBuf>,
}

/// Appraises the folder; ends with 3 when it is not affirmed.
pub(crate) fn run(args: &AppraiseArgs, session: &Session) -> Result<Report> {
    let (reference, mut notes) = golden(&args.golden)?;
    let roots = match args.roots.as_slice() {
        [] => None,
        paths => Some(Roots::load(paths).map_err(|failure| failure.ending(Exit::Usage))?),
    };
    let folder = EvidenceFolder::read(&args.evidence)?;
    notes.extend(folder.notes.iter().cloned());
    let now = session.now();
    let mut result = match folder.verify()? {
        Ok(evidence) => {
            notes.extend(about(&evidence));
            appraise_offline(&evidence, &reference, now)
        }
        Err(error) => refute(&error, &reference, now),
    };
    result = hold_against(result, &folder, roots.as_ref(), session, &mut notes)?;
    let exit = match result.record().verdict {
        Verdict::Affirming => Exit::Done,
        Verdict::Warning | Verdict::Contraindicated | Verdict::Unappraised => Exit::Negative,
    };
    let report = session.report(&AppraisalPage::new(&result, notes))?.ending(exit);
    Ok(roots.iter().flat_map(Roots::left_out).fold(report, Report::aside))
}

/// The releases, and what is to be said of their files.
fn golden(files: &[PathBuf]) -> Result<(ReferenceByHand, Vec<String>)> {
    let (mut manifests, mut notes) = (Vec::new(), Vec::new());
    for file in files {
        let local = LocalRelease::read(file).map_err(|failure| failure.ending(Exit::Usage))?;
        if local.envelope.is_some() {
            notes.push(format!(
                "{}: the signatures on {} are not verified here, you vouch for it",
                file.display(),
                local.manifest.id()
            ));
        }
        manifests.push(local.manifest);
    }
    let reference = ReferenceByHand::new(manifests)
        .map_err(|error| Failure::new(Exit::Usage, format!("--golden: {}", chain(&error))))?;
    Ok((reference, notes))
}

/// What a folder cannot prove, however good it is.
fn about(evidence: &OfflineEvidence) -> Vec<String> {
    let mut notes = vec![
        "hardware and instance-identity are not claimed: a folder cannot show that its key lives in a TPM, or in which; a broker proves that by activating a credential".to_owned(),
    ];
    let later = evidence.later();
    for (count, file) in
        [(later.ima, "ima.bin"), (later.userspace.try_into().unwrap_or(u64::MAX), "userspace.log")]
    {
        if count > 0 {
            notes.push(format!("{file} goes on where the PCR values end: its last {count} record(s) came later and are not appraised; collect the whole folder again to have them appraised"));
        }
    }
    if let Some(quote) = evidence.quote() {
        notes.push("the quote is as fresh as nonce.bin: only who chose the nonce knows when".to_owned());
        if !quote.restricted_key {
            notes.push("ak.pub says nothing about the key's attributes: a key that is not restricted signs any quote that is made up; use the public area (tpm2_readpublic -f tss) to have them verified".to_owned());
        }
    }
    notes
}

/// Holds the EK certificate against the roots.
fn hold_against(
    result: OfflineResult,
    folder: &EvidenceFolder,
    roots: Option<&Roots>,
    session: &Session,
    notes: &mut Vec<String>,
) -> Result<OfflineResult> {
    let (ek, roots) = match (&folder.ek, roots) {
        (Some(ek), Some(roots)) => (ek, roots),
        (Some(_), None) => {
            notes
                .push("ek.crt is not verified: name the manufacturers' certificates with --roots".to_owned());
            return Ok(result);
        }
        (None, Some(_)) => {
            notes.push("--roots had nothing to verify: the folder holds no ek.crt".to_owned());
            return Ok(result);
        }
        (None, None) => return Ok(result),
    };
    match endorse(ek, &[], &roots.store, session.now(), ValidityPolicy::AtTime) {
        Ok(endorsed) => {
            notes.push(genuine(&endorsed));
            notes.extend(
                endorsed.advisories().iter().map(|a| format!("ek.crt: {} is known against this TPM", a.id)),
            );
            Ok(result)
        }
        Err(error @ (EndorsementError::Readout(_) | EndorsementError::Parse(_))) => {
            Err(Failure::unusable(format!("ek.crt: {}", chain(&error))))
        }
        Err(error) => Ok(result.with_refused_ek(&error)),
    }
}

fn genuine(ek: &EndorsedEk) -> String {
    format!(
        "ek.crt is of a TPM by {} and chains to {} ({}); nothing in the folder ties it to the quote's key",
        ek.manufacturer(),
        words::or_dash(ek.root_subject()),
        ek.root_label()
    )
}
