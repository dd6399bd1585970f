//! `touchstone zone check|export|plan|apply`: zones and conduits as a whole.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use policy::digest::Digest;
use policy::zone::document;
use proto::v1::{
    ApplyGraphRequest, Conduit, FlatSpot, GetGraphRequest, GetGraphResponse, GraphChange, PlanGraphRequest,
    ZoneFields,
};
use serde::Serialize;

use super::super::conduit::ConduitView;
use super::losing::{LongerView, LosesView, losing};
use super::outside::OutsideView;
use super::peers::{CallersView, LaterView, PeersView};
use super::picture::{Language, draw};
use crate::args::DryRun;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::{Page, Report, Session, View, agree, words};

/// Refused conduits, and certificates with other addresses, that a person reads of; programs get all that the broker named.
const SHOWN: usize = 20;
/// Characters by which a plan is known.
const ID: usize = 16;

/// Which file.
#[derive(Debug, Args)]
#[command(after_help = "Example: touchstone zone plan zones.toml")]
pub(crate) struct PlanArgs {
    /// Zones and conduits of the whole plant as TOML, for example from `zone export`; - is standard input
    file: PathBuf,
}

/// Which file, and whether to ask.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is the whole graph: zones and conduits that it leaves out are removed. A zone with devices is not.
With --plan, nothing changes if zones, conduits or the file are others than that plan was of.
Example: touchstone zone export > zones.toml; edit it; touchstone zone apply zones.toml
  touchstone zone apply zones.toml --plan 9f86d081884c7d65 --yes")]
