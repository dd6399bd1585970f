//! What a technician asks first on a device that is not trusted: does everything that the attestor needs work here?
//!
//! Promises: it looks at everything even when something fails; each finding names what was found and what to do; it changes
//! nothing, neither in the TPM nor on disk. Does not promise that the broker will accept the device: what it booted is
//! judged there.

mod idevid;
mod images;
mod local;
mod measured;
mod network;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::Serialize;

use crate::bootstrap::Sources;
use crate::config::{Config, ConfigError, Local, Origins, Outline};
use crate::evidence::{Prover, ProverError};
use crate::plant::PlantRoot;
use crate::ports::System;
use crate::tpm::{EsapiTpm, TpmAddress, TpmHandle};

/// Version of the report's form.
const SCHEMA: u32 = 1;

/// What a look at the device found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    schema: u32,
    findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What was found and, unless it is good, what to do.
    found: String,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// The attestor works, and somebody should know.
    Warning,
    /// The device cannot be trusted like this.
    Fault,
    /// It could not be looked at, because of a fault elsewhere.
    Unknown,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Fault => "fault",
            Self::Unknown => "unknown",
        }
    }
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Display) -> Self {
        Self { check, verdict, found: found.to_string() }
    }

    fn good(check: &'static str, found: impl Display) -> Self {
        Self::new(check, Verdict::Good, found)
    }

    fn warning(check: &'static str, found: impl Display) -> Self {
        Self::new(check, Verdict::Warning, found)
    }

    fn fault(check: &'static str, found: impl Display) -> Self {
        Self::new(check, Verdict::Fault, found)
    }

    fn unknown(check: &'static str, found: impl Display) -> Self {
        Self::new(check, Verdict::Unknown, found)
    }
}

impl Report {
    /// Looks at the device that the configuration in `file` describes.
    pub async fn of(file: &Path) -> Self {
        let mut findings = match Config::load(file) {
            Ok(config) => look(&config).await,
            Err(error) => in_spite_of(&error, file).await,
        };
        findings.extend(geteuid().is_root().then(|| as_root(file)));
        Self { schema: SCHEMA, findings }
    }

    /// Whether nothing stands in the way of trust.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.verdict, Verdict::Good | Verdict::Warning))
    }

    /// For people, one line for each finding.
    #[must_use]
    pub fn describe(&self) -> String {
        let line = |finding: &Finding| {
            let Finding { check, verdict, found } = finding;
            format!("{:8} {check:16} {found}\n", verdict.as_str())
        };
        self.findings.iter().map(line).collect()
    }
}

/// What can be looked at with a configuration that has a fault, or before the device was told whom to believe.
async fn in_spite_of(error: &ConfigError, file: &Path) -> Vec<Finding> {
    let mut findings = vec![Finding::fault("configuration", error)];
    if let Ok(outline) = Outline::read(file, &Sources::of_machine()) {
        let broker = outline.broker();
        if let Ok(Local { tpm: Some(address), .. }) = outline.local() {
            findings.extend(tpm_alone(&address).await);
        }
        if let Some(broker) = broker {
            findings.push(network::name(&broker).await);
        }
    }
    findings
        .push(Finding::unknown("everything else", "the configuration says where it is; correct that first"));
    findings
}

async fn tpm_alone(address: &TpmAddress) -> Vec<Finding> {
    let tpm = match TpmHandle::start(EsapiTpm::new(address.clone())) {
        Ok(tpm) => tpm,
        Err(error) => return vec![Finding::fault("tpm", format!("the system refused a thread: {error}"))],
    };
    match Prover::new(tpm, PathBuf::new()).await {
        Ok(prover) => vec![access(address, &prover), endorsement(&prover)],
        Err(error) => vec![Finding::fault("tpm", error)],
    }
}

async fn look(config: &Config) -> Vec<Finding> {
    let root = PlantRoot::load(&config.plant_root);
    let Origins { broker, plant_root, token } = &config.origins;
    let mut found =
        format!("it can be used: broker {} from {broker}, plant root from {plant_root}", config.broker);
    if config.join_token_file.is_some() {
        found.push_str(&format!(", join token from {token}"));
    }
    let mut findings = vec![Finding::good("configuration", found)];
    findings.push(match &root {
        Ok(root) => Finding::good("plant root", format!("pinned, SHA-256 of its key {}", root.spki_digest())),
        Err(error) => Finding::fault("plant root", error),
    });
    findings.extend(tpm(config).await);
    findings.extend(idevid::look(config, &System::default()).await);
    if let Some(named) = &config.images {
        findings.push(images::of_images(named).await);
    }
    findings.extend(local::look(config, root.as_ref().ok(), &System::default()));
    for broker in [&config.broker].into_iter().chain(&config.other_brokers) {
        findings.push(network::name(broker).await);
    }
    let broker = network::broker(config, root.ok()).await;
    // What says more of the same replaces it.
    findings.retain(|finding| broker.iter().all(|other| other.check != finding.check));
    findings.extend(broker);
    findings
}

/// What root may read, the daemon's user may not.
fn as_root(file: &Path) -> Finding {
    let found = format!(
        "TPM, logs and images were read as root, which says nothing of the attestor's user; look as that user too: runuser \
         -u touchstone-attestor -- touchstone-attestor doctor --config {}",
        file.display()
    );
    Finding::warning("user", found)
}

async fn tpm(config: &Config) -> Vec<Finding> {
    let Some(address) = &config.tpm else {
        return vec![Finding::warning(
            "tpm",
            "no TPM is used, as configured: keys are files and can be copied",
        )];
    };
    let tpm = match TpmHandle::start(EsapiTpm::new(address.clone())) {
        Ok(tpm) => tpm,
        Err(error) => return vec![Finding::fault("tpm", format!("the system refused a thread: {error}"))],
    };
    match Prover::new(tpm, config.firmware_log.clone()).await {
        Ok(prover) => {
            let mut findings = vec![access(address, &prover), endorsement(&prover)];
            findings.extend(measured::look(prover.tpm(), config).await);
            findings
        }
        Err(error) => absent(&error),
    }
}

fn access(address: &TpmAddress, prover: &Prover) -> Finding {
    let firmware = prover.endorsement().firmware_version;
    let found = format!("{address} answers, firmware {firmware:#018x}");
    match address {
        TpmAddress::Device(path) if !path.to_string_lossy().contains("tpmrm") => Finding::warning(
            "tpm",
            format!("{found}; it serves one program at a time: use /dev/tpmrm0, which several can share"),
        ),
        _ => Finding::good("tpm", found),
    }
}

fn endorsement(prover: &Prover) -> Finding {
    let template = prover.endorsement_key().template.name();
    match prover.endorsement_key().certificate {
        Some(_) => Finding::good("endorsement key", format!("{template}, with a certificate")),
        None => Finding::warning(
            "endorsement key",
            format!(
                "{template}, and the TPM stores no certificate for it: have an administrator register what \
                 `touchstone-attestor identify` prints"
            ),
        ),
    }
}

fn absent(error: &ProverError) -> Vec<Finding> {
    let blind = |check| Finding::unknown(check, "the TPM has to answer first");
    let others = ["endorsement key", "pcr banks", "firmware log", "ima"].map(blind);
    [Finding::fault("tpm", error)].into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests;
