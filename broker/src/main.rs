//! `touchstone-broker`: makes a plant and serves it.

mod kek_command;

use std::path::PathBuf;
use std::process::ExitCode;

use broker::config::Backend;
use broker::config::store::PREFIX;
use broker::init::another::{self, AnotherError, another};
use broker::init::recover::{self, RecoverError, Recovered, recover};
use broker::init::{InitError, Made, Request, init};
use broker::manufacturers::{self, IDEVID_ROOTS, TPM_ROOTS};
use broker::ports::System;
use broker::server::{ServeError, serve};
use broker::store::etcd::{EtcdOptions, EtcdTls};
use clap::{Parser, Subcommand};
use policy::cause::chain;
use policy::id::PlantDomain;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use kek_command::KekCommand;

/// Bad configuration or usage (sysexits.h, EX_USAGE).
const USAGE: u8 = 64;
/// Anything else that stops the broker (EX_SOFTWARE).
const FAILED: u8 = 70;

/// The Touchstone broker: verifies what devices booted and gives certificates to those that prove it.
#[derive(Parser)]
#[command(
    name = "touchstone-broker",
    version,
    about,
    after_help = "Exit codes: 0 done, 64 bad usage or configuration, 70 anything else."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a plant: its root, issuing key, recovery kit and first owner.
    Init(InitArgs),
    /// Makes a new owner from the recovery kit, when every owner's key is lost; the broker must be stopped.
    Recover(RecoverArgs),
    /// Shows or changes how the key is kept that every stored key is wrapped under: file, PKCS#11 token, TPM.
    #[command(subcommand)]
    Kek(KekCommand),
    /// Makes the folder of one more broker of a plant on etcd, to be carried to its host.
    Another(AnotherArgs),
    /// Serves the plant until it is told to stop (SIGTERM, SIGINT).
    Run {
        /// The broker's folder.
        #[arg(long, default_value = "/var/lib/touchstone")]
        dir: PathBuf,
    },
}

#[derive(clap::Args)]
struct InitArgs {
    /// The broker's folder; it must not hold a plant yet.
    #[arg(long, default_value = "/var/lib/touchstone")]
    dir: PathBuf,
    /// The plant's domain, for example plant.example.
    #[arg(long)]
    plant: PlantDomain,
    /// Where the broker listens; port 0 takes a free one and writes it to the file `address`.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: String,
    /// Where administrators and devices reach it, if that is another address.
    #[arg(long)]
    address: Option<String>,
    /// Name of the first owner.
    #[arg(long, default_value = "owner")]
    owner: String,
    /// Certificates of TPM manufacturers: a PEM bundle, a DER file, Microsoft's TrustedTpm.cab, or a folder of them;
    /// may be given several times.
    #[arg(long)]
    tpm_roots: Vec<PathBuf>,
    /// Certificates of manufacturers that give boxes an IDevID (IEEE 802.1AR): files or folders likewise; may be given
    /// several times.
    #[arg(long)]
    idevid_roots: Vec<PathBuf>,
    /// A copy of the file `secrets/kek` of a lost host, or one that `kek export` wrote: makes a plant that stands in until that host's backup is
    /// restored with `touchstone restore`.
    #[arg(long)]
    kek: Option<PathBuf>,
    /// Node of etcd (3.4 or later) where the plant shall live instead of the folder, `https://host:2379`; may be given
    /// several times.
    #[arg(long, value_name = "URL")]
    etcd: Vec<String>,
    /// What the plant's keys in etcd begin with.
    #[arg(long, value_name = "TEXT", default_value = PREFIX, requires = "etcd")]
    etcd_prefix: String,
    /// PEM file with who signed the certificates of etcd's nodes.
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_certificate", "etcd_key"])]
    etcd_ca: Option<PathBuf>,
    /// PEM file with the broker's certificate for etcd.
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    etcd_certificate: Option<PathBuf>,
    /// PEM file with its key.
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    etcd_key: Option<PathBuf>,
}

