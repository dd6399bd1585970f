//! Whatever is done to an audit is found and named, and an audit nobody touched is whole.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test builds itself is well formed")]

mod rig;
mod seals;
mod trails;
