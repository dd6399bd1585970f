//! Logs of what was measured: parsed, described and replayed. Nothing here is believed until a
//! quote confirms it.

pub mod event;
pub mod ima;
pub mod replay;
pub mod tcg;
pub mod typed;