impl InitArgs {
    /// Where the plant shall live.
    fn backend(&self) -> Backend {
        if self.etcd.is_empty() {
            return Backend::Sled;
        }
        let at = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let tls = match (&self.etcd_ca, &self.etcd_certificate, &self.etcd_key) {
            (Some(ca), Some(certificate), Some(key)) => {
                Some(EtcdTls { ca: at(ca), certificate: at(certificate), key: at(key) })
            }
            _ => None,
        };
        Backend::Etcd(EtcdOptions { endpoints: self.etcd.clone(), prefix: self.etcd_prefix.clone(), tls })
    }
}

#[derive(clap::Args)]
struct AnotherArgs {
    /// The folder of a broker of the plant.
    #[arg(long, default_value = "/var/lib/touchstone")]
    dir: PathBuf,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where the other broker shall listen, if not where this one does.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

#[derive(clap::Args)]
#[command(after_help = "\
The passphrase that `init` printed is read from standard input, with or without its blanks.
Devices notice nothing. A new issuing key ends the certificates of all other administrators: invite them again.
Example:
  systemctl stop touchstone-broker
  touchstone-broker recover --kit /media/usb/recovery-kit --owner ada --out ada-context
  systemctl start touchstone-broker")]
struct RecoverArgs {
    /// The broker's folder.
    #[arg(long, default_value = "/var/lib/touchstone")]
    dir: PathBuf,
    /// The folder `recovery-kit` that `init` made.
    #[arg(long, value_name = "DIR")]
    kit: PathBuf,
    /// Name of the new owner; an administrator of this name is replaced.
    #[arg(long, default_value = "owner")]
    owner: String,
    /// The context folder to make for the command line.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where the owner reaches the broker, if that is not where it listens.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Make a new issuing key, too. It is made in any case where the one there has ended or cannot be used.
    #[arg(long)]
    issuing_key: bool,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            drop(error.print());
            return code;
        }
    };
    let filter = EnvFilter::try_from_env("TOUCHSTONE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(FAILED, &error),
    };
    let code = match args.command {
        Command::Init(args) => runtime.block_on(run_init(args)),
        Command::Recover(args) => runtime.block_on(run_recover(args)),
        Command::Another(args) => run_another(args),
        Command::Kek(command) => kek_command::run(&command),
        Command::Run { dir } => runtime.block_on(run(dir)),
    };
    // Handlers that still run hold the store open; they get a moment, not more.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

async fn run_init(args: InitArgs) -> ExitCode {
    let store = args.backend();
    let request = Request {
        address: args.address.unwrap_or_else(|| args.listen.replace("0.0.0.0:", "127.0.0.1:")),
        dir: args.dir,
        plant: args.plant,
        listen: args.listen,
        owner: args.owner,
        kek: args.kek,
        store,
        tpm_roots: absolute(&args.tpm_roots),
        idevid_roots: absolute(&args.idevid_roots),
    };
    // What cannot be read then is told before anything is made.
    for (key, paths) in [(TPM_ROOTS, &request.tpm_roots), (IDEVID_ROOTS, &request.idevid_roots)] {
        match manufacturers::import(key, paths) {
            Ok((_, files)) => manufacturers::log(key, &files),
            Err(error) => return failed(USAGE, &error),
        }
    }
    let system = System::default();
    match init(&request, &system, &system).await {
        Ok(made) => {
            tell(&request, &made);
            ExitCode::SUCCESS
        }
        Err(error @ InitError::Exists(_)) => failed(USAGE, &error),
        Err(error) => failed(FAILED, &error),
    }
}

/// Paths that hold wherever the broker is started.
fn absolute(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect()
}

