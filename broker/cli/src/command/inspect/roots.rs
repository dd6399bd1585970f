//! `touchstone inspect roots`: what files of manufacturers' certificates hold, before a broker is told of them.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use policy::cause::chain;
use policy::evidence::endorsement::{Added, Imported, Outcome};
use serde::Serialize;

use crate::failure::Result;
use crate::output::{Page, Report, Session, View, words};
use crate::roots::Roots;

/// Which files.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 there are certificates, 2 there are none or a path cannot be read.
Microsoft's TrustedTpm.cab is read as it is; verify its signature first, it is not verified here.
Example: touchstone inspect roots TrustedTpm.cab")]
pub(crate) struct RootsArgs {
    /// Certificates of manufacturers: PEM bundles, DER files, Microsoft's TrustedTpm.cab, or folders of them
    #[arg(value_name = "FILE_OR_DIR", required = true)]
    paths: Vec<PathBuf>,
}

/// What the files hold together and each.
#[derive(Debug, Serialize)]
struct RootsView {
    roots: usize,
    intermediates: usize,
    files: Vec<FileView>,
}

/// One file: how many certificates were new, and what was left out.
#[derive(Debug, Serialize)]
struct FileView {
    file: String,
    roots: usize,
    intermediates: usize,
    known: usize,
    refused: Vec<String>,
    passed_over: Vec<String>,
}

impl FileView {
    fn new(file: &Imported) -> Self {
        let none = Added::default();
        let (added, refused, passed_over) = match &file.outcome {
            Outcome::Added(added) => {
                (added, added.refused.iter().map(|e| chain(e)).collect(), added.passed_over.clone())
            }
            Outcome::Refused(error) => (&none, vec![chain(error)], Vec::new()),
            Outcome::PassedOver => (&none, Vec::new(), vec![file.label.clone()]),
        };
        Self {
            file: file.label.clone(),
            roots: added.anchors,
            intermediates: added.intermediates,
            known: added.known,
            refused,
            passed_over,
        }
    }
}

impl View for RootsView {
    fn text(&self, _page: &Page) -> String {
        let mut text = String::new();
        for file in &self.files {
            let FileView { file, roots, intermediates, known, refused, passed_over } = file;
            let (refused, passed_over) = (refused.len(), passed_over.len());
            let _ = writeln!(
                text,
                "{}: {roots} roots, {intermediates} intermediates, {known} known before, {refused} refused, \
                 {passed_over} passed over",
                words::visible(file)
            );
        }
        let _ = writeln!(text, "together: {} roots, {} intermediates", self.roots, self.intermediates);
        text
    }
}

/// Reads the files and tells what became of each.
pub(super) fn run(args: &RootsArgs, session: &Session) -> Result<Report> {
    let roots = Roots::load(&args.paths)?;
    let view = RootsView {
        roots: roots.store.anchors(),
        intermediates: roots.store.intermediates(),
        files: roots.files.iter().map(FileView::new).collect(),
    };
    Ok(roots.left_out().fold(session.report(&view)?, Report::aside))
}
