//! Certificates of TPM manufacturers, read as they were signed.
//!
//! Manufacturers' certificates bend the rules: RDN sets out of DER order (Nuvoton), serial numbers with a
//! leading zero (STMicroelectronics), keys typed id-RSAES-OAEP, critical certificatePolicies. So this module
//! keeps the raw slices: signatures are verified over the TBS bytes as received, and no signed byte is ever
//! encoded again. A library that decodes into owned types and encodes again to verify breaks
//! on exactly these files.
//!
//! The reader is our own ([`der`], on the bounded [`crate::reader`]) and not the `der` crate: that one decodes
//! into values of its own, in which a set is sorted and a number has no leading zero, so what it encodes again
//! is not what was signed; and its errors do not name the field. `x509-cert` is used for display only.
//!
//! Not promised: general X.509. There are no name constraints, no policies, no revocation, and only the
//! algorithms that TPM manufacturers use.

pub mod certificate;
pub mod der;
pub mod extension;
pub mod name;
pub mod oid;
pub mod pem;
pub mod readout;
pub mod request;
pub mod signature;
pub mod spki;

pub use certificate::Certificate;
pub use spki::SubjectKey;
