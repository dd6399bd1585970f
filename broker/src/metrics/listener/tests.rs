use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::appraisal::finding::FindingKind;
use policy::zone::OnSilence;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::admin::tests::{Bench, enforcing};
use crate::audit::seal;
use crate::record::device::Decision;

/// A plant in which something of everything has happened, and its metrics over TCP.
struct Served {
    address: SocketAddr,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Served {
    async fn new() -> Self {
        let bench = Bench::new().await;
        bench.zone(&enforcing("cell-3")).await;
        let press = bench.device("press-7", &["cell-3"]).await;
        bench.attest(&press, "boot-a", Decision::Trusted).await;
        bench.certificate(&press, "cell-3", 7).await;
        let zone = "cell-3".parse().unwrap();
        bench.plant.metrics.verdict(&zone, Decision::Refused, Some(FindingKind::Withdrawn));
        bench.plant.metrics.silence(&zone, OnSilence::Alert);
        bench.plant.metrics.serves_until(bench.plant.now());
        seal::newest(&bench.plant).await.unwrap();
        let (plant, dir) = bench.into_plant();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, task: tokio::spawn(serve(listener, Page::new(plant))), _dir: dir }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What is answered to `request`, head and body.
    async fn ask(&self, request: &str) -> String {
        let mut tcp = self.connect().await;
        tcp.write_all(request.as_bytes()).await.unwrap();
        read(&mut tcp).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything until the other end closes. A reset after a refusal is an end, too.
async fn read(tcp: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), tcp.read_to_end(&mut bytes)).await;
    drop(read.expect("the listener closes"));
    String::from_utf8(bytes).unwrap()
}

/// Type and label names of every metric on a page, and whether each has a word of help.
fn shown(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut all = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.split(' ').count() > 3, "{line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            current = name.to_owned();
            let twice = all.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
            assert!(twice.is_none(), "{name} is there twice");
        } else if let Some((_, labels)) = line.split_once('{') {
            let (labels, _) = labels.rsplit_once('}').unwrap();
            let names = labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(name, _)| name);
            // The bucket's bound belongs to the type.
            let names = names.filter(|name| *name != "le").map(str::to_owned);
            all.get_mut(&current).unwrap().1.extend(names);
        }
    }
    all
}

/// The same of the table in METRICS.md.
fn listed() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let table = include_str!("../../../METRICS.md");
    let rows = table.lines().filter(|line| line.starts_with("| `touchstone_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        assert!(cells.len() == 7 && !cells[4].is_empty(), "{row}");
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    })
    .collect()
}

#[tokio::test]
async fn what_is_served_is_what_the_table_lists() {
    let served = Served::new().await;
    let answer = served.ask("GET /metrics HTTP/1.1\r\nHost: broker\r\n\r\n").await;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(page.ends_with("# EOF\n"), "{page}");
    assert_eq!(shown(page), listed());
}

#[tokio::test]
async fn nothing_else_is_served() {
    let served = Served::new().await;
    let answer = served.ask("GET / HTTP/1.1\r\nHost: broker\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("the metrics are at /metrics\n"),
        "{answer}"
    );
    let answer = served.ask("GET /metrics/../secrets HTTP/1.1\r\nHost: broker\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    for method in ["POST", "HEAD", "DELETE"] {
        let answer =
            served.ask(&format!("{method} /metrics HTTP/1.1\r\nHost: b\r\ncontent-length: 0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET"), "{answer}");
    }
    assert_eq!(served.ask("\u{16}\u{3}\u{1} no HTTP at all\r\n\r\n").await.get(..12), Some("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let served = Served::new().await;
    let request = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(2 * http::MAX_HEAD));
    let answer = served.ask(&request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let lines: String = (0..200).map(|n| format!("x{n}: 1\r\n")).collect();
    let answer = served.ask(&format!("GET /metrics HTTP/1.1\r\n{lines}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn connections_are_bounded_and_given_back() {
    let served = Served::new().await;
    let mut held = Vec::new();
    for _ in 0..Metrics::CONNECTIONS {
        let mut tcp = served.connect().await;
        tcp.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        held.push(tcp);
    }
    assert_eq!(
        served.ask("GET / HTTP/1.1\r\nHost: b\r\n\r\n").await,
        "",
        "one too many is closed unanswered"
    );
    drop(held);
    let begun = std::time::Instant::now();
    while served.ask("GET / HTTP/1.1\r\nHost: b\r\n\r\n").await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "no place is given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_says_nothing_is_left() {
    let bench = Bench::new().await;
    let page = Page::new(bench.into_plant().0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    silent.write_all(b"GET /metrics HT").await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    http::converse(tcp, Arc::new(Metrics(page)), Duration::from_millis(50)).await;
    assert_ne!(read(&mut silent).await.get(..12), Some("HTTP/1.1 200"));
}

#[test]
fn an_address_that_others_reach_is_warned_of() {
    for (address, warned) in [("127.0.0.1:9464", false), ("[::1]:9464", false), ("0.0.0.0:9464", true)] {
        assert_eq!(warning(address.parse().unwrap()).is_some(), warned, "{address}");
    }
}
