//! Zones and conduits as a picture, in the languages of Graphviz and Mermaid.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum;
use proto::v1::{Conduit, GetGraphResponse, Zone};

use crate::output::words;

/// A language for pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Graphviz: `touchstone zone show --picture dot | dot -Tsvg`
    Dot,
    /// Mermaid, which Markdown pages show as it is
    Mermaid,
}

/// Draws the graph.
pub(super) fn draw(language: Language, graph: &GetGraphResponse) -> String {
    match language {
        Language::Dot => dot(graph),
        Language::Mermaid => mermaid(graph),
    }
}

/// What stands in the box of a zone. Names are DNS labels, so that none of them means anything to a language.
fn lines(zone: &Zone, devices: &BTreeMap<&str, u32>) -> Vec<String> {
    let count = devices.get(zone.name.as_str()).copied().unwrap_or_default();
    let function = if zone.function.is_empty() { String::new() } else { format!("{}, ", zone.function) };
    let inside = if zone.intra_zone { ", open inside" } else { "" };
    let devices = words::count(usize::try_from(count).unwrap_or(usize::MAX), "device");
    vec![zone.name.clone(), format!("{function}{}{inside}", zone.mode), devices]
}

/// What stands at an arrow. A schedule has letters, digits, `:`, `;`, `,`, `-` and `/` only.
fn label(conduit: &Conduit) -> Vec<String> {
    let mut lines = vec![conduit.service.clone()];
    if !conduit.schedule.is_empty() {
        lines.push(conduit.schedule.replace(';', ","));
    }
    if let Some(end) = words::json_time(conduit.expires_at) {
        lines.push(format!("until {end}"));
    }
    lines
}

fn devices(graph: &GetGraphResponse) -> BTreeMap<&str, u32> {
    graph.members.iter().map(|members| (members.zone.as_str(), members.devices)).collect()
}

fn dot(graph: &GetGraphResponse) -> String {
    let devices = devices(graph);
    let mut text = "digraph plant {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\"];\n".to_owned();
    for zone in &graph.zones {
        // An observing zone refuses nobody.
        let style = if zone.mode == "observe" { ", style=dashed" } else { "" };
        let _ =
            writeln!(text, "  \"{}\" [label=\"{}\"{style}];", zone.name, lines(zone, &devices).join("\\n"));
    }
    for conduit in &graph.conduits {
        let style =
            if conduit.schedule.is_empty() && conduit.expires_at == 0 { "" } else { ", style=dashed" };
        let label = label(conduit).join("\\n");
        let _ = writeln!(text, "  \"{}\" -> \"{}\" [label=\"{label}\"{style}];", conduit.from, conduit.to);
    }
    text.push_str("}\n");
    text
}

fn mermaid(graph: &GetGraphResponse) -> String {
    let devices = devices(graph);
    // A zone's name may be a word of the language, such as `end`.
    let mut numbers: BTreeMap<&str, usize> =
        graph.zones.iter().enumerate().map(|(at, zone)| (zone.name.as_str(), at)).collect();
    let mut text = "flowchart LR\n".to_owned();
    for (at, zone) in graph.zones.iter().enumerate() {
        let _ = writeln!(text, "  z{at}[\"{}\"]", lines(zone, &devices).join("<br/>"));
    }
    // The zone at the other end of a conduit may be out of sight: it has a name here, and nothing else.
    for name in graph.conduits.iter().flat_map(|conduit| [&conduit.from, &conduit.to]) {
        let next = numbers.len();
        if !numbers.contains_key(name.as_str()) {
            numbers.insert(name, next);
            let _ = writeln!(text, "  z{next}[\"{name}\"]");
        }
    }
    for conduit in &graph.conduits {
        let ends = numbers.get(conduit.from.as_str()).zip(numbers.get(conduit.to.as_str()));
        let Some((from, to)) = ends else { continue };
        let arrow = if conduit.schedule.is_empty() && conduit.expires_at == 0 { "-->" } else { "-.->" };
        let _ = writeln!(text, "  z{from} {arrow}|\"{}\"| z{to}", label(conduit).join("<br/>"));
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::v1::ZoneMembers;

    use super::*;

    fn graph() -> GetGraphResponse {
        let zone = |name: &str, mode: &str, function: &str| Zone {
            name: name.to_owned(),
            mode: mode.to_owned(),
            function: function.to_owned(),
            ..Zone::default()
        };
        let conduit = |from: &str, to: &str, schedule: &str| Conduit {
            from: from.to_owned(),
            to: to.to_owned(),
            service: "ssh".to_owned(),
            schedule: schedule.to_owned(),
            ..Conduit::default()
        };
        GetGraphResponse {
            zones: vec![zone("end", "observe", ""), zone("cell-3", "enforce", "control")],
            conduits: vec![
                conduit("end", "cell-3", ""),
                conduit("cell-3", "end", "sat 01:00-02:00; sun 01:00-02:00"),
            ],
            members: vec![ZoneMembers { zone: "cell-3".to_owned(), devices: 2, services: Vec::new() }],
            ..GetGraphResponse::default()
        }
    }

    #[test]
    fn graphviz_shows_zones_and_conduits() {
        let text = draw(Language::Dot, &graph());
        assert!(text.contains(r#""cell-3" [label="cell-3\ncontrol, enforce\n2 devices"];"#), "{text}");
        assert!(text.contains(r#""end" [label="end\nobserve\n0 devices", style=dashed];"#), "{text}");
        assert!(text.contains(r#""end" -> "cell-3" [label="ssh"];"#), "{text}");
        assert!(text.contains(r#"[label="ssh\nsat 01:00-02:00, sun 01:00-02:00", style=dashed];"#), "{text}");
    }

    #[test]
    fn a_zone_out_of_sight_is_a_name() {
        let mut part = graph();
        part.zones.truncate(1);
        let text = draw(Language::Mermaid, &part);
        assert!(text.contains("  z1[\"cell-3\"]\n") && text.contains("  z0 -->|\"ssh\"| z1\n"), "{text}");
    }

    #[test]
    fn mermaid_shows_the_same_and_no_zone_is_a_word_of_it() {
        let text = draw(Language::Mermaid, &graph());
        assert!(text.starts_with("flowchart LR\n  z0[\"end<br/>observe<br/>0 devices\"]\n"), "{text}");
        assert!(text.contains("  z0 -->|\"ssh\"| z1\n"), "{text}");
        assert!(text.contains("  z1 -.->|\"ssh<br/>sat 01:00-02:00, sun 01:00-02:00\"| z0\n"), "{text}");
    }
}
