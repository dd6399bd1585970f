//! `touchstone-broker kek`: how the key-encryption key is kept.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use broker::init::kek_file;
use broker::kek::rewrap::{RewrapError, Rewrapped, To, export, rewrap};
use broker::kek::{Keeping, KekError, Mechanism, Place};
use broker::ports::System;
use clap::{Args, Subcommand, ValueEnum};

use crate::{FAILED, USAGE, failed};

/// Shows or changes how the key-encryption key is kept, which every stored key is wrapped under.
#[derive(Subcommand)]
pub(crate) enum KekCommand {
    /// Says how it is kept, and whether it opens.
    Show {
        /// The broker's folder.
        #[arg(long, default_value = "/var/lib/touchstone")]
        dir: PathBuf,
    },
    /// Keeps it another way, once that was found to open the same key; a broker that runs takes no notice.
    Rewrap(RewrapArgs),
    /// Writes the key itself to a file, for the safe: what a lost token or TPM does not open any more.
    Export {
        /// The broker's folder.
        #[arg(long, default_value = "/var/lib/touchstone")]
        dir: PathBuf,
        /// The file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Args)]
#[command(after_help = "\
Run it as the broker's user. The file secrets/kek is replaced whole; what it held before may be found on the disk, and in
backups of the host, for as long as these are kept. Keep a copy (`kek export`) offline: without it a token that is lost,
or a mainboard that breaks, takes the plant's keys along.

A PKCS#11 token; a key is made in it and never leaves it:
  touchstone-broker kek rewrap --to pkcs11 --module /usr/lib/softhsm/libsofthsm2.so --token plant \\
      --pin-file /etc/touchstone/pin

The machine's TPM, by tpm2-tools; the key opens only after the boot chain of PCR 7:
  tpm2_createprimary -C o -c primary.ctx
  tpm2_createpolicy --policy-pcr -l sha256:7 -L pcr7.policy
  tpm2_create -C primary.ctx -L pcr7.policy -i /var/lib/touchstone/secrets/kek -u kek.pub -r kek.priv
  tpm2_load -C primary.ctx -u kek.pub -r kek.priv -c kek.ctx
  tpm2_evictcontrol -C o -c kek.ctx 0x81018000
  touchstone-broker kek rewrap --to command -- tpm2_unseal -c 0x81018000 -p pcr:sha256:7

The same by systemd, with LoadCredentialEncrypted=kek:/etc/touchstone/kek.cred in the broker's unit:
  systemd-creds encrypt --with-key=tpm2 --name=kek /var/lib/touchstone/secrets/kek /etc/touchstone/kek.cred
  systemd-run --wait --pipe -p User=touchstone-broker -p LoadCredentialEncrypted=kek:/etc/touchstone/kek.cred \\
      touchstone-broker kek rewrap --to command -- systemd-creds cat kek")]
pub(crate) struct RewrapArgs {
    /// The broker's folder.
    #[arg(long, default_value = "/var/lib/touchstone")]
    dir: PathBuf,
    /// How it is kept from now on.
    #[arg(long)]
    to: Kind,
    /// The token's PKCS#11 module.
    #[arg(long, value_name = "FILE", required_if_eq("to", "pkcs11"))]
    module: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL", required_if_eq("to", "pkcs11"))]
    token: Option<String>,
    /// The file with the PIN, for the broker's eyes only.
    #[arg(long, value_name = "FILE", required_if_eq("to", "pkcs11"))]
    pin_file: Option<PathBuf>,
    /// The label of the key in the token.
    #[arg(long, value_name = "LABEL", default_value = "touchstone-kek")]
    key: String,
    /// How the token wraps, if not as it can best.
    #[arg(long)]
    mechanism: Option<Wrap>,
    /// The command that prints the key as 64 hex digits, or as 32 bytes.
    #[arg(last = true, required_if_eq("to", "command"))]
    command: Vec<String>,
    /// Only finds out whether that would do.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// In secrets/kek, as it is.
    File,
    /// Under a key of a PKCS#11 token.
    Pkcs11,
    /// Printed by a command, as that of a TPM.
    Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wrap {
    AesGcm,
    RsaOaep,
}

impl RewrapArgs {
    fn to(&self) -> To {
        let absolute = |path: &Option<PathBuf>| {
            let path = path.clone().unwrap_or_default();
            std::path::absolute(&path).unwrap_or(path)
        };
        let mechanism = self.mechanism.map(|wrap| match wrap {
            Wrap::AesGcm => Mechanism::AesGcm,
            Wrap::RsaOaep => Mechanism::RsaOaep,
        });
        match self.to {
            Kind::File => To::File,
            Kind::Command => To::Command(self.command.clone()),
            Kind::Pkcs11 => {
                let (module, pin_file) = (absolute(&self.module), absolute(&self.pin_file));
                let token = self.token.clone().unwrap_or_default();
                To::Token(Place { module, token, pin_file, key: self.key.clone() }, mechanism)
            }
        }
    }
}

/// Runs the command to its end.
pub(crate) fn run(command: &KekCommand) -> ExitCode {
    let done = match command {
        KekCommand::Show { dir } => show(dir).map_err(RewrapError::Kek),
        KekCommand::Export { dir, out } => export(dir, out).map(|()| {
            println!(
                "copied         {}  (take it offline: it opens every backup and the store)",
                out.display()
            );
        }),
        KekCommand::Rewrap(args) => {
            rewrap(&args.dir, args.to(), args.dry_run, &System::default()).map(|done| tell(args, &done))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (RewrapError::Exists(_) | RewrapError::Other(_))) => failed(USAGE, &error),
        Err(error) if matches!(&error, RewrapError::Kek(kek) if kek.is_setting()) => failed(USAGE, &error),
        Err(error) => failed(FAILED, &error),
    }
}

fn show(dir: &Path) -> Result<(), KekError> {
    let keeping = Keeping::read(&kek_file(dir))?;
    println!("kept by        {}", keeping.describe());
    keeping.open()?;
    println!("opens          yes");
    Ok(())
}

fn tell(args: &RewrapArgs, Rewrapped { from, to }: &Rewrapped) {
    println!("was kept by    {from}");
    if args.dry_run {
        println!("would do       {to}  (nothing was changed)");
        return;
    }
    println!("kept by        {to}");
    if args.to != Kind::File {
        println!("Next: check that a copy of the key is kept offline (`touchstone-broker kek export`).");
    }
}
