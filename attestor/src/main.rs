//! The daemon touchstone-attestor: command line, runtime, exit code.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::time::Duration;

use attestor::commands::{self, CommandError, Format};
use attestor::config::{DEFAULT_FILE, RawGate};
use attestor::tpm::TpmAddress;
use clap::{Parser, Subcommand, ValueEnum};
use policy::id::{ServiceName, ZoneName};

/// Proves with the TPM what this device booted, and delivers its certificates to local software.
#[derive(Parser)]
#[command(name = "touchstone-attestor", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon: enroll, attest, renew and deliver until stopped.
    Run {
        /// Configuration file.
        #[arg(long, default_value = DEFAULT_FILE)]
        config: PathBuf,
    },
    /// Show where this device stands. Exit code 0: trusted or holding, and the attestor runs, listens where it should, and no
    /// hook fails; 1: anything else.
    Status {
        /// Configuration file.
        #[arg(long, default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Run one gate beside the daemon: a proxy between mutual TLS and software on this device that knows no TLS. The daemon
    /// runs those that its configuration names (`[[gate]]`) itself.
    #[command(after_help = "\
Examples:
  touchstone-attestor gate --role server --service modbus --listen 0.0.0.0:8502 --connect 127.0.0.1:502
  touchstone-attestor gate --role client --service modbus --listen 127.0.0.1:502 --connect plc.example:8502 --peer plc-1.cell-3")]
    Gate {
        #[command(flatten)]
        gate: RawGate,
        /// Configuration file.
        #[arg(long, default_value = DEFAULT_FILE)]
        config: PathBuf,
    },
    /// Say whether a peer may open a service of this device, from what the broker delivered; asks no broker. Exit code
    /// 0: it may; 1: it may not.
    #[command(after_help = "Example: touchstone-attestor authorize --peer-cert peer.pem --service opcua")]
    Authorize {
        /// The certificate that the peer showed, PEM or DER.
        #[arg(long, value_name = "FILE")]
        peer_cert: PathBuf,
        /// The service.
        #[arg(long)]
        service: ServiceName,
        /// The zone of this device, where several have the service; without it, the one that it has been in longest.
        #[arg(long)]
        zone: Option<ZoneName>,
        /// This device opens the service of the peer, whose certificate is that of a server.
        #[arg(long)]
        outbound: bool,
        /// A grant that the peer brought along.
        #[arg(long, value_name = "FILE")]
        grant: Option<PathBuf>,
        /// Configuration file.
        #[arg(long, default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Look at everything that the attestor needs, and say what to do about what does not work. Changes nothing. Exit code
    /// 0: nothing stands in the way; 1: something does.
    #[command(after_help = "Example: touchstone-attestor doctor -o json")]
    Doctor {
        /// Configuration file.
        #[arg(long, default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make the disk forget which device it was, before it is copied to others. The configuration and the TPM stay as they
    /// are; the device enrolls again when its attestor starts.
    #[command(
        after_help = "Example: systemctl stop touchstone-attestor && touchstone-attestor reset --dry-run"
    )]
    Reset {
        /// Configuration file.
        #[arg(long, default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// Say what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show who this device is by its TPM, for an administrator to register. Needs no broker.
    Identify {
        /// Address of the TPM, for example device:/dev/tpmrm0.
        #[arg(long, conflicts_with = "config")]
        tpm: Option<TpmAddress>,
        /// Configuration file that names the TPM.
        #[arg(long)]
        config: Option<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

impl From<Output> for Format {
    fn from(output: Output) -> Self {
        match output {
            Output::Text => Self::Text,
            Output::Json => Self::Json,
        }
    }
}

/// How long the end waits for a thread that works for nobody any more.
const LAST_STEP: Duration = Duration::from_secs(1);
/// Bad usage of the command line (sysexits.h, EX_USAGE).
const USAGE: u8 = 64;
/// What libtss2 writes to standard error by itself; read once, when the process starts.
const LIBTSS2_LOG: &str = "TSS2_LOG";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            drop(error.print());
            return code;
        }
    };
    silence_libtss2();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(finish(arguments.command));
            // A file system that hangs keeps its thread, and must not keep the process.
            runtime.shutdown_timeout(LAST_STEP);
            code
        }
        Err(error) => {
            eprintln!("touchstone-attestor: the system refused threads: {error}; see its limits");
            ExitCode::FAILURE
        }
    }
}

/// Our errors say in one line what libtss2 says in three, so it is kept quiet. It reads its environment only at
/// start, and a running process must not change its own: the program is executed anew in the same process.
fn silence_libtss2() {
    if std::env::var_os(LIBTSS2_LOG).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // It returns only if it failed, and then the only loss is some noise.
        let _ = process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(LIBTSS2_LOG, "all+NONE")
            .exec();
    }
}

async fn finish(command: Command) -> ExitCode {
    let result = execute(command).await;
    match result {
        Ok((text, code)) => {
            // A reader that has gone has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("touchstone-attestor: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn execute(command: Command) -> Result<(String, u8), CommandError> {
    match command {
        Command::Run { config } => commands::run(&config).await.map(|()| (String::new(), 0)),
        Command::Gate { gate, config } => commands::gate(&config, &gate).await.map(|()| (String::new(), 0)),
        Command::Status { config, output } => commands::status(&config, output.into()),
        Command::Authorize { peer_cert, service, zone, outbound, grant, config, output } => {
            let asked = commands::Asked { peer_cert, service, zone, outbound, grant };
            commands::authorize(&config, &asked, output.into())
        }
        Command::Doctor { config, output } => Ok(commands::doctor(&config, output.into()).await),
        Command::Reset { config, dry_run } => commands::reset(&config, dry_run).map(|text| (text, 0)),
        Command::Identify { tpm, config, output } => {
            commands::identify(tpm, config, output.into()).await.map(|text| (text, 0))
        }
    }
}
