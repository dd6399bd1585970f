//! Zones and conduits (IEC 62443): who gets a certificate, for how long, and whom it opens what to.
//!
//! What this module does not promise: it signs nothing and knows no certificate. It says which
//! authorities belong in which trust file; the broker puts their certificates there.

pub mod admission;
pub mod authorize;
pub mod conduit;
pub mod difference;
pub mod document;
pub mod drill;
pub mod function;
pub mod gate;
pub mod generation;
pub mod hours;
pub mod inspection;
pub mod model;
pub mod moving;
pub mod overriding;
mod reachable;
pub mod schedule;
pub mod silence;
pub mod span;
pub mod steps;
pub mod subnet;
pub mod trust;
pub mod ways;
pub mod without_tpm;

pub use admission::{Admission, Trusted, decide};
pub use authorize::authorize;
pub use conduit::Conduit;
pub use drill::{DrillBounds, Fault};
pub use function::Function;
pub use gate::{GateFail, GateRules};
pub use generation::{Generation, GenerationState, MAX_GENERATIONS, Step, leaves, next_step};
pub use hours::Hours;
pub use inspection::{Member, Spot, SpotKind, TwoSided, inspect};
pub use model::{IntraZone, NameConstraint, Segmentation, SoftwareKeys, Timing, Zone};
pub use moving::{Peers, peers};
pub use overriding::{NamedMismatch, Override};
pub use schedule::{Schedule, ScheduleError};
pub use silence::{Listening, OnSilence};
pub use subnet::Subnet;
pub use trust::{AuthorityRef, Believed, Direction, Placement, Role, TrustFile, compile};
pub use ways::{Way, Ways};
