//! The table of `policy::checklist` names functions and tests that exist.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a table that cannot be read fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &str = include_str!("../src/checklist.rs");

struct Row {
    number: usize,
    /// Functions outside this crate; rustdoc itself holds the links to those inside.
    functions: Vec<&'static str>,
    tests: Vec<&'static str>,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["//!", number, check, places, tests, ""] = cells[..] else { panic!("not a row: {line}") };
        assert!(!check.is_empty(), "row {number}");
        let functions = places.split(", ").filter(|place| place.starts_with('`')).map(unquoted).collect();
        Row { number: number.parse().unwrap(), functions, tests: tests.split(", ").map(unquoted).collect() }
    };
    let is_row = |line: &&str| {
        line.strip_prefix("//! | ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    TABLE.lines().filter(is_row).map(row).collect()
}

fn unquoted(name: &'static str) -> &'static str {
    name.strip_prefix('`')
        .and_then(|name| name.strip_suffix('`'))
        .unwrap_or_else(|| panic!("not quoted: {name}"))
}

/// Where the source of `path`, a crate and modules, may lie.
fn candidates(path: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (of_crate, modules) = path.split_once("::").unwrap_or((path, ""));
    let modules = modules.replace("::", "/");
    // Tests of a module may lie in its own file.
    let inline = modules.strip_suffix("/tests").unwrap_or(&modules);
    let folders = match of_crate {
        "e2e" => vec![root.join("tests/suites")],
        of_crate => vec![root.join(of_crate).join("src"), root.join(of_crate).join("tests")],
    };
    let file = |folder: &PathBuf| {
        [&modules, inline].map(|path| [folder.join(format!("{path}.rs")), folder.join(path).join("mod.rs")])
    };
    folders.iter().flat_map(file).flatten().filter(|file| file.is_file()).collect()
}

/// The lines of the file that defines the function `path`, and the line on which it does.
#[expect(clippy::disallowed_methods, reason = "the table is about source files")]
fn definition(path: &str) -> Option<(Vec<String>, usize)> {
    let (module, name) = path.rsplit_once("::")?;
    let begins = format!("fn {name}(");
    let generic = format!("fn {name}<");
    candidates(module).iter().find_map(|file| {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = lines.iter().position(|line| line.contains(&begins) || line.contains(&generic))?;
        Some((lines, at))
    })
}

#[test]
fn every_row_is_there_once_with_a_check_and_a_test() {
    let rows = rows();
    let numbers: Vec<usize> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=36).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| !row.tests.is_empty()));
}

#[test]
fn every_function_and_test_of_the_table_exists() {
    let mut missing = Vec::new();
    for row in rows() {
        for function in row.functions {
            if definition(function).is_none() {
                missing.push(format!("row {}: no function {function}", row.number));
            }
        }
        for test in row.tests {
            let is_test = definition(test).is_some_and(|(lines, at)| {
                let above = lines[..at].iter().rev().take_while(|line| !line.trim().is_empty());
                above
                    .map(|line| line.trim())
                    .any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
            });
            if !is_test {
                missing.push(format!("row {}: no test {test}", row.number));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Source files below `folder`.
#[expect(clippy::disallowed_methods, reason = "the table is about source files")]
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_names_a_row_is_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["policy/src", "policy/tests", "broker/src", "attestor/src", "tests/suites"] {
        sources(&root.join(folder), &mut found);
    }
    let rows = rows();
    let mut seen = 0;
    for line in found.iter().flat_map(|text| text.lines()) {
        let after = line.split_once("fn row_").and_then(|(_, rest)| rest.split_once('_'));
        let Some((number, name)) = after else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        let name = format!("row_{number}_{}", name.split('(').next().unwrap());
        let row = rows.iter().find(|row| row.number == number);
        let is_listed = |row: &Row| row.tests.iter().any(|test| test.rsplit("::").next() == Some(&name));
        assert!(row.is_some_and(is_listed), "{name} is not in the table of row {number}");
        seen += 1;
    }
    assert!(seen > 60, "{seen} tests name a row");
}

#[test]
fn a_name_that_does_not_exist_is_found_missing() {
    assert!(definition("policy::evidence_suite::quote::row_1_another_magic_is_refused").is_some());
    assert!(definition("policy::evidence_suite::quote::row_1_was_renamed").is_none());
    assert!(definition("policy::evidence_suite::gone::row_1_another_magic_is_refused").is_none());
}
