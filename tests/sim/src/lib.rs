//! The simulated plant: the real broker, the real devices and the real gates in one process, on simulated time and a
//! simulated network, in an order that one number decides.
//!
//! ```text
//! rng.rs        the one source of chance                      plan.rs       what happens to the plant, and when
//! plant.rs      the plant as every run begins                 world.rs      devices, broker and gates; one event after another
//! disk.rs       the broker's store, which stops anywhere      stream.rs     what the broker tells devices between proofs
//! machine.rs    a device: TPM, disk, daemon, gate             invariant.rs  what must hold after every event
//! task.rs       work of broker or device, step by step        trace.rs      what happened; a run as a file that is played again
//! ```
//!
//! Real are all decisions, what is stored, and what is verified: sessions, admission, rulings, trust sets, withdrawal and
//! audit chain of the broker; the loop, the state on disk and the delivery of the device; what a gate decides about peers
//! and sessions. Simulated are time, network, TPM and the broker's disk. Not here: TLS, gRPC, and what they refuse.

#[path = "../../fleet/src/tpm.rs"]
pub mod chip;
pub mod disk;
pub mod invariant;
pub mod machine;
pub mod plan;
pub mod plant;
pub mod rng;
pub mod stream;
pub mod task;
pub mod trace;
pub mod world;