fn tell(request: &Request, made: &Made) {
    println!("plant          {}", request.plant);
    println!("plant root     {}", made.root_pin);
    println!("owner          {}  (for the command line: --context)", made.owner.display());
    println!("recovery kit   {}  (take it offline)", made.kit.display());
    println!("passphrase     {}", made.passphrase.as_str());
    println!();
    println!("The passphrase opens the recovery kit. It is shown once and stored nowhere: write it down.");
    println!("Next: touchstone-broker run --dir {}", request.dir.display());
    if request.kek.is_some() {
        println!("Then: touchstone --context {} restore FILE --yes", made.owner.display());
        println!(
            "It brings back the plant of the backup, with its root, owner and recovery kit; delete these."
        );
    }
}

async fn run_recover(args: RecoverArgs) -> ExitCode {
    let request = recover::Request {
        dir: args.dir,
        kit: args.kit,
        owner: args.owner,
        out: args.out,
        address: args.address,
        issuing_key: args.issuing_key,
    };
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        eprintln!("The passphrase of the recovery kit:");
    }
    let mut passphrase = Zeroizing::new(String::new());
    if let Err(error) = std::io::stdin().read_line(&mut passphrase) {
        return failed(FAILED, &error);
    }
    let system = System::default();
    match recover(&request, &passphrase, &system, &system).await {
        Ok(recovered) => {
            tell_recovered(&request, &recovered);
            ExitCode::SUCCESS
        }
        Err(
            error @ (RecoverError::Runs(_)
            | RecoverError::Config(_)
            | RecoverError::Kit(_)
            | RecoverError::OtherPlant { .. }
            | RecoverError::Exists(_)
            | RecoverError::Name(_)),
        ) => failed(USAGE, &error),
        Err(error) => failed(FAILED, &error),
    }
}

fn run_another(args: AnotherArgs) -> ExitCode {
    let request = another::Request { dir: args.dir, out: args.out, listen: args.listen };
    match another(&request, &System::default()) {
        Ok(kept) => {
            println!(
                "folder         {}  (carry it to the other host, as secret as this one's)",
                request.out.display()
            );
            println!("wrapping key   {kept}: it has to open there, too");
            println!("Next, there: touchstone-broker run --dir DIR");
            println!("Devices go to either: name both brokers in attestor.toml (`broker`, `other_brokers`).");
            ExitCode::SUCCESS
        }
        Err(
            error @ (AnotherError::Alone(_)
            | AnotherError::Exists(_)
            | AnotherError::Config(_)
            | AnotherError::Unusable(_)),
        ) => failed(USAGE, &error),
        Err(error) => failed(FAILED, &error),
    }
}

fn tell_recovered(request: &recover::Request, recovered: &Recovered) {
    println!(
        "owner          {}  in {}  (for the command line: --context)",
        request.owner,
        request.out.display()
    );
    if let Some(generation) = recovered.issuing {
        println!("issuing key    {generation}, new");
    }
    if !recovered.removed.is_empty() {
        println!("removed        {}", recovered.removed.join(", "));
        println!(
            "Their certificates ended with the former issuing key; invite them with `touchstone admin invite`."
        );
    }
    if !recovered.owners.is_empty() {
        println!("still owners   {}", recovered.owners.join(", "));
        println!("Remove whoever lost their key with `touchstone admin remove`.");
    }
    println!("Next: touchstone-broker run --dir {}", request.dir.display());
}

async fn run(dir: PathBuf) -> ExitCode {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("touchstone-broker: the system delivers no signals");
        return ExitCode::from(FAILED);
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    match serve(&dir, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (ServeError::Config(_) | ServeError::Roots(_))) => failed(USAGE, &error),
        Err(error) if matches!(&error, ServeError::Kek(kek) if kek.is_setting()) => failed(USAGE, &error),
        Err(error) => failed(FAILED, &error),
    }
}

/// Says why, the whole chain in one line.
fn failed(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("touchstone-broker: {}", chain(error));
    ExitCode::from(code)
}
