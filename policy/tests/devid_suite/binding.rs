//! Row A11: an IDevID counts for PCR claims only if it is tied to the attestation key.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::factory::{Key, Maker};
use policy::evidence::devid::{Binding, BindingError, BoundBy, ProvenIdevId};
use policy::evidence::identity::IdentityKeyError;
use policy::evidence::{Purpose, qualifying_data};
use policy::x509::oid;

/// A box: its maker's certificates and its keys.
struct Box {
    maker: Maker,
    serial: &'static str,
    idevid: Key,
    ak: Key,
}

const DATA: [u8; 32] = [7; 32];

impl Box {
    fn new(serial: &'static str) -> Self {
        Self { maker: Maker::new("OEM Root"), serial, idevid: Key::new(), ak: Key::new() }
    }

    fn proven(&self) -> ProvenIdevId {
        let data = qualifying_data(Purpose::DeviceIdentity, b"c", b"s");
        self.maker.idevid(&self.idevid, self.serial).prove(data, &self.idevid.sign(&data)).unwrap()
    }
}

#[test]
fn an_idevid_alone_identifies_and_binds_nothing() {
    let identity = Box::new("4711").proven().identify();
    assert_eq!(identity.binding(), Binding::IdentifiesOnly);
    assert_eq!(identity.certificate().serial_number(), "4711");
}

#[test]
fn the_aks_certification_of_the_idevid_key_binds() {
    let a = Box::new("4711");
    let public = a.idevid.idevid_public();
    let (attest, signature) = a.ak.certify(&public, DATA);
    let bind = |ak: &Key, data| a.proven().bind_by_certify(&public, (&attest, &signature), &ak.ak(), data);
    let ak = a.ak.ak().name();
    assert_eq!(bind(&a.ak, DATA).unwrap().binding(), Binding::Bound { ak, by: BoundBy::Certify });
    // Box B's AK did not sign it, and for another challenge it is not fresh.
    let other = bind(&Key::new(), DATA).unwrap_err();
    assert!(matches!(other, BindingError::Certify(IdentityKeyError::Signature(_))), "{other}");
    let stale = bind(&a.ak, [8; 32]).unwrap_err();
    assert_eq!(stale, BindingError::Certify(IdentityKeyError::QualifyingData));
}

#[test]
fn a_key_that_its_maker_does_not_place_in_a_tpm_is_certified_by_nobody() {
    // Whoever has the key in a file runs a TPM in software, whose AK certifies it.
    let (a, data) = (Box::new("4711"), qualifying_data(Purpose::DeviceIdentity, b"c", b"s"));
    let public = a.idevid.idevid_public();
    let (attest, signature) = a.ak.certify(&public, DATA);
    for (policies, missing) in [
        (&[][..], "tcg-cap-verifiedTPMResidency (2.23.133.11.1.1)"),
        (&[oid::TCG_VERIFIED_RESIDENCY], "tcg-cap-verifiedTPMFixed (2.23.133.11.1.2)"),
    ] {
        let idevid = a.maker.judge(&a.maker.device(&a.idevid, "4711", policies, |_| {})).unwrap();
        let proven = idevid.prove(data, &a.idevid.sign(&data)).unwrap();
        let error = proven.bind_by_certify(&public, (&attest, &signature), &a.ak.ak(), DATA).unwrap_err();
        let expected =
            BindingError::Policy { certificate: "SERIALNUMBER=4711,CN=box".into(), policy: missing };
        assert_eq!(error, expected);
    }
}

#[test]
fn box_as_idevid_does_not_vouch_for_box_bs_ak() {
    let (a, b) = (Box::new("4711"), Box::new("4712"));
    // B's AK certifies a key of B, and shows A's IDevID beside it.
    let public = b.idevid.idevid_public();
    let (attest, signature) = b.ak.certify(&public, DATA);
    let error = a.proven().bind_by_certify(&public, (&attest, &signature), &b.ak.ak(), DATA).unwrap_err();
    assert!(matches!(error, BindingError::OtherKey { .. }), "{error}");
    // A's IAK certificate is for A's AK.
    let iak = a.maker.iak(&a.ak, "4711");
    let error = a.proven().bind_by_iak(&iak, &b.ak.ak()).unwrap_err();
    assert!(matches!(error, BindingError::OtherAk { .. }), "{error}");
}

#[test]
fn the_makers_iak_certificate_of_the_same_box_binds() {
    let a = Box::new("4711");
    let bound = a.proven().bind_by_iak(&a.maker.iak(&a.ak, "4711"), &a.ak.ak()).unwrap();
    let ak = a.ak.ak().name();
    assert_eq!(bound.binding(), Binding::Bound { ak, by: BoundBy::IakCertificate });
}

#[test]
fn an_iak_certificate_of_another_box_or_maker_does_not() {
    let a = Box::new("4711");
    let other_box = a.maker.iak(&a.ak, "4712");
    let error = a.proven().bind_by_iak(&other_box, &a.ak.ak()).unwrap_err();
    assert_eq!(error, BindingError::OtherSerial { idevid: "4711".into(), iak: "4712".into() });
    // Another maker's box 4711 is another box.
    let other_maker = Maker::new("Other Root").iak(&a.ak, "4711");
    let error = a.proven().bind_by_iak(&other_maker, &a.ak.ak()).unwrap_err();
    assert_eq!(error, BindingError::OtherRoot { idevid: "CN=OEM Root".into(), iak: "CN=Other Root".into() });
    // Neither is one with a root of the same name.
    let namesake = Maker::new("OEM Root").iak(&a.ak, "4711");
    let error = a.proven().bind_by_iak(&namesake, &a.ak.ak()).unwrap_err();
    assert!(matches!(error, BindingError::OtherRoot { .. }), "{error}");
}
