//! The morning page in words.

use super::*;

fn answer() -> GetStatusResponse {
    GetStatusResponse {
        plant: "plant.example".to_owned(),
        broker_version: "0.1.0".to_owned(),
        broker_time: 1_000_000,
        devices: [("trusted".to_owned(), 2), ("refused".to_owned(), 1), ("pending".to_owned(), 0)].into(),
        attention: vec![Attention {
            subject: "press-7".to_owned(),
            message: "refused: kernel is not golden".to_owned(),
            next_command: "touchstone device why press-7".to_owned(),
            criticality: "high".to_owned(),
            ..Attention::default()
        }],
        outlook: vec![ZoneOutlook {
            zone: "cell-3".to_owned(),
            released: true,
            devices: 3,
            first_ends: 1_000_000 + 10 * 3_600,
            outlive_seconds: 28_800,
            ..ZoneOutlook::default()
        }],
        changes: vec![AuditEvent {
            at: 1_000_000 - 60,
            actor: "ada".to_owned(),
            action: "zone.create".to_owned(),
            subject: "cell-3".to_owned(),
            ..AuditEvent::default()
        }],
        issuing_not_after: 1_000_000 + 90 * 86_400,
        ..GetStatusResponse::default()
    }
}

#[test]
fn the_page_names_what_needs_you_and_the_next_command() {
    let text = StatusView::new("context".to_owned(), answer(), 1_000_000).text(&Page::plain(1_000_000));
    assert!(
        text.starts_with("plant.example (context): broker 0.1.0 is well; its own certificate ends in 90 d\n")
    );
    assert!(text.contains("Devices: 2 trusted, 1 refused\n"), "{text}");
    assert!(
        text.contains(
            "  press-7 (criticality high): refused: kernel is not golden\n    touchstone device why press-7\n"
        ),
        "{text}"
    );
    assert!(text.contains("enforce  yes      3        0       0     10 h of 8 h\n"), "{text}");
    assert!(text.contains("  60 s ago, ada: zone.create cell-3\n"), "{text}");
    assert!(!text.contains("clock"), "{text}");
}

#[test]
fn the_outlook_begins_with_the_zone_that_ends_first() {
    let zone = |name: &str, hours: u64| ZoneOutlook {
        zone: name.to_owned(),
        first_ends: if hours == 0 { 0 } else { 1_000_000 + hours * 3_600 },
        outlive_seconds: 28_800,
        ..ZoneOutlook::default()
    };
    let outlook = vec![zone("empty", 0), zone("slow", 40), zone("quick", 6)];
    let answer = GetStatusResponse { outlook, ..answer() };
    let mut view = StatusView::new("context".to_owned(), answer, 1_000_000);
    view.your_certificate_ends = Some(Moment(1_000_000 + 20 * 86_400));
    let text = view.text(&Page::plain(1_000_000));
    let row = |name: &str| text.lines().position(|line| line.starts_with(name)).unwrap();
    assert!(row("quick") < row("slow") && row("slow") < row("empty"), "{text}");
    assert!(text.contains("6 h of 8 h\n") && text.contains("- of 8 h\n"), "{text}");
    let line = "Ends next: without the broker, a certificate of zone quick in 6 h; your certificate in 20 d; the broker's certificate in 90 d\n";
    assert!(text.contains(line), "{text}");
    let over = view.text(&Page::plain(1_000_000 + 7 * 3_600));
    assert!(over.contains("zone quick over since 60 min"), "{over}");
}

#[test]
fn a_skewed_clock_is_named() {
    let text = StatusView::new("context".to_owned(), answer(), 1_000_600).text(&Page::plain(1_000_600));
    assert!(text.contains("The broker's clock is 10 min behind this machine's."), "{text}");
}

#[test]
fn json_has_a_time_for_every_instant() {
    let json = serde_json::to_value(StatusView::new("context".to_owned(), answer(), 1_000_000)).unwrap();
    assert_eq!(json["broker"]["time"], "1970-01-12T13:46:40Z");
    assert_eq!(json["needs_you"][0]["subject"], "press-7");
    assert_eq!(json["devices"]["trusted"], 2);
}
