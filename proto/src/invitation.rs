//! The code of an invitation, and what is proven with it.
//!
//! A code goes from one person to another as text. It names the invitation, holds a secret that is never sent to
//! the broker, and says which plant it is for, so that nobody accepts it into another one.

use std::fmt;
use std::str::FromStr;

use policy::digest::Digest;
use policy::id::PlantDomain;

/// Says what the proof is for.
const LABEL: &[u8] = b"touchstone/v1/invitation";
/// Begins every code: a token of another kind is not mistaken for one.
const KIND: &str = "ti1";
/// Longest code: its parts, and a domain of at most 253 bytes (RFC 1035, section 2.3.4).
const MAX_CODE: usize = 512;

/// Bytes of an invitation's id.
pub const ID: usize = 8;
/// Bytes of its secret.
pub const SECRET: usize = 32;
/// Bytes of the plant root's pin in a code: nobody finds a second key for them.
pub const PIN: usize = 16;

/// The code of an invitation: `ti1.<id>.<secret>.<root>@<plant>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// Names the invitation.
    pub id: [u8; ID],
    /// Proves that whoever accepts it has the code.
    pub secret: [u8; SECRET],
    /// Begins the digest of the plant root's public key.
    pub root: [u8; PIN],
    /// The plant.
    pub plant: PlantDomain,
}

impl Code {
    /// Whether the plant root with this digest is the one that the code is for.
    #[must_use]
    pub fn is_for(&self, root: &Digest) -> bool {
        // Every byte is compared, whatever the first ones say.
        self.root.iter().zip(root.0).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs)) == 0
    }

    /// The code as text. Shown once.
    #[must_use]
    pub fn reveal(&self) -> String {
        let [id, secret, root] = [hex::encode(self.id), hex::encode(self.secret), hex::encode(self.root)];
        format!("{KIND}.{id}.{secret}.{root}@{}", self.plant)
    }
}

/// The beginning of a plant root's pin, as codes carry it.
#[must_use]
pub fn pin(root: &Digest) -> [u8; PIN] {
    let mut pin = [0; PIN];
    pin.iter_mut().zip(root.0).for_each(|(to, from)| *to = from);
    pin
}

/// The secret is never printed by accident.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} of {})", hex::encode(self.id), self.plant)
    }
}

/// A text is no code of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no code of an invitation; copy it whole, it begins with `{KIND}.` and ends with the plant's domain"
)]
pub struct CodeError;

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > MAX_CODE {
            return Err(CodeError);
        }
        let (parts, plant) = text.split_once('@').ok_or(CodeError)?;
        let mut parts = parts.split('.');
        let (Some(KIND), Some(id), Some(secret), Some(root), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CodeError);
        };
        let mut code = Self {
            id: [0; ID],
            secret: [0; SECRET],
            root: [0; PIN],
            plant: plant.parse().map_err(|_| CodeError)?,
        };
        for (text, bytes) in
            [(id, code.id.as_mut_slice()), (secret, &mut code.secret), (root, &mut code.root)]
        {
            hex::decode_to_slice(text, bytes).map_err(|_| CodeError)?;
        }
        Ok(code)
    }
}

/// What an HMAC under the secret proves: that its holder asks for this certificate.
#[must_use]
pub fn to_be_proven(csr: &[u8]) -> Vec<u8> {
    [LABEL, &Digest::of(csr).0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        let root = pin(&Digest::of(b"root"));
        Code { id: [1; ID], secret: [2; SECRET], root, plant: "plant.example".parse().unwrap() }
    }

    #[test]
    fn a_code_survives_being_written_down() {
        let text = code().reveal();
        assert_eq!(text.parse(), Ok(code()));
        assert!(code().is_for(&Digest::of(b"root")) && !code().is_for(&Digest::of(b"other")));
        assert!(!format!("{:?}", code()).contains("0202"), "the secret is not printed");
    }

    #[test]
    fn what_is_cut_or_changed_in_form_is_no_code() {
        let text = code().reveal();
        let at = text.find('@').unwrap();
        for cut in 0..at + 1 {
            assert_eq!(text[..cut].parse::<Code>(), Err(CodeError), "{cut}");
        }
        let long = format!("{text}{}", "a".repeat(MAX_CODE));
        for bad in [text.replace("ti1", "ts1"), text.replace('@', "@@"), text.replacen('.', "..", 1), long] {
            assert_eq!(bad.parse::<Code>(), Err(CodeError), "{bad}");
        }
    }

    #[test]
    fn a_proof_is_for_one_request() {
        assert_ne!(to_be_proven(b"a"), to_be_proven(b"b"));
        assert!(to_be_proven(b"a").starts_with(LABEL));
    }
}
