//! Evidence as an attacker would forge it: a test key signs what no TPM would, and every refusal is
//! asserted by its reason.

#[cfg(test)]
#[expect(dead_code, reason = "the rig has more than these tests need")]
#[path = "../appraisal_suite/boot.rs"]
mod boot;
#[cfg(test)]
mod boots;
#[cfg(test)]
mod covered;
#[cfg(test)]
mod credential;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod ima;
#[cfg(test)]
#[expect(dead_code, reason = "the rig has more than these tests need")]
#[path = "../rig/ima.rs"]
mod ima_rig;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod log;
mod offline;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod quote;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod secure_boot;
#[cfg(test)]
mod software_key;
