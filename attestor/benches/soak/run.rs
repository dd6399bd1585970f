//! The soak: quotes and signatures in a row, each on a connection of its own, and what is there after them.

use std::fs;

use attestor::testing::{Manufacturer, Swtpm, command, missing_tool};
use attestor::tpm::{EsapiTpm, IdentityKeyBlob, PcrBank, PcrSelection, Tpm};

/// Quotes before the first look: what libraries load and keep is there by then.
const WARM: u32 = 100;
/// Bytes by which memory may differ between two looks: pages that the allocator took early or late.
const SLACK: u64 = 512 * 1024;

/// What this process and the TPM have.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Anonymous resident memory in bytes.
    memory: u64,
    /// Open files.
    files: u64,
    /// Transient objects and sessions in the TPM.
    handles: u64,
}

/// Takes so many quotes and says, at 100, 1,000, 10,000 and so on, what is there. Gives what grew; None, with the reason
/// said, where tools are missing.
pub(crate) fn soak(quotes: u32) -> Option<Vec<String>> {
    if let Some(tool) = missing_tool(&["swtpm", "swtpm_setup", "swtpm_localca", "tpm2_getcap"]) {
        eprintln!("skipped: {tool} is not installed (packages swtpm, swtpm-tools, tpm2-tools)");
        return None;
    }
    let manufacturer = Manufacturer::new().unwrap();
    let swtpm = manufacturer.make_tpm().unwrap();
    let mut tpm = EsapiTpm::new(swtpm.address());
    let key = tpm.create_identity_key().unwrap();
    (0..WARM).for_each(|_| quote(&mut tpm, &key));
    let first = look(&swtpm);
    let mut next = 100;
    for done in 1..=quotes {
        quote(&mut tpm, &key);
        if done == next {
            print(done, look(&swtpm), first);
            next *= 10;
        }
    }
    let last = look(&swtpm);
    print(quotes, last, first);
    Some(grown(last, first))
}

/// What a device does with its TPM when it proves itself and opens a connection.
fn quote(tpm: &mut EsapiTpm, key: &IdentityKeyBlob) {
    tpm.read_pcrs(PcrBank::Sha256, PcrSelection::QUOTED).unwrap();
    tpm.quote(&[1; 32], PcrBank::Sha256, PcrSelection::QUOTED).unwrap();
    tpm.sign_digest(key, &[1; 32]).unwrap();
    tpm.release();
}

fn grown(last: Look, first: Look) -> Vec<String> {
    let mut grown = Vec::new();
    if last.memory > first.memory + SLACK {
        grown.push(format!("{} KiB of memory", (last.memory - first.memory) >> 10));
    }
    if last.files > first.files {
        grown.push(format!("{} open files", last.files - first.files));
    }
    if last.handles > 0 {
        grown.push(format!("{} objects or sessions in the TPM", last.handles));
    }
    grown
}

fn print(quotes: u32, now: Look, first: Look) {
    let line = |what, value: u64, unit, floor: u64| {
        let ratio =
            f64::from(u32::try_from(value).unwrap()) / f64::from(u32::try_from(floor.max(1)).unwrap());
        println!("{quotes} quotes: {what} {value} {unit} (at the start {floor}; {ratio:.2})");
    };
    line("RssAnon", now.memory >> 10, "KiB", first.memory >> 10);
    line("open files", now.files, "files", first.files);
    line("transient objects and sessions", now.handles, "handles", first.handles);
}

fn look(swtpm: &Swtpm) -> Look {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let files = u64::try_from(fs::read_dir("/proc/self/fd").unwrap().count()).unwrap();
    Look { memory: kib << 10, files, handles: handles(swtpm) }
}

fn handles(swtpm: &Swtpm) -> u64 {
    let kinds = ["handles-transient", "handles-loaded-session", "handles-saved-session"];
    let count = |kind: &&str| {
        let address = swtpm.address().to_string();
        let output = command("tpm2_getcap").arg(kind).env("TPM2TOOLS_TCTI", address).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    u64::try_from(kinds.iter().map(count).sum::<usize>()).unwrap()
}
