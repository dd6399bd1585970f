//! What an IDevID or IAK certificate must say, and what is read from it.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::factory::{AT, IAK_POLICIES, Key, Maker, box_names};
use policy::evidence::devid::{DevIdError, describe, verify_idevid};
use policy::evidence::endorsement::{EndorsementError, ValidityPolicy};
use policy::evidence::{Purpose, qualifying_data};
use policy::x509::oid;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyUsagePurpose, date_time_ymd,
};

fn refusal(change: impl FnOnce(&mut CertificateParams)) -> DevIdError {
    let maker = Maker::new("OEM Root");
    maker.judge(&maker.device(&Key::new(), "4711", &[], change)).unwrap_err()
}

fn chain(error: DevIdError) -> EndorsementError {
    match error {
        DevIdError::Chain("IDevID", error) => error,
        other => unreachable!("{other}"),
    }
}

#[test]
fn an_idevid_that_never_ends_is_read_with_all_its_names() {
    let (maker, key) = (Maker::new("OEM Root"), Key::new());
    let der = maker.device(&key, "4711", &[oid::TCG_VERIFIED_RESIDENCY], |params| {
        params.custom_extensions.push(box_names(b"\x01\x02", "ek-digest"));
    });
    let idevid = maker.judge(&der).unwrap();
    let read = idevid.certificate();
    assert_eq!(
        (read.serial_number(), read.root_subject(), read.root_label()),
        ("4711", "CN=OEM Root", "oem.pem")
    );
    assert_eq!((read.model(), read.manufacturer()), (Some("box"), "CN=OEM Root"), "it names no organization");
    assert_eq!(read.validity().not_after.to_string(), "9999-12-31T00:00:00Z");
    let described = describe(&der).unwrap();
    assert_eq!((described.box_digest, described.in_tpm), (read.box_digest(), false), "fixed in no TPM");
    assert_eq!((described.key, described.serial_number.as_str()), (read.key().digest(), "4711"));
    let module = read.hardware_module().unwrap();
    assert_eq!((module.kind.as_str(), module.serial.as_slice()), ("2.23.133.1.2", &[1, 2][..]));
    let [identifier] = read.permanent_identifiers() else { unreachable!("{read:?}") };
    assert_eq!(identifier.value.as_deref(), Some("ek-digest"));
    assert_eq!(identifier.assigner.as_deref(), Some("2.23.133.12.1"));
}

#[test]
fn the_root_must_be_the_manufacturers() {
    let (maker, other) = (Maker::new("OEM Root"), Maker::new("Other Root"));
    let der = maker.device(&Key::new(), "4711", &[], |_| {});
    let error = chain(other.judge(&der).unwrap_err());
    assert!(
        matches!(&error, EndorsementError::UnknownIssuer { issuer, .. } if issuer == "CN=OEM Root"),
        "{error}"
    );
    // A namesake with another key, even if the device sends it along.
    let namesake = Maker::new("OEM Root");
    let at = AT.parse().unwrap();
    let error =
        verify_idevid(&der, &[&maker.der], &namesake.store(), at, ValidityPolicy::AtTime).unwrap_err();
    assert!(matches!(chain(error), EndorsementError::Signature { .. } | EndorsementError::Circle { .. }));
}

#[test]
fn time_is_held_against_it() {
    let error = chain(refusal(|params| params.not_after = date_time_ymd(2026, 1, 1)));
    assert!(matches!(error, EndorsementError::Expired { .. }), "{error}");
    let error = chain(refusal(|params| params.not_before = date_time_ymd(2027, 1, 1)));
    assert!(matches!(error, EndorsementError::NotYetValid { .. }), "{error}");
}

#[test]
fn the_subject_names_one_box() {
    let problem = |change: fn(&mut CertificateParams)| match refusal(change) {
        DevIdError::SerialNumber { problem, .. } => problem,
        other => unreachable!("{other}"),
    };
    let serial = || DnType::CustomDnType(vec![2, 5, 4, 5]);
    assert_eq!(
        problem(|params| _ = params.distinguished_name.remove(DnType::CustomDnType(vec![2, 5, 4, 5]))),
        "lacks"
    );
    let malformed = |text: &str| {
        let error = refusal(|params| params.distinguished_name.push(serial(), text));
        assert!(matches!(&error, DevIdError::SerialNumber { problem: "has a malformed", .. }), "{error}");
    };
    malformed("");
    malformed("a\nb");
    malformed(&"x".repeat(65));
}

#[test]
fn an_authority_or_a_key_for_something_else_is_no_device() {
    let error = refusal(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(matches!(error, DevIdError::IsAuthority(_)), "{error}");
    let error = refusal(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert!(matches!(error, DevIdError::IsAuthority(_)), "{error}");
    let error = chain(refusal(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]));
    assert!(matches!(error, EndorsementError::KeyUsage { .. }), "{error}");
    let error = chain(refusal(|params| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    }));
    assert!(matches!(error, EndorsementError::CriticalExtension { .. }), "{error}");
}

#[test]
fn an_iak_certificate_says_what_its_issuer_verified() {
    let maker = Maker::new("OEM Root");
    let with = |policies: &[&[u8]]| maker.judge_iak(&maker.device(&Key::new(), "4711", policies, |_| {}));
    with(&IAK_POLICIES).unwrap();
    for (missing, name) in [(0, "Residency"), (1, "Fixed"), (2, "Restricted")] {
        let mut policies = IAK_POLICIES.to_vec();
        policies.remove(missing);
        let error = with(&policies).unwrap_err();
        assert!(matches!(&error, DevIdError::Policy { policy, .. } if policy.contains(name)), "{error}");
    }
}

#[test]
fn who_does_not_hold_the_key_is_not_the_box() {
    let (maker, key) = (Maker::new("OEM Root"), Key::new());
    let data = qualifying_data(Purpose::DeviceIdentity, b"challenge", b"statement");
    let prove = |data, signature: &[u8]| maker.idevid(&key, "4711").prove(data, signature);
    prove(data, &key.sign(&data)).unwrap();
    let refused = |result: Result<_, DevIdError>| match result.map(drop).unwrap_err() {
        DevIdError::NotSigned { certificate } => assert!(certificate.contains("CN=box"), "{certificate}"),
        other => unreachable!("{other}"),
    };
    refused(prove(data, &Key::new().sign(&data)));
    // A signature for another use, another challenge, or of another kind.
    refused(prove(data, &key.sign(&qualifying_data(Purpose::Quote, b"challenge", b"statement"))));
    refused(prove(qualifying_data(Purpose::DeviceIdentity, b"other", b"statement"), &key.sign(&data)));
    let rsa = [&[0, 0x14, 0, 0x0b, 1, 0][..], &[7; 256]].concat();
    refused(prove(data, &rsa));
    let sha384 = {
        let mut other = key.sign(&data);
        other[3] = 0x0c;
        other
    };
    refused(prove(data, &sha384));
    assert!(matches!(prove(data, b"x"), Err(DevIdError::Signature(_))));
}
