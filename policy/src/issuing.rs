//! The plant's issuing keys, which the plant root numbers.
//!
//! The root is offline, so it signs no list of authorities: it signs the broker's issuing key, and that signs the lists.
//! The number of an issuing key stands in its certificate's subject, as `plant.example issuing 2`, and who saw a higher
//! one believes a lower one no more: a key that was replaced, because it was lost or stolen, cannot come back.

use crate::id::PlantDomain;
use crate::x509::name::attributes;

/// `id-at-commonName` (RFC 5280, appendix A.1), contents of the object identifier.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The common name of issuing key `number` of `plant`.
#[must_use]
pub fn issuing_name(plant: &PlantDomain, number: u32) -> String {
    format!("{plant} issuing {number}")
}

/// The number in the name (DER) of an issuing key of `plant`; None: it is the name of something else.
///
/// It is worth what the certificate is that has it: verify that under the plant root.
#[must_use]
pub fn issuing_number(name: &[u8], plant: &PlantDomain) -> Option<u32> {
    let attributes = attributes(name).ok()?;
    let [only] = attributes.as_slice() else { return None };
    let text = std::str::from_utf8(only.value).ok().filter(|_| only.oid == COMMON_NAME)?;
    let number = text.rsplit(' ').next()?.parse().ok()?;
    (issuing_name(plant, number) == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::x509::der;

    fn name(value: &str) -> Vec<u8> {
        let oid = der::encode(der::OBJECT_IDENTIFIER, &[COMMON_NAME]);
        let pair = der::encode(der::SEQUENCE, &[&oid, &der::encode(0x0c, &[value.as_bytes()])]);
        der::encode(der::SEQUENCE, &[&der::encode(der::SET, &[&pair])])
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(number: u32) {
            let plant = "plant.example".parse().unwrap();
            prop_assert_eq!(issuing_number(&name(&issuing_name(&plant, number)), &plant), Some(number));
        }

        #[test]
        fn no_bytes_make_it_fail(bytes: Vec<u8>) {
            prop_assert_eq!(issuing_number(&bytes, &"plant.example".parse().unwrap()), None);
        }
    }

    #[test]
    fn other_names_have_no_number() {
        let plant = "plant.example".parse().unwrap();
        for other in [
            "plant.example plant root",
            "other.example issuing 3",
            "plant.example issuing 03",
            "plant.example issuing +3",
            "plant.example issuing 4294967296",
            "plant.example issuing",
            "cell.plant.example caller 3",
        ] {
            assert_eq!(issuing_number(&name(other), &plant), None, "{other}");
        }
        let twice = [&name("plant.example issuing 3")[2..], &name("x")[2..]].concat();
        assert_eq!(issuing_number(&der::encode(der::SEQUENCE, &[&twice]), &plant), None);
    }
}
