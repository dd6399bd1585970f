//! How often a device without a TPM may prove itself. A TPM takes its time for each proof; a key in software does not, and
//! each proof is a transaction and a file.
//!
//! Each proof costs some seconds, and a device may owe some proofs: one that joins, or is asked for proof, comes several
//! times at once. Only the turn of the last proof is kept, so that any broker can go on counting.

use policy::time::UnixTime;

use crate::record::device::KeyLine;
use crate::session::Refusal;

/// Seconds that a proof costs: less than half of the least that a zone lets its devices wait.
const EACH: u64 = 2;
/// Proofs that may come at once.
const AT_ONCE: u64 = 10;
/// Seconds that a device may owe after a proof.
const MOST: u64 = EACH * AT_ONCE;

/// Puts a device off that came too often.
pub(in crate::session) fn allowed(line: KeyLine, now: UnixTime) -> Result<(), Refusal> {
    let over = owed(line, now).saturating_add(EACH).saturating_sub(MOST);
    let Ok(seconds @ 1..) = u32::try_from(over) else { return Ok(()) };
    Err(Refusal::TryLater { why: "the device proves itself too often".to_owned(), seconds })
}

/// Until when a device has paid for all its proofs after one more.
pub(super) fn paid(line: KeyLine, now: UnixTime) -> UnixTime {
    now.plus(owed(line, now)).plus(EACH)
}

/// What it owes. More than it may owe was owed to a clock that has been set back since.
fn owed(line: KeyLine, now: UnixTime) -> u64 {
    match line.paid_until.since(now) {
        owed @ 0..=MOST => owed,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{NOW, refused};

    #[test]
    fn some_proofs_may_come_at_once_and_many_at_the_pace_of_a_tpm() {
        let mut line = KeyLine::default();
        let proves = |line: &mut KeyLine, now| {
            allowed(*line, now)?;
            line.paid_until = paid(*line, now);
            Ok::<(), Refusal>(())
        };
        for _ in 0..AT_ONCE {
            proves(&mut line, NOW).unwrap();
        }
        let text = refused!(proves(&mut line, NOW), TryLater);
        assert_eq!(text, "the device proves itself too often; ask again in 2 s");
        for turn in 1..100 {
            proves(&mut line, NOW.plus(turn * EACH)).unwrap();
            refused!(proves(&mut line, NOW.plus(turn * EACH)), TryLater);
        }
        proves(&mut line, NOW.minus(86_400)).unwrap();
    }
}
