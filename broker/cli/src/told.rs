//! Every command that a text of the project tells somebody to run is one that this tool takes: refusals and remedies in the
//! sources, and the documents. Examples of the help are [`verbs`](crate::verbs)' matter.

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::StringValueParser;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};

use crate::args::Cli;
use crate::verbs::words;

/// Rooms whose sources tell commands.
const SOURCES: [&str; 5] = ["policy/src", "proto/src", "broker/src", "broker/cli/src", "attestor/src"];
/// Documents, and folders of them.
const DOCUMENTS: [&str; 6] =
    ["README.md", "SECURITY.md", "ARCHITECTURE.md", "broker", "attestor/METRICS.md", "deploy"];
/// Fewer are found only if they are not looked for where they stand.
const AT_LEAST: usize = 300;

/// A command line, and where it stands.
struct Told {
    file: PathBuf,
    line: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files below `place`, or `place` itself, with one of these endings; tests and generated code left out.
fn files(place: &Path, endings: &[&str]) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let left_out = ["tests", "tests.rs", "gen", "target", "told.rs"];
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| !left_out.iter().any(|name| path.ends_with(name)));
    let ends = |path: &Path| path.extension().is_some_and(|found| endings.iter().any(|end| found == *end));
    entries.filter(|path| path.is_dir() || ends(path)).flat_map(|path| files(&path, endings)).collect()
}

/// What stands in `text` after each of `begin`, up to one of `ends`.
fn between<'a>(text: &'a str, begin: &str, ends: &'a [char]) -> impl Iterator<Item = &'a str> {
    let found = text.match_indices(begin).map(|(at, _)| at + begin.len() - "touchstone ".len());
    found.collect::<Vec<_>>().into_iter().map(move |at| text[at..].split(ends).next().unwrap())
}

/// Commands in strings: between backticks, as the whole of it, or at its end.
fn in_source(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let joined =
        code.map(|line| line.trim().strip_suffix('\\').map_or(format!("{}\n", line.trim()), str::to_owned));
    let text = joined.collect::<String>().replace("\\\"", "'").replace("\\n", "\n");
    let marked = between(&text, "`touchstone ", &['`']);
    let whole =
        ["\"touchstone ", ": touchstone "].into_iter().flat_map(|begin| between(&text, begin, &['"', '\n']));
    marked.chain(whole).map(str::to_owned).collect()
}

/// Commands in documents: between backticks, and in blocks of a shell.
fn in_document(text: &str) -> Vec<String> {
    let parts = text.split("```\n").enumerate();
    let (blocks, prose): (Vec<_>, Vec<_>) = parts.partition(|(at, _)| at % 2 == 1);
    let prose = prose.iter().flat_map(|(_, text)| between(text, "`touchstone ", &['`']));
    let prose = prose.map(|command| command.replace('\n', " "));
    let blocks: String = blocks.iter().map(|(_, block)| block.replace("\\\n", " ")).collect();
    let commands = blocks.lines().flat_map(|line| line.split(" # ").next().unwrap().split(" && "));
    let commands = commands.map(str::trim).filter(|command| command.starts_with("touchstone "));
    prose.chain(commands.map(str::to_owned)).collect()
}

fn told() -> Vec<Told> {
    let root = root();
    let read = |place: &str, endings: &[&str], find: fn(&str) -> Vec<String>| -> Vec<Told> {
        let of = |file: PathBuf| {
            let lines = find(&fs::read_to_string(&file).unwrap());
            lines.into_iter().map(move |line| Told { file: file.clone(), line })
        };
        files(&root.join(place), endings).into_iter().flat_map(of).collect()
    };
    let sources = SOURCES.iter().flat_map(|place| read(place, &["rs"], in_source));
    let documents = ["md", "toml", "service", "conf", "rules"];
    sources.chain(DOCUMENTS.iter().flat_map(|place| read(place, &documents, in_document))).collect()
}

/// Whether it stands for something else: `{name}`, `NAME`, `sha256:...`.
fn is_placeholder(word: &str) -> bool {
    let capital = |c: char| c.is_ascii_uppercase() || "@_|/.".contains(c);
    word.contains('{') || word.contains("...") || word.contains('…') || word.chars().all(capital)
}

/// The same command line, which takes any text as a value.
fn lenient(command: Command) -> Command {
    let any = |arg: clap::Arg| match arg.get_action().takes_values() {
        true => arg.value_parser(StringValueParser::new()),
        false => arg,
    };
    command.mut_args(any).mut_subcommands(lenient)
}

/// Whether it only names a command.
fn is_name(words: &[String]) -> bool {
    let mut command = Some(Cli::command());
    for word in words {
        command = command.and_then(|command| command.find_subcommand(word).cloned());
    }
    command.is_some()
}

fn fault(line: &str) -> Option<clap::Error> {
    // There another program or an explanation begins.
    let ends = [" | ", " > ", "; ", "  "];
    let line = ends.iter().fold(line, |line, end| line.split(end).next().unwrap());
    let words = words(line);
    if is_name(&words[1..]) {
        return None;
    }
    let taken = match words.iter().any(|word| is_placeholder(word)) {
        true => lenient(Cli::command()).try_get_matches_from(words).map(drop),
        false => Cli::try_parse_from(words).map(drop),
    };
    taken.err().filter(|error| error.kind() != ErrorKind::DisplayHelp)
}

#[test]
fn every_command_that_is_told_can_be_run() {
    let told = told();
    assert!(told.len() >= AT_LEAST, "only {} commands were found", told.len());
    let faults = told.iter().filter_map(|Told { file, line }| {
        let error = fault(line)?;
        Some(format!("{}: `{line}`: {}", file.display(), error.to_string().lines().next().unwrap()))
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_flag_or_value_that_is_gone_is_noticed() {
    for (line, kind) in [
        ("touchstone conduit permit --from {from}", ErrorKind::InvalidSubcommand),
        ("touchstone conduit allow --from {from} --into ZONE --service opcua", ErrorKind::UnknownArgument),
        ("touchstone zone create cell-3 --function smelting", ErrorKind::ValueValidation),
        ("touchstone device move press-7 cell-4", ErrorKind::UnknownArgument),
    ] {
        assert_eq!(fault(line).map(|error| error.kind()), Some(kind), "{line}");
    }
    let replace = format!("touchstone device replace press-7 --ek sha256:{}", "ab".repeat(32));
    let short = ["touchstone authority prepare cell-3", "touchstone device retire press-7", &replace];
    for line in ["touchstone device replace", "touchstone device why NAME", "touchstone zone show {zone}"]
        .into_iter()
        .chain(short)
    {
        assert!(fault(line).is_none(), "{line}");
    }
}
