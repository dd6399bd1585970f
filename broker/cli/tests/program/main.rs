//! `touchstone` run as a program: exit codes, messages, and what `inspect` reads offline.

mod appraise;
mod evidence;
mod exposure;
mod fake_broker;
mod golden;
mod golden_key;
mod golden_outside;
mod inspect_ek;
mod inspect_eventlog;
mod inspect_ima;
mod inspect_secureboot;
mod learn_folder;
mod online;
mod pages;
mod pki;
mod predict;
mod schema;
mod terminal;
mod tool;
mod trouble;
mod usage;
