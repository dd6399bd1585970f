//! `touchstone` run as a program: exit codes, messages, and what `inspect` reads offline.

mod inspect_ek;
mod inspect_eventlog;
mod tool;
mod usage;
