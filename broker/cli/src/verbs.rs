//! Every command is one that changes something, and then it can be asked about first, or one that does not; and every
//! command shows in its help how it is called.

use clap::{Command, CommandFactory, Parser};

use crate::args::Cli;

/// What changes the broker, or what it is asked with. Each has `--dry-run`.
const CHANGERS: &[&str] = &[
    "admin invite",
    "admin remove",
    "admin renew",
    "admin role",
    "authority activate",
    "authority distrust",
    "authority rotate",
    "change approve",
    "change reject",
    "conduit allow",
    "conduit close",
    "context add",
    "context remove",
    "context use",
    "device address add",
    "device address remove",
    "device admit",
    "device attest",
    "device expect-clear",
    "device import",
    "device move",
    "device quarantine",
    "device readmit",
    "device replace",
    "device retire",
    "device vouch accept",
    "device vouch drop",
    "drill compromised-credential",
    "drill corrupted-update",
    "drill delay",
    "drill end",
    "drill link-loss",
    "drill reboot",
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
    "token revoke",
    "zone apply",
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
    "calendar",
    "change list",
    "change show",
    "completion",
    "conduit list",
    "conduit why",
    "context list",
    "context show",
    "device list",
    "device result",
    "device show",
    "device vouch list",
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
    "token list",
    "zone check",
    "zone export",
    "zone list",
    "zone plan",
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

/// The command lines of this tool in a help text.
fn examples(help: &str) -> Vec<Vec<String>> {
    let whole = help.replace("\\\n", " ").replace("sha256:…", &format!("sha256:{}", "ab".repeat(32)));
    // What stands between backticks is told, not shown.
    let lines =
        whole.lines().flat_map(|line| line.split("touchstone ").zip(line.split("touchstone ").skip(1)));
    let lines = lines.filter(|(before, _)| !before.ends_with('`')).map(|(_, line)| line);
    // A command line ends where another program or the explanation begins.
    let ends = [" && ", " | ", " > ", ")", "  "];
    let cut = |line: &str| {
        ends.iter().fold(line.to_owned(), |line, end| line.split(end).next().unwrap().to_owned())
    };
    lines.map(|line| words(&cut(line.trim_end()))).collect()
}

/// The words of a command line, as a shell takes them apart.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote, mut open) = (vec![String::new()], None, false);
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (' ', None) if open => words.push(String::new()),
            (' ', None) => continue,
            (c, _) => words.last_mut().unwrap().push(c),
        }
        open = c != ' ' || quote.is_some();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_help_has_an_example_that_can_be_called() {
    let tool = Cli::command();
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    walk(&tool, "", &mut found);
    for (path, verb) in &found {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let own: Vec<&str> = path.split(' ').collect();
        let examples = examples(&help);
        if !examples.iter().any(|words| words.windows(own.len()).any(|part| part == own)) {
            faults.push(format!("`{path}` has no example"));
        }
        for words in examples.iter().filter(|words| words.len() > 1) {
            let line = std::iter::once("touchstone").chain(words.iter().map(String::as_str));
            if let Err(error) = Cli::try_parse_from(line) {
                faults.push(format!("`{path}`: {words:?}: {error}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
