//! The world of the end-to-end tests: a plant, its broker, its administrator and devices with software TPMs.
//!
//! Promises: every process that a test starts is a program of the workspace or a software TPM, has its own run
//! folder and free ports, and ends with the value that stands for it. Waiting is always for a condition, with a
//! deadline. Does not promise anything outside tests: everything here panics when the world is not as it should be.

mod device;
mod go;
mod ima;
mod machine;
pub mod peers;
mod plant;
mod process;
mod relay;
mod service_manager;
mod tool;
mod wait;
mod world;

pub use attestor::testing::missing_tool;
pub use device::Device;
pub use go::GoProgram;
pub use ima::digest_of;
pub use machine::{BOOT, Disks, Machine, kernel_package};
pub use plant::BrokerFolder;
pub use process::{Environment, Process, clock, clock_of, program, run, run_in};
pub use relay::{Passing, relay};
pub use service_manager::ServiceManager;
pub use tool::Answer;
pub use wait::{DEADLINE, in_time, until, until_within};
pub use world::World;
