//! Evidence as an attacker would forge it: a test key signs what no TPM would, and every refusal is
//! asserted by its reason.

#[cfg(test)]
mod boots;
#[cfg(test)]
mod credential;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod linux;
#[cfg(test)]
mod log;
#[cfg(test)]
mod nvpcr;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod quote;
#[cfg(test)]
mod rig;