pub(crate) struct ApplyArgs {
    /// Zones and conduits of the whole plant as TOML; - is standard input, and then say --yes
    file: PathBuf,
    /// Make conduits although the devices of their zone offer other services and not theirs yet
    #[arg(long)]
    unoffered: bool,
    /// Apply the change of this `zone plan`, and refuse if zones, conduits or the file moved since
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    plan: Option<String>,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

async fn graph(session: &Session) -> Result<GetGraphResponse> {
    let answer = session.client().await?.get_graph(GetGraphRequest {}).await;
    answer.map(|answer| answer.into_inner()).map_err(|status| failed(&status))
}

/// A flat spot as it is shown.
#[derive(Debug, Serialize)]
struct SpotView {
    kind: String,
    serious: bool,
    zones: Vec<String>,
    about: String,
    sentence: String,
}

impl From<FlatSpot> for SpotView {
    fn from(spot: FlatSpot) -> Self {
        let FlatSpot { kind, serious, zones, about, sentence } = spot;
        Self { kind, serious, zones, about, sentence }
    }
}

#[derive(Debug, Serialize)]
struct Spots {
    serious: usize,
    spots: Vec<SpotView>,
}

impl From<Vec<FlatSpot>> for Spots {
    fn from(spots: Vec<FlatSpot>) -> Self {
        let spots: Vec<SpotView> = spots.into_iter().map(Into::into).collect();
        Self { serious: spots.iter().filter(|spot| spot.serious).count(), spots }
    }
}

impl View for Spots {
    fn text(&self, _page: &Page) -> String {
        if self.spots.is_empty() {
            return "no flat spots\n".to_owned();
        }
        let mut text = String::new();
        for spot in &self.spots {
            let mark = if spot.serious { "serious" } else { "look" };
            let _ = writeln!(text, "{mark:<8} {:<16} {}", spot.kind, words::visible(&spot.sentence));
        }
        text
    }
}

/// Finds flat spots.
pub(super) async fn check(session: &Session) -> Result<Report> {
    let spots = Spots::from(graph(session).await?.spots);
    let exit = if spots.serious > 0 { Exit::NeedsYou } else { Exit::Done };
    Ok(session.report(&spots)?.ending(exit))
}

#[derive(Debug, Serialize)]
struct Exported {
    document: String,
}

impl View for Exported {
    fn text(&self, _page: &Page) -> String {
        self.document.clone()
    }
}

/// Writes the graph as a file.
pub(super) async fn export(session: &Session) -> Result<Report> {
    session.report(&Exported { document: graph(session).await?.document })
}

#[derive(Debug, Serialize)]
struct Picture {
    picture: String,
}

impl View for Picture {
    fn text(&self, _page: &Page) -> String {
        self.picture.clone()
    }
}

/// Draws the graph, or what touches one zone.
pub(super) async fn picture(language: Language, zone: Option<&str>, session: &Session) -> Result<Report> {
    let mut graph = graph(session).await?;
    if let Some(name) = zone {
        graph.conduits.retain(|conduit| conduit.from == name || conduit.to == name);
        let touches = |other: &str| {
            other == name || graph.conduits.iter().any(|one| one.from == other || one.to == other)
        };
        graph.zones.retain(|zone| touches(&zone.name));
        if graph.zones.is_empty() {
            let what = format!("there is no zone {name} in your sight");
            return Err(Failure::new(Exit::Negative, what).next("see `touchstone zone list`"));
        }
    }
    session.report(&Picture { picture: draw(language, &graph) })
}

/// What is another of a changed zone, each as `field: old -> new`.
#[derive(Debug, Serialize)]
struct FieldsView {
    zone: String,
    fields: Vec<String>,
}

impl From<ZoneFields> for FieldsView {
    fn from(ZoneFields { zone, fields }: ZoneFields) -> Self {
        Self { zone, fields }
    }
}

/// What a file changes.
#[derive(Debug, Serialize)]
struct ChangeView {
    applied: bool,
    /// Which plan this is: the same for the same file and the same zones and conduits as they were.
    plan: String,
    zones_made: Vec<String>,
    zones_changed: Vec<String>,
    zones_removed: Vec<String>,
    conduits_made: Vec<ConduitView>,
    conduits_changed: Vec<ConduitView>,
    conduits_removed: Vec<ConduitView>,
    #[serde(flatten)]
    peers: PeersView,
    /// When conduits open or close next as they did not before.
    later: Vec<LaterView>,
    later_left_out: u32,
    /// The other side: who opens what is gained and lost.
    callers: Vec<CallersView>,
    spots: Vec<SpotView>,
    loses: Vec<LosesView>,
    loses_left_out: u32,
    unoffered: Vec<String>,
    unoffered_left_out: u32,
    fields: Vec<FieldsView>,
    longer: Vec<LongerView>,
    outside: Vec<OutsideView>,
    outside_left_out: u32,
    /// In how many it is made; what is new comes with the last.
    steps: u32,
}

impl ChangeView {
    fn new(applied: bool, plan: String, change: GraphChange) -> Self {
        let conduits = |all: Vec<Conduit>| all.into_iter().map(Into::into).collect();
        Self {
            applied,
            plan,
            zones_made: change.zones_made,
            zones_changed: change.zones_changed,
            zones_removed: change.zones_removed,
            conduits_made: conduits(change.conduits_made),
            conduits_changed: conduits(change.conduits_changed),
            conduits_removed: conduits(change.conduits_removed),
            peers: PeersView::new(
                (change.gained, change.gained_left_out),
                (change.lost, change.lost_left_out),
            ),
            later: change.later.into_iter().map(Into::into).collect(),
            later_left_out: change.later_left_out,
            callers: change.callers.into_iter().map(Into::into).collect(),
            spots: change.spots.into_iter().map(Into::into).collect(),
            loses: change.loses.into_iter().map(Into::into).collect(),
            loses_left_out: change.loses_left_out,
            unoffered: change.unoffered,
            unoffered_left_out: change.unoffered_left_out,
            fields: change.fields.into_iter().map(Into::into).collect(),
            longer: change.longer.into_iter().map(Into::into).collect(),
            outside: change.outside.into_iter().map(Into::into).collect(),
            outside_left_out: change.outside_left_out,
            steps: change.steps,
        }
    }

