//! End-to-end tests on real parts: programs of this workspace, software TPMs, recorded boots.

mod administration;
mod audit;
mod authorize;
mod configuration;
mod dark_plant;
mod day_two;
mod durability;
mod exposure;
mod faults;
mod files;
mod fleet;
mod hostile;
mod interop;
mod keys_at_rest;
mod measured_boot;
mod metrics;
mod mqtt_acl;
mod on_the_device;
mod overriding;
mod people;
mod planning;
mod recovery;
mod release_keys;
mod rollout;
mod story;
mod zones;
