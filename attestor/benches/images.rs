//! What measuring a large image costs beside the hashing that nobody can leave out, and whether it keeps to its limits.
//!
//! Run with `cargo bench -p attestor --bench images` (`-- NUMBER` for another number of MiB than 1,024). Each line names
//! what was measured, the figure with its unit, its floor and the ratio of the two; a promise that is missed fails the run.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attestor::config::Images as Config;
use attestor::images::{Images, Limits, follow};
use attestor::ports::System;
use attestor::testing::{Manufacturer, missing_tool};
use attestor::tpm::{EsapiTpm, TpmHandle};
use aws_lc_rs::digest::{Context, SHA256};

/// Most that measuring without limits may take, as a ratio to reading and hashing the same file in one loop.
const UNLIMITED: f64 = 1.3;
/// How far measuring may be off the time that its limit says.
const LIMITED: std::ops::Range<f64> = 0.98..1.15;
/// Bytes in a second, of the limited run.
const RATE: u64 = 100_000_000;

fn main() -> ExitCode {
    if let Some(tool) = missing_tool(&["swtpm", "swtpm_setup", "swtpm_localca"]) {
        eprintln!("skipped: {tool} is not installed; deploy/packages.sh names its package");
        return ExitCode::SUCCESS;
    }
    let asked = std::env::args().find_map(|argument| argument.parse().ok());
    // `cargo test --benches` only sees that it works.
    let mebibytes: u32 = asked.unwrap_or(if cfg!(debug_assertions) { 4 } else { 1024 });
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("model");
    fill(&image, mebibytes);
    let bytes = u64::from(mebibytes) << 20;
    let floor = hashed(&image);
    let free = Limits { bytes: NonZeroU64::MAX, processor: 1.0 };
    let unlimited = measured(&image, free);
    let limited = measured(&image, Limits { bytes: NonZeroU64::new(RATE).unwrap(), ..free });
    let by_limit = Duration::from_secs_f64(f64::from(u32::try_from(bytes >> 10).unwrap()) * 1024.0 / 1e8);
    let first = line(mebibytes, "without limits", unlimited, floor);
    let second = line(mebibytes, "at 100 MB in a second", limited, by_limit);
    // Of a few MiB nothing but the TPM and the start is seen.
    let kept = mebibytes < 256 || first <= UNLIMITED && LIMITED.contains(&second);
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(mebibytes: u32, what: &str, took: Duration, floor: Duration) -> f64 {
    let ratio = took.as_secs_f64() / floor.as_secs_f64();
    println!(
        "an image of {mebibytes} MiB measured {what}: {:.3} s (floor {:.3} s; ratio {ratio:.2})",
        took.as_secs_f64(),
        floor.as_secs_f64()
    );
    ratio
}

fn fill(image: &Path, mebibytes: u32) {
    let mut file = File::create(image).unwrap();
    for number in 0..mebibytes {
        file.write_all(&vec![number.to_le_bytes()[0]; 1 << 20]).unwrap();
    }
    file.sync_all().unwrap();
}

/// The fastest of three: read in pieces and hashed, by one thread.
fn hashed(image: &Path) -> Duration {
    let once = || {
        let (begin, mut file) = (Instant::now(), File::open(image).unwrap());
        let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                read => context.update(buffer.get(..read).unwrap()),
            }
        }
        assert_eq!(context.finish().as_ref().len(), 32);
        begin.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap()
}

/// From the start to the moment at which the device would prove itself, on a TPM that has measured nothing.
fn measured(image: &Path, limits: Limits) -> Duration {
    let swtpm = Manufacturer::new().unwrap().make_tpm().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let log = image.with_file_name("images.log");
        drop(fs::remove_file(&log));
        let (files, folders, containers) = (vec![image.to_owned()], Vec::new(), Vec::new());
        let config = Config { log, files, folders, containers, limits, quiet: None };
        let tpm = TpmHandle::start(EsapiTpm::new(swtpm.address())).unwrap();
        let begin = Instant::now();
        let images = Arc::new(Images::open(config, tpm, None).await.unwrap());
        let clock = Arc::new(System::default());
        let following = tokio::spawn(follow(Arc::clone(&images), clock.clone(), clock));
        images.ready().await;
        let took = begin.elapsed();
        following.abort();
        took
    })
}