    fn is_empty(&self) -> bool {
        let zones = [&self.zones_made, &self.zones_changed, &self.zones_removed];
        let conduits = [&self.conduits_made, &self.conduits_changed, &self.conduits_removed];
        zones.iter().all(|all| all.is_empty()) && conduits.iter().all(|all| all.is_empty())
    }
}

impl View for ChangeView {
    fn text(&self, page: &Page) -> String {
        if self.is_empty() {
            return "nothing changes: the plant is what the file says\n".to_owned();
        }
        let mut text = String::new();
        let signs = [("+", &self.zones_made), ("~", &self.zones_changed), ("-", &self.zones_removed)];
        for (sign, zones) in signs {
            for zone in zones {
                let _ = writeln!(text, "{sign} zone {zone}");
                let of_zone = self.fields.iter().filter(|one| one.zone == *zone);
                for field in of_zone.flat_map(|one| &one.fields) {
                    let _ = writeln!(text, "    {}", words::visible(field));
                }
            }
        }
        let signs =
            [("+", &self.conduits_made), ("~", &self.conduits_changed), ("-", &self.conduits_removed)];
        for (sign, conduits) in signs {
            for conduit in conduits {
                let _ = writeln!(text, "{sign} conduit {}", words::visible(&conduit.line()));
            }
        }
        if self.steps > 1 {
            let _ = writeln!(
                text,
                "in {} steps: what is taken away first, what is new with the last",
                self.steps
            );
        }
        text.push('\n');
        text.push_str(&self.peers.text(true, page));
        self.later.iter().for_each(|later| text.push_str(&later.text(page)));
        if self.later_left_out > 0 {
            let times = words::count(self.later_left_out.try_into().unwrap_or(usize::MAX), "time");
            let _ = writeln!(
                text,
                "conduits open or close otherwise at {times} more; plan a part of the change to see them"
            );
        }
        self.callers.iter().for_each(|callers| text.push_str(&callers.line()));
        text.push_str(&losing(&self.loses, self.loses_left_out, page));
        for found in &self.longer {
            let _ = writeln!(text, "{}", found.line());
        }
        for stranger in self.outside.iter().take(SHOWN) {
            let _ = writeln!(text, "{}", stranger.line());
        }
        for sentence in self.unoffered.iter().take(SHOWN) {
            let _ = writeln!(text, "refused: {}", words::visible(sentence));
        }
        for spot in self.spots.iter().filter(|spot| spot.serious) {
            let _ = writeln!(text, "flat: {}", words::visible(&spot.sentence));
        }
        // A new conduit to a service that nobody offers may be misspelt.
        let is_new = |about: &str| self.conduits_made.iter().any(|conduit| conduit.name() == about);
        for spot in self.spots.iter().filter(|spot| spot.kind == "nobody-offers" && is_new(&spot.about)) {
            let _ = writeln!(text, "look: {}", words::visible(&spot.sentence));
        }
        if !self.applied {
            let plan = &self.plan;
            let _ = writeln!(
                text,
                "Plan {plan}: `zone apply --plan {plan}` refuses if zones, conduits or the file moved since."
            );
        }
        text
    }
}

/// The file's text, refused here already if it cannot be read.
fn text_of(path: &Path) -> Result<String> {
    let text = file::read_text(path)?;
    let faults =
        |faults: document::DocumentFaults| Failure::unusable(format!("{}: {faults}", path.display()));
    document::parse(&text).map_err(faults)?;
    Ok(text)
}

async fn planned(document: String, session: &Session) -> Result<GraphChange> {
    let answer = session.client().await?.plan_graph(PlanGraphRequest { document }).await;
    answer.map(|answer| answer.into_inner().change.unwrap_or_default()).map_err(|status| failed(&status))
}

/// What a plan is called by: the graph that it is of, and the file.
fn id(before: &str, document: &str) -> String {
    let whole = [before, document].map(|text| Digest::of(text.as_bytes()).hex()).concat();
    Digest::of(whole.as_bytes()).hex().chars().take(ID).collect()
}

/// Says what a file would change.
pub(super) async fn plan(args: &PlanArgs, session: &Session) -> Result<Report> {
    let document = text_of(&args.file)?;
    let change = planned(document.clone(), session).await?;
    session.report(&ChangeView::new(false, id(&change.before, &document), change))
}

/// Refuses another plan than the one that was read.
fn same_plan(wanted: Option<&String>, plan: &str) -> Result<()> {
    match wanted {
        Some(wanted) if wanted != plan => {
            let what = format!(
                "zones, conduits or the file are not those of plan {}: this is {plan}",
                words::visible(wanted)
            );
            Err(Failure::new(Exit::Negative, what).next("run `touchstone zone plan` again, then decide"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Makes the plant what a file says, after showing it.
pub(super) async fn apply(args: ApplyArgs, session: &Session) -> Result<Report> {
    let settled = args.yes || args.dry_run.dry_run;
    agree::possible(settled, "zone apply", "--dry-run")?;
    let document = text_of(&args.file)?;
    let change = planned(document.clone(), session).await?;
    let before = change.before.clone();
    let plan = id(&before, &document);
    same_plan(args.plan.as_ref(), &plan)?;
    let view = ChangeView::new(false, plan.clone(), change);
    if view.is_empty() {
        return session.report(&view);
    }
    if !settled {
        eprintln!("{}", view.text(&session.plain_page()));
        agree::settle(false, "make the plant what the file says?")?;
    }
    let (unoffered, dry_run) = (args.unoffered, args.dry_run.dry_run);
    let request = ApplyGraphRequest { document, before, dry_run, unoffered };
    let answer = session.client().await?.apply_graph(request).await.map_err(|status| failed(&status))?;
    let change = answer.into_inner().change.unwrap_or_default();
    session.report(&ChangeView::new(!args.dry_run.dry_run, plan, change))
}
