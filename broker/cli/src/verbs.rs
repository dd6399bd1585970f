//! Every command is one that changes something, and then it can be asked about first, or one that does not.

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// What changes the broker, or what it is asked with. Each has `--dry-run`.
const CHANGERS: &[&str] = &[
    "admin invite",
    "admin remove",
    "admin renew",
    "admin role",
    "change approve",
    "change reject",
    "conduit allow",
    "conduit close",
    "context add",
    "context remove",
    "context use",
    "device admit",
    "device attest",
    "device expect-clear",
    "device import",
    "device quarantine",
    "device readmit",
    "golden activate",
    "golden apply",
    "golden deprecate",
    "golden key add",
    "golden key remove",
    "golden key rotate",
    "golden key threshold",
    "golden retire",
    "golden rollback",
    "golden rollout halt",
    "golden rollout resume",
    "golden want",
    "golden withdraw",
    "override",
    "restore",
    "sbom add",
    "sbom remove",
    "token create",
    "zone create",
    "zone enforce",
    "zone observe",
    "zone set",
];

/// What changes nothing but a file that is named for it, and what needs no forecast: an invitation accepted.
const READERS: &[&str] = &[
    "admin accept",
    "admin list",
    "appraise",
    "audit export",
    "audit list",
    "audit seal",
    "audit verify",
    "authority jwks",
    "authority list",
    "backup",
    "change list",
    "change show",
    "completion",
    "conduit list",
    "context list",
    "context show",
    "device list",
    "device result",
    "device show",
    "device why",
    "exposure",
    "golden attach",
    "golden key list",
    "golden learn",
    "golden list",
    "golden payload",
    "golden plan",
    "golden predict",
    "golden rollout status",
    "golden show",
    "golden sign",
    "inspect ek",
    "inspect eventlog",
    "inspect ima",
    "inspect roots",
    "inspect secureboot",
    "man",
    "sbom list",
    "sbom show",
    "status",
    "zone list",
    "zone show",
];

fn walk<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
    for verb in command.get_subcommands() {
        let path = format!("{path} {}", verb.get_name()).trim_start().to_owned();
        match verb.has_subcommands() {
            true => walk(verb, &path, found),
            false => found.push((path, verb)),
        }
    }
}

#[test]
fn every_command_reads_or_can_be_tried() {
    let tool = Cli::command();
    let mut found = Vec::new();
    walk(&tool, "", &mut found);
    let mut faults = Vec::new();
    for (path, verb) in &found {
        let tries = verb.get_arguments().any(|argument| argument.get_id() == "dry_run");
        match (CHANGERS.contains(&path.as_str()), READERS.contains(&path.as_str())) {
            (true, false) if !tries => {
                faults.push(format!("`{path}` changes something and has no --dry-run"))
            }
            (false, true) if tries => faults.push(format!("`{path}` has --dry-run: move it to CHANGERS")),
            (true, false) | (false, true) => {}
            _ => faults.push(format!("`{path}`: put it into CHANGERS or READERS of verbs.rs")),
        }
    }
    let gone = CHANGERS.iter().chain(READERS).filter(|path| !found.iter().any(|(found, _)| found == *path));
    faults.extend(gone.map(|path| format!("`{path}` is no command any more; take it off the list")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
