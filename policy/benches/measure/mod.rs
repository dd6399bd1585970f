//! What the benchmarks share: a subject to be appraised, the least work that its appraisal takes, and the ratio of
//! the two.

pub(crate) mod floor;
pub(crate) mod ratio;
pub(crate) mod signer;
pub(crate) mod subject;
#[expect(dead_code, reason = "the tests use the whole rig")]
#[path = "../../tests/evidence_suite/rig.rs"]
pub(crate) mod tpm;
