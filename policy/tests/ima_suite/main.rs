//! IMA lists as an attacker would forge them, and as others really made them: every refusal is asserted
//! by its reason.

#[cfg(test)]
mod list;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod prefix;
#[cfg(test)]
mod properties;
#[cfg(test)]
#[path = "../rig/ima.rs"]
mod rig;
#[cfg(test)]
mod signature;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod version1;
