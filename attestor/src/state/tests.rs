//! The state file: what survives, what is refused.
