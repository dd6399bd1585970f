//! The key that signs grants.

use policy::access::grant::TYPE;

use crate::record::plant::GRANT;
use crate::token_key::{Purpose, TokenKey};

/// Tokens that are grants.
#[derive(Debug)]
pub enum Grants {}

impl Purpose for Grants {
    const KEY: &'static str = GRANT;
    const NAME: &'static str = "grant-key";
    const TYPE: &'static str = TYPE;
    /// Devices verify grants without the broker.
    const TOLD: bool = true;
}

/// The key that signs grants.
pub type GrantKey = TokenKey<Grants>;
