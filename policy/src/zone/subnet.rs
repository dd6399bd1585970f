//! Subnets: the IP addresses that devices of a zone may have in their certificates.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most subnets of a zone: each stands in its authorities' certificates.
pub const MAX_SUBNETS: usize = 16;

/// A subnet in CIDR notation (RFC 4632, section 3.1; RFC 4291, section 2.3). Bits beyond the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// Not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no subnet; write its first address and the length of its prefix, for example 10.1.3.0/24 or fd00:3::/64"
)]
pub struct ParseSubnetError(String);

impl Subnet {
    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.prefix) == Some(self.address)
    }

    /// Whether its addresses are IPv4.
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Address and mask, as a name constraint has them (RFC 5280, section 4.2.1.10).
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(address) => [address.octets(), mask_v4(self.prefix).to_be_bytes()].concat(),
            IpAddr::V6(address) => [address.octets(), mask_v6(self.prefix).to_be_bytes()].concat(),
        }
    }
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0)
}

/// The first address with this prefix; none if there is no prefix of this length.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) if prefix <= 32 => {
            Some(Ipv4Addr::from_bits(address.to_bits() & mask_v4(prefix)).into())
        }
        IpAddr::V6(address) if prefix <= 128 => {
            Some(Ipv6Addr::from_bits(address.to_bits() & mask_v6(prefix)).into())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        let refuse = || ParseSubnetError(text.chars().take(60).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let digits = prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or_else(refuse)?;
        let found = Self { address, prefix };
        if found.contains(address) { Ok(found) } else { Err(refuse()) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Subnet {
    type Error = ParseSubnetError;

    fn try_from(text: String) -> Result<Self, ParseSubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subnet_contains_its_addresses_and_no_other() {
        let subnet: Subnet = "10.1.3.0/24".parse().unwrap();
        assert!(subnet.contains("10.1.3.7".parse().unwrap()));
        assert!(
            !subnet.contains("10.1.4.7".parse().unwrap()) && !subnet.contains("fd00::7".parse().unwrap())
        );
        assert_eq!(subnet.octets(), [10, 1, 3, 0, 255, 255, 255, 0]);
        let every: Subnet = "::/0".parse().unwrap();
        assert!(every.contains("fd00::7".parse().unwrap()) && every.octets() == [0; 32]);
        let host: Subnet = "10.1.3.7/32".parse().unwrap();
        assert!(host.contains("10.1.3.7".parse().unwrap()) && !host.contains("10.1.3.8".parse().unwrap()));
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in
            ["", "10.1.3.0", "10.1.3.7/24", "10.1.3.0/33", "10.1.3.0/+8", "fd00::1/64", "10.1.3/24", "a/8"]
        {
            assert!(text.parse::<Subnet>().unwrap_err().to_string().contains("is no subnet"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn its_text_is_read_back(bits: u32, prefix in 0_u8..=32) {
            let address = masked(IpAddr::V4(Ipv4Addr::from_bits(bits)), prefix).unwrap();
            let subnet = Subnet { address, prefix };
            prop_assert_eq!(subnet.to_string().parse(), Ok(subnet));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(subnet) = text.parse::<Subnet>() {
                prop_assert_eq!(subnet.to_string().parse(), Ok(subnet));
            }
        }
    }
}
