//! Floods of strangers: whatever they send and how much, the broker stays small, and a device that is enrolled proves
//! itself in their midst.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use e2e::{Device, World, until};
use tokio::task::JoinSet;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Ended, HEADERS, MOST, PING, RST_STREAM, SETTINGS, Stranger,
    call, frame, literal,
};

/// Strangers that flood at once.
const STRANGERS: usize = 32;
/// Frames of each.
const FRAMES: u32 = 5_000;
/// Bytes of each that sends long ones.
const BYTES: usize = 32 << 20;
/// What the broker may need more than before all floods: a connection has buffers, and an allocator keeps what it had.
pub(super) const GROWTH: u64 = 192 << 20;
/// A method that a stranger may call.
const OPEN: &str = "/touchstone.v1.Enrollment/BeginEnrollment";

/// What a stranger sends, piece by piece.
type Pieces = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// Stream ids of a client.
fn streams() -> impl Iterator<Item = u32> + Send {
    (0..FRAMES).map(|n| 2 * n + 1)
}

/// Calls that are given up as soon as they are made (CVE-2023-44487).
fn rapid_reset() -> Pieces {
    let cancel = 8_u32.to_be_bytes();
    Box::new(streams().map(move |id| {
        let begun = frame(HEADERS, END_HEADERS | END_STREAM, id, &call(OPEN));
        [begun, frame(RST_STREAM, 0, id, &cancel)].concat()
    }))
}

/// Calls that are begun and left.
fn open_streams() -> Pieces {
    Box::new(streams().map(|id| frame(HEADERS, END_HEADERS, id, &call(OPEN))))
}

/// Questions whose answers nobody reads (CVE-2019-9512).
fn pings() -> Pieces {
    Box::new((0..FRAMES).map(|_| frame(PING, 0, 0, &[7; 8]).repeat(8)))
}

/// Settings that are to be acknowledged (CVE-2019-9515).
fn settings() -> Pieces {
    Box::new((0..FRAMES).map(|_| frame(SETTINGS, 0, 0, &[]).repeat(8)))
}

/// Frames of a body without a byte (CVE-2019-9518).
fn empty_data() -> Pieces {
    let begun = frame(HEADERS, END_HEADERS, 1, &call(OPEN));
    Box::new(std::iter::once(begun).chain((0..FRAMES).map(|_| frame(DATA, 0, 1, &[]).repeat(8))))
}

/// Headers that do not end (CVE-2024-27316).
fn endless_headers() -> Pieces {
    let begun = frame(HEADERS, 0, 1, &call(OPEN));
    let more = literal("x-filler", &"x".repeat(100));
    let more = frame(CONTINUATION, 0, 1, &more.repeat(MOST / more.len()));
    let count = BYTES / more.len();
    Box::new(std::iter::once(begun).chain(std::iter::repeat_n(more, count)))
}

/// A long header that is remembered, and thousands of references to it of a byte each (RFC 7541, 7.3).
fn header_bomb() -> Pieces {
    const VALUE: usize = 3_900;
    // Literal with incremental indexing, a new name of one byte; the length as 127 and what goes beyond (RFC 7541, 5.1).
    let length = VALUE - 127;
    let seven = |n: usize| u8::try_from(n & 0x7f).expect("seven bits");
    let head = [0x40, 1, b'x', 0x7f, seven(length) | 0x80, seven(length >> 7)];
    let remembered = [&head[..], &[b'a'; VALUE]].concat();
    // The first entry of the dynamic table has index 62.
    let block = [call(OPEN), remembered, vec![0x80 | 62; MOST - VALUE - 500]].concat();
    Box::new(streams().take(64).map(move |id| frame(HEADERS, END_HEADERS, id, &block)))
}

/// One message that is said to be of 4 GiB, in frames that go on.
fn endless_message() -> Pieces {
    let begun = frame(HEADERS, END_HEADERS, 1, &call(OPEN));
    let head = frame(DATA, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff]);
    let more = frame(DATA, 0, 1, &[0; MOST]);
    let count = BYTES / more.len();
    Box::new([begun, head].into_iter().chain(std::iter::repeat_n(more, count)))
}

/// Messages that say they are compressed: the broker unpacks nothing.
fn compressed() -> Pieces {
    let headers = [call(OPEN), literal("grpc-encoding", "gzip")].concat();
    let message = [&[1, 0, 0, 0x3f, 0xf0][..], &[0x78; 0x3ff0]].concat();
    Box::new(streams().map(move |id| {
        let begun = frame(HEADERS, END_HEADERS, id, &headers);
        [begun, frame(DATA, END_STREAM, id, &message)].concat()
    }))
}

/// The head of a frame, and then nothing: the connection is held.
fn half_a_frame() -> Pieces {
    Box::new(std::iter::once(frame(HEADERS, END_HEADERS, 1, &call(OPEN))[..20].to_vec()))
}

/// A flood: its name, and what each stranger sends.
type Flood = (&'static str, fn() -> Pieces);

const FLOODS: [Flood; 10] = [
    ("rapid reset", rapid_reset),
    ("open streams", open_streams),
    ("pings", pings),
    ("settings", settings),
    ("empty data", empty_data),
    ("endless headers", endless_headers),
    ("header bomb", header_bomb),
    ("endless message", endless_message),
    ("compressed", compressed),
    ("half a frame", half_a_frame),
];

/// Most memory that the broker had so far, in bytes.
pub(super) fn memory(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.broker_id())).expect("the broker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of proc(5)");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

pub(super) fn counter(world: &World) -> u64 {
    let shown = world.admin("device show press-1");
    shown["attestation_counter"].as_u64().unwrap_or_else(|| panic!("{shown:#}"))
}

/// The device proves itself once more.
pub(super) fn proves_itself(world: &World, press: &Device) {
    let before = counter(world);
    world.admin("device attest press-1");
    until("the device proved itself", || match counter(world) {
        after if after > before => Ok(()),
        after => Err(format!("{after} {}", press.last_words())),
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_proves_itself_amid_floods_and_the_broker_stays_small() {
    let Some((world, [mut press])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    world.register(&press, "press");
    press.measure("boot-a");
    press.start();
    press.until_state("trusted");
    let world = Arc::new(world);
    let before = memory(&world);
    for (name, pieces) in FLOODS {
        let begun = Instant::now();
        let mut strangers = JoinSet::new();
        for _ in 0..STRANGERS {
            let world = Arc::clone(&world);
            strangers.spawn(async move { Stranger::connect(&world).await.flood(pieces()).await });
        }
        proves_itself(&world, &press);
        let proven = begun.elapsed();
        let mut ended = BTreeMap::<Ended, usize>::new();
        for end in strangers.join_all().await {
            *ended.entry(end).or_default() += 1;
        }
        let grown = memory(&world).saturating_sub(before);
        eprintln!("{name}: proven after {proven:.1?}, {ended:?}, at most {} MiB more", grown >> 20);
        assert!(grown < GROWTH, "{name}: the broker needed {} MiB more", grown >> 20);
    }
    assert_eq!(world.admin("device show press-1")["state"], "trusted");
}
