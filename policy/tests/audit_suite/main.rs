//! Whatever is done to an audit is found and named, and an audit nobody touched is whole.

mod rig;
mod seals;
mod trails;
