//! `touchstone golden predict`: a manifest from built artefacts, before any device boots them.

mod image;
mod tree;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use policy::cause::chain;
use policy::id::ProductName;
use policy::predict::Phase;
use policy::predict::pe::MAX_PE_BYTES;
use policy::predict::release::{Artefact, Artefacts, PredictError, Predicted, predict};
use policy::reference::manifest::{MAX_COUNTER, Manifest};
use policy::reference::release::{ReleaseId, ReleaseVersion};
use policy::tpm::alg::HashAlg;

use self::image::NamedImage;
use self::tree::Files;
use super::draft::DraftPage;
use super::envelope::LocalRelease;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::progress::Unit;
use crate::output::{Report, Session};

/// From what, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
No broker is asked and nothing is booted. Review the file before you sign it: what stands in it may boot.
  touchstone golden predict --uki edge-1.5.efi --base edge-1.4.toml --version 1.5 --out edge.toml
An update: predict its release from its image, sign and apply it beside the old one, roll the update out, and
deprecate the old release when no device runs it any more.

  PCR 4   each --boot-loader, each --uki and the kernel in it, by Authenticode hash
  PCR 9   kernel command line and initrd, for the stubs of systemd 252 to 257
  PCR 11  the sections of the image as systemd-stub measures them, and systemd's phases
  PCR 12  nothing: no other command line, no credentials, no addons (--side-cars leaves 9 and 12 open)
All else is as in --base, a release of the same hardware: firmware in PCRs 0 and 2, Secure Boot in PCR 7.")]
pub(crate) struct PredictArgs {
    /// Unified kernel image; may repeat, a device boots one of them
    #[arg(long = "uki", value_name = "FILE")]
    ukis: Vec<PathBuf>,
    /// Boot loader that is started before (shim, systemd-boot, GRUB), or a kernel that is no UKI; may repeat
    #[arg(long = "boot-loader", value_name = "FILE")]
    loaders: Vec<PathBuf>,
    /// Profile of a multi-profile image that devices boot
    #[arg(long, value_name = "N", default_value_t = 0)]
    profile: u32,
    /// Phase that devices have reached when they attest; otherwise any is accepted
    #[arg(long, value_enum, value_name = "PHASE")]
    phase: Option<PhaseName>,
    /// Devices have credentials, addons or extensions beside the image: leave PCRs 9 and 12 open
    #[arg(long)]
    side_cars: bool,
    /// Root of a file system tree whose files may run (section ima)
    #[arg(long, value_name = "DIR")]
    ima_tree: Option<PathBuf>,
    /// Which files of the tree: programs, libraries and kernel modules, or all
    #[arg(long, value_enum, value_name = "WHICH", default_value_t, requires = "ima_tree")]
    ima_files: Files,
    /// The tree is a part of what may run, a package that is upgraded: list its files beside those of --base
    #[arg(long, requires_all = ["ima_tree", "base"])]
    ima_add: bool,
    /// Image that the attestor measures: its path on the device, or a name if it may be anywhere; a folder stands
    /// for every file in it; may repeat
    #[arg(long = "image", value_name = "NAME=FILE")]
    images: Vec<NamedImage>,
    /// Earlier release, signed or not, that all else is taken from. You vouch for it: signatures are not verified
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// PCR bank of the devices; may repeat
    #[arg(long = "bank", value_name = "BANK", default_value = "sha256", value_parser = bank)]
    banks: Vec<HashAlg>,
    /// Product of the release [default: that of --base]
    #[arg(long, value_name = "PRODUCT", required_unless_present = "base")]
    product: Option<ProductName>,
    /// Version of the release
    #[arg(long, value_name = "VERSION")]
    version: ReleaseVersion,
    /// Counter of the release [default: one above --base, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=MAX_COUNTER))]
    counter: Option<u64>,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PhaseName {
    EnterInitrd,
    LeaveInitrd,
    Sysinit,
    Ready,
}

impl From<PhaseName> for Phase {
    fn from(name: PhaseName) -> Self {
        match name {
            PhaseName::EnterInitrd => Self::EnterInitrd,
            PhaseName::LeaveInitrd => Self::LeaveInitrd,
            PhaseName::Sysinit => Self::Sysinit,
            PhaseName::Ready => Self::Ready,
        }
    }
}

fn bank(text: &str) -> std::result::Result<HashAlg, String> {
    match text.parse() {
        Ok(HashAlg::Sha1) => Err("sha1 proves nothing; use sha256, sha384 or sha512".to_owned()),
        Ok(bank) => Ok(bank),
        Err(error) => Err(error.to_string()),
    }
}

/// Predicts the manifest and writes it.
pub(super) fn run(args: PredictArgs, session: &Session) -> Result<Report> {
    let base = args.base.as_deref().map(LocalRelease::read).transpose()?.map(|local| local.manifest);
    let Predicted { manifest, notes } = from_files(&args, base.as_ref(), session)?;
    DraftPage { manifest: manifest.render(), notes, warnings: Vec::new(), file: None }
        .write(args.out.as_deref(), session)
}

fn from_files(args: &PredictArgs, base: Option<&Manifest>, session: &Session) -> Result<Predicted> {
    let progress = session.progress("hashing files", Unit::Things, None);
    let (ukis, loaders) = (read_all(&args.ukis)?, read_all(&args.loaders)?);
    let mut files =
        args.ima_tree.as_deref().map(|root| tree::digests(root, args.ima_files, &progress)).transpose()?;
    if let (true, Some(files), Some(ima)) = (args.ima_add, &mut files, base.and_then(Manifest::ima)) {
        for (path, digests) in ima.files() {
            files.entry(path.to_owned()).or_default().extend(digests);
        }
    }
    let mut images = Vec::new();
    for image in &args.images {
        images.extend(image.rules(&progress)?);
    }
    let artefacts = Artefacts {
        ukis: ukis.iter().map(artefact).collect(),
        loaders: loaders.iter().map(artefact).collect(),
        profile: args.profile,
        phase: args.phase.map(Phase::from),
        side_cars: args.side_cars,
        files,
        images,
    };
    let product = args.product.clone().or_else(|| base.map(|base| base.product().clone()));
    let product = product.ok_or_else(|| Failure::unusable("name the product with --product"))?;
    let id = ReleaseId { product, version: args.version.clone() };
    predict(&artefacts, &args.banks, id, args.counter, base).map_err(|error| refusal(&error))
}

fn refusal(error: &PredictError) -> Failure {
    Failure::unusable(chain(error))
}

type Named = (String, Vec<u8>);

/// The files whole: hashing an image as firmware does goes through it in another order than it is stored.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Named>> {
    // One byte more than the parser takes is enough for it to say so.
    let limit = u64::try_from(MAX_PE_BYTES).unwrap_or(u64::MAX);
    let read = |path: &PathBuf| Ok((path.display().to_string(), file::read_up_to(path, limit)?));
    paths.iter().map(read).collect()
}

fn artefact((name, bytes): &Named) -> Artefact<'_> {
    Artefact { name: name.clone(), bytes }
}
