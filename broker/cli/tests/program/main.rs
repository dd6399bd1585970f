//! `touchstone` run as a program: exit codes, messages, and what `inspect` reads offline.

mod inspect_ek;
mod tool;
mod usage;
