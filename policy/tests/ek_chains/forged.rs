//! Forged and broken EK chains: each is refused, and for its own reason.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::forge::{AT, Authority, EK_PURPOSE, TPM, judge, pem, store, tpm_names};
use policy::digest::Digest;
use policy::evidence::endorsement::{
    EndorsementError, Import, Imported, MAX_EXTRA_INTERMEDIATES, RootError, RootStore, ValidityPolicy,
    endorse,
};
use policy::x509::SubjectKey;
use policy::x509::der;
use policy::x509::readout::ReadoutError;
use policy::x509::signature::SignatureError;
use rcgen::{
    BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};

/// The text of the refusal of an EK certificate made under one root with changes.
fn refusal(change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
    let root = Authority::root("Root");
    let ek = root.ek_with(|params| {
        params.distinguished_name.push(DnType::CommonName, "EK");
        change(params);
    });
    judge(&ek, &[], &store(&[&root.der])).unwrap_err().to_string()
}

#[test]
fn a_proper_chain_is_endorsed_with_all_that_it_says() {
    let root = Authority::root("Root");
    let middle = root.below("Middle");
    let ek = middle.ek();
    let roots = store(&[&root.der]);
    let endorsed = judge(&ek, &[&middle.der], &roots).unwrap();
    assert_eq!(endorsed.root_subject(), "CN=Root");
    assert_eq!(endorsed.root_label(), "roots.pem");
    assert_eq!(endorsed.root_digest(), Digest::of(&root.der));
    assert_eq!(endorsed.certificate_digest(), Digest::of(&ek));
    assert_eq!(endorsed.chain_length(), 3);
    assert_eq!(endorsed.manufacturer().to_string(), "Infineon");
    assert_eq!((endorsed.model(), endorsed.version().to_string().as_str()), ("SLB 9670", "7.61"));
    let known: Vec<_> = endorsed.advisories().iter().map(|advisory| advisory.id).collect();
    assert_eq!(known, ["CVE-2017-15361"]);
    assert_eq!(judge(&ek, &[], &store(&[&middle.der, &root.der])).unwrap(), endorsed);
}

#[test]
fn keys_of_every_accepted_kind_are_endorsed() {
    let root = Authority::root("Root");
    let roots = store(&[&root.der]);
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    // Template H-4.
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    for (key, kind, size) in [(p384, "ecc", "P-384"), (p521, "ecc", "P-521"), (rsa, "rsa", "2048")] {
        let endorsed = judge(&root.ek_for(&key, |_| {}), &[], &roots).unwrap();
        assert_eq!((endorsed.key().kind(), endorsed.key().size().as_str()), (kind, size));
    }
}

#[test]
fn the_endorsement_is_bound_to_one_ek() {
    let root = Authority::root("Root");
    let key = KeyPair::generate().unwrap();
    let ek = root.ek_for(&key, |_| {});
    let roots = store(&[&root.der]);

    // The digest as it is computed from a TPM's public area: coordinates, not a certificate.
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    let public = SubjectKey::ec(policy::x509::spki::Curve::P256, x, y).unwrap().digest();
    let bound = judge(&ek, &[], &roots).unwrap().bind(&public).unwrap();
    assert_eq!(bound.endorsed().digest(), public);

    let other = Digest::of(b"another EK");
    let error = judge(&ek, &[], &roots).unwrap().bind(&other).unwrap_err();
    assert_eq!((error.certified, error.presented), (public, other));
}

#[test]
fn an_empty_store_endorses_nothing() {
    let root = Authority::root("Root");
    let error = judge(&root.ek(), &[&root.der], &RootStore::new()).unwrap_err();
    // The device's own root comes along as an intermediate and leads nowhere.
    assert!(matches!(&error, EndorsementError::Circle { issuer, .. } if issuer == "CN=Root"), "{error}");
    let error = judge(&root.ek(), &[], &RootStore::new()).unwrap_err();
    assert!(matches!(&error, EndorsementError::UnknownIssuer { issuer, .. } if issuer == "CN=Root"));
}

#[test]
fn time_is_held_against_every_certificate_of_the_chain() {
    assert_eq!(
        refusal(|params| params.not_after = date_time_ymd(2026, 1, 1)),
        "`CN=EK` expired at 2026-01-01T00:00:00Z, judged at 2026-06-01T00:00:00Z: allow validity at \
         manufacture, or register the EK by its digest"
    );
    assert_eq!(
        refusal(|params| params.not_before = date_time_ymd(2027, 1, 1)),
        "`CN=EK` is valid from 2027-01-01T00:00:00Z, judged at 2026-06-01T00:00:00Z: set the clock"
    );
    let root = Authority::root("Root");
    let middle = root.below_with("Middle", |params| params.not_after = date_time_ymd(2026, 1, 1));
    let (ek, roots) = (middle.ek(), store(&[&root.der]));
    let error = judge(&ek, &[&middle.der], &roots).unwrap_err();
    assert!(matches!(&error, EndorsementError::Expired { certificate, .. } if certificate == "CN=Middle"));
    // It was valid when the EK certificate began.
    endorse(&ek, &[&middle.der], &roots, AT.parse().unwrap(), ValidityPolicy::AtLeafNotBefore).unwrap();

    // An authority's certificate that was replaced after the EK certificate began still does.
    let root = Authority::root("Root");
    let middle = root.below_with("Middle", |params| params.not_before = date_time_ymd(2026, 1, 1));
    let (ek, roots) = (middle.ek(), store(&[&root.der]));
    endorse(&ek, &[&middle.der], &roots, AT.parse().unwrap(), ValidityPolicy::AtLeafNotBefore).unwrap();

    let root = Authority::root_with("Root", |params| params.not_after = date_time_ymd(2026, 1, 1));
    let error = judge(&root.ek(), &[], &store(&[&root.der])).unwrap_err();
    assert!(matches!(&error, EndorsementError::Expired { certificate, .. } if certificate == "CN=Root"));
}

#[test]
fn the_leaf_must_be_an_ek_certificate() {
    let authority = "`CN=EK` is a certification authority, no EK certificate";
    assert_eq!(refusal(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), authority);
    assert_eq!(refusal(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)), authority);
    assert_eq!(
        refusal(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
        "keyUsage of `CN=EK` lacks keyEncipherment and keyAgreement, one of which an EK has"
    );
    let purpose = "`CN=EK` lacks the EK's key purpose 2.23.133.8.1 (tcg-kp-EKCertificate): it is no EK \
                   certificate, or its issuer makes none";
    assert_eq!(refusal(|params| params.extended_key_usages.clear()), purpose);
    for other in [
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::Any,
        // The purposes of platform and AK certificates.
        ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 2]),
        ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3]),
    ] {
        assert_eq!(refusal(|params| params.extended_key_usages = vec![other]), purpose);
    }
}

#[test]
fn the_tcg_attributes_must_be_there_once() {
    let [manufacturer, model, version] = TPM;
    let of = |attributes: &[(u8, &str)]| {
        let names = tpm_names(attributes);
        refusal(|params| params.custom_extensions = vec![names])
    };
    let said = |problem: &str, attribute: &str| {
        format!("`CN=EK`: subjectAltName {problem} {attribute}, which an EK certificate has once")
    };
    assert_eq!(of(&[manufacturer, model]), said("lacks", "tcg-at-tpmVersion"));
    assert_eq!(of(&[model, version]), said("lacks", "tcg-at-tpmManufacturer"));
    assert_eq!(of(&[manufacturer, version]), said("lacks", "tcg-at-tpmModel"));
    assert_eq!(of(&[manufacturer, manufacturer, model, version]), said("repeats", "tcg-at-tpmManufacturer"));
    assert_eq!(of(&[(1, "Infineon"), model, version]), said("has a malformed", "tcg-at-tpmManufacturer"));
    assert_eq!(of(&[manufacturer, (2, "a\nb"), version]), said("has a malformed", "tcg-at-tpmModel"));
    assert_eq!(of(&[manufacturer, model, (3, "7.61")]), said("has a malformed", "tcg-at-tpmVersion"));
    assert_eq!(refusal(|params| params.custom_extensions.clear()), said("lacks", "tcg-at-tpmManufacturer"));
}

#[test]
fn critical_extensions_that_are_not_understood_are_refused() {
    let extension = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(critical);
        extension
    };
    assert_eq!(
        refusal(|params| params.custom_extensions.push(extension(true))),
        "`CN=EK` has critical extension 1.3.6.1.4.1.99999.1, which is not understood here"
    );
    let root = Authority::root("Root");
    let roots = store(&[&root.der]);
    judge(&root.ek_with(|params| params.custom_extensions.push(extension(false))), &[], &roots).unwrap();

    let middle = root.below_with("Middle", |params| params.custom_extensions.push(extension(true)));
    let error = judge(&middle.ek(), &[&middle.der], &roots).unwrap_err();
    let (certificate, extension) = ("CN=Middle".to_owned(), "1.3.6.1.4.1.99999.1".to_owned());
    assert_eq!(error, EndorsementError::CriticalExtension { certificate, extension });

    let middle = root.below_with("Middle", |params| {
        let permitted = vec![GeneralSubtree::DnsName("example".to_owned())];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    });
    let error = judge(&middle.ek(), &[&middle.der], &roots).unwrap_err();
    assert_eq!(error, EndorsementError::NameConstraints { certificate: "CN=Middle".to_owned() });
}

#[test]
fn critical_policies_are_accepted_as_manufacturers_use_them() {
    let root = Authority::root("Root");
    let middle = root.below_with("Middle", |params| {
        // anyPolicy, 2.5.29.32.0
        let any = vec![0x30, 8, 0x30, 6, 6, 4, 0x55, 0x1d, 0x20, 0];
        let mut policies = CustomExtension::from_oid_content(&[2, 5, 29, 32], any);
        policies.set_criticality(true);
        params.custom_extensions.push(policies);
    });
    judge(&middle.ek(), &[&middle.der], &store(&[&root.der])).unwrap();
}

#[test]
fn an_issuer_must_be_an_authority() {
    let root = Authority::root("Root");
    let roots = store(&[&root.der]);
    let refused = |change: fn(&mut rcgen::CertificateParams)| {
        let middle = root.below_with("Middle", change);
        judge(&middle.ek(), &[&middle.der], &roots).unwrap_err()
    };
    let certificate = || "CN=Middle".to_owned();
    let error = refused(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(error, EndorsementError::NotAnAuthority { certificate: certificate() });
    let error = refused(|params| params.is_ca = IsCa::NoCa);
    assert_eq!(error, EndorsementError::NotAnAuthority { certificate: certificate() });
    let error = refused(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert_eq!(error, EndorsementError::KeyUsage { certificate: certificate(), wanted: "keyCertSign" });
    let error = refused(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(error, EndorsementError::KeyPurpose { certificate: certificate() });
}

#[test]
fn an_ek_certificate_is_no_issuer() {
    let root = Authority::root("Root");
    // A genuine EK certificate whose key signs another one.
    let thief = root.below_with("Thief", |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EK_PURPOSE.to_vec())];
        params.custom_extensions = vec![tpm_names(&TPM)];
    });
    let roots = store(&[&root.der]);
    judge(&thief.der, &[], &roots).unwrap();
    let error = judge(&thief.ek(), &[&thief.der], &roots).unwrap_err();
    assert_eq!(error, EndorsementError::NotAnAuthority { certificate: "CN=Thief".to_owned() });
}

#[test]
fn path_length_is_kept() {
    let root =
        Authority::root_with("Root", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let roots = store(&[&root.der]);
    judge(&root.ek(), &[], &roots).unwrap();
    let middle = root.below("Middle");
    let error = judge(&middle.ek(), &[&middle.der], &roots).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`CN=Root` allows 0 authorities below it (pathLenConstraint), the chain has 1"
    );
}

#[test]
fn a_namesake_with_another_key_vouches_for_nothing() {
    let (real, fake) = (Authority::root("Root"), Authority::root("Root"));
    let error = judge(&fake.ek(), &[], &store(&[&real.der])).unwrap_err();
    assert!(matches!(&error, EndorsementError::IssuerKey { issuer, .. } if issuer == "CN=Root"), "{error}");

    // Without the key identifier the signature tells.
    let ek = fake.ek_with(|params| params.use_authority_key_identifier_extension = false);
    let error = judge(&ek, &[], &store(&[&real.der])).unwrap_err();
    let EndorsementError::Signature { issuer, source, .. } = &error else { panic!("{error}") };
    assert_eq!((issuer.as_str(), source), ("CN=Root (roots.pem)", &SignatureError::Wrong));
    judge(&ek, &[], &store(&[&real.der, &fake.der])).unwrap();
}

#[test]
fn the_string_type_of_a_name_does_not_part_a_certificate_from_its_issuer() {
    let mut root = Authority::root_with("Root", |params| {
        let name = rcgen::DnValue::PrintableString("Root".try_into().unwrap());
        params.distinguished_name.push(DnType::CommonName, name);
    });
    let roots = store(&[&root.der]);
    root.params.distinguished_name.push(DnType::CommonName, "Root");
    let ek = root.ek();
    let names = |der: &[u8]| {
        let certificate = policy::x509::Certificate::parse(der).unwrap();
        (certificate.issuer().to_vec(), certificate.subject().to_vec())
    };
    assert_ne!(names(&ek).0, names(&root.der).1);
    judge(&ek, &[], &roots).unwrap();
}

#[test]
fn the_devices_intermediates_never_become_roots() {
    let (real, fake) = (Authority::root("Real"), Authority::root("Fake"));
    let error = judge(&fake.ek(), &[&fake.der], &store(&[&real.der])).unwrap_err();
    assert!(matches!(&error, EndorsementError::Circle { issuer, .. } if issuer == "CN=Fake"), "{error}");
}

#[test]
fn authorities_that_sign_each_other_end_nowhere() {
    let (a, b) = (Authority::root("A"), Authority::root("B"));
    let (a_by_b, b_by_a) = (b.cross_sign(&a), a.cross_sign(&b));
    let roots = store(&[&a_by_b, &b_by_a]);
    assert_eq!(roots.anchors(), 0);
    let error = judge(&a.ek(), &[], &roots).unwrap_err();
    assert!(matches!(&error, EndorsementError::Circle { issuer, .. } if issuer == "CN=A"), "{error}");
    // One self-signed certificate opens the circle.
    judge(&a.ek(), &[], &store(&[&a_by_b, &b_by_a, &b.der])).unwrap();
}

#[test]
fn a_thicket_of_authorities_costs_a_bounded_amount_of_work() {
    let all: Vec<_> = (0..8).map(|number| Authority::root(&format!("CA {number}"))).collect();
    let mut roots = RootStore::new();
    for issuer in &all {
        for subject in
            all.iter().filter(|subject| subject.params.distinguished_name != issuer.params.distinguished_name)
        {
            roots.add("thicket", &issuer.cross_sign(subject)).unwrap();
        }
    }
    assert_eq!((roots.anchors(), roots.intermediates()), (0, 56));
    assert_eq!(judge(&all[0].ek(), &[], &roots).unwrap_err(), EndorsementError::TooMuchWork);
}

#[test]
fn a_chain_has_an_end() {
    let root = Authority::root("Root");
    let mut chain = vec![root];
    for number in 0..7 {
        let next = chain.last().unwrap().below(&format!("CA {number}"));
        chain.push(next);
    }
    let all: Vec<&[u8]> = chain.iter().map(|authority| authority.der.as_slice()).collect();
    let roots = store(&all);
    // Six authorities below the root, and the EK certificate: eight in all.
    assert_eq!(judge(&chain[6].ek(), &[], &roots).unwrap().chain_length(), 8);
    assert_eq!(judge(&chain[7].ek(), &[], &roots).unwrap_err(), EndorsementError::TooLong);
}

#[test]
fn too_many_intermediates_are_refused_unread() {
    let root = Authority::root("Root");
    let sent = vec![b"garbage".as_slice(); MAX_EXTRA_INTERMEDIATES + 1];
    let error = judge(&root.ek(), &sent, &store(&[&root.der])).unwrap_err();
    assert_eq!(error, EndorsementError::TooManyIntermediates(MAX_EXTRA_INTERMEDIATES + 1));
    let error = judge(&root.ek(), &[b"garbage"], &store(&[&root.der])).unwrap_err();
    let source = ReadoutError::UnknownForm(b'g');
    assert_eq!(error, EndorsementError::IntermediateReadout { number: 1, source });
}

#[test]
fn keys_that_no_ek_has_are_refused() {
    let root = Authority::root("Root");
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let roots = store(&[&root.der]);
    struct Short(Vec<u8>);
    impl rcgen::PublicKeyData for Short {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &PKCS_RSA_SHA256
        }
    }
    let numbers = [der::encode_unsigned(&[0xff; 128]), der::encode_unsigned(&[1, 0, 1])].concat();
    let short = Short(der::encode(der::SEQUENCE, &[&numbers]));
    let error = judge(&root.ek_for(&short, |_| {}), &[], &roots).unwrap_err();
    assert!(matches!(&error, EndorsementError::KeyKind { key, .. } if key == "rsa 1024"), "{error}");
    let error = judge(&root.ek_for(&ed25519, |_| {}), &[], &roots).unwrap_err();
    let EndorsementError::Key { source, .. } = error else { panic!("{error}") };
    assert_eq!(
        source.to_string(),
        "the public key has algorithm 1.3.101.112; RSA and elliptic curves are read"
    );
}

#[test]
fn a_point_off_its_curve_is_refused() {
    struct Broken(Vec<u8>);
    impl rcgen::PublicKeyData for Broken {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }
    let mut point = KeyPair::generate().unwrap().public_key_raw().to_vec();
    *point.last_mut().unwrap() ^= 1;
    let root = Authority::root("Root");
    let error = judge(&root.ek_for(&Broken(point), |_| {}), &[], &store(&[&root.der])).unwrap_err();
    let EndorsementError::Key { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "the public key is no valid P-256 key");
}

#[test]
fn what_follows_the_certificate_is_fill_or_refused() {
    let root = Authority::root("Root");
    let (ek, roots) = (root.ek(), store(&[&root.der]));
    let plain = judge(&ek, &[], &roots).unwrap();
    assert_eq!(judge(&[&ek[..], &[0xff; 500]].concat(), &[], &roots).unwrap(), plain);
    let error = judge(&[&ek[..], b"garbage"].concat(), &[], &roots).unwrap_err();
    let source = ReadoutError::TrailingBytes { left: 7, first: b'g' };
    assert_eq!(error, EndorsementError::Readout(source));
}

#[test]
fn an_authority_without_a_public_root_can_be_pinned() {
    let root = Authority::root("Secret root");
    let middle = root.below("Factory");
    let ek = middle.ek();
    let error = judge(&ek, &[], &store(&[&middle.der])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "issuer `CN=Secret root` of `CN=Factory` is not among the roots: add its certificate"
    );
    let mut roots = store(&[&middle.der]);
    roots.pin("factory.der", &middle.der).unwrap();
    assert_eq!((roots.anchors(), roots.intermediates()), (1, 0));
    let endorsed = judge(&ek, &[], &roots).unwrap();
    assert_eq!((endorsed.root_subject(), endorsed.root_label()), ("CN=Factory", "factory.der"));
    // It stays pinned when its bundle is added again.
    roots.add("bundle.pem", &middle.der).unwrap();
    assert_eq!((roots.anchors(), roots.intermediates()), (1, 0));
}

#[test]
fn a_file_of_roots_is_taken_whole_or_not_at_all() {
    let root = Authority::root("Root");
    let mut roots = RootStore::new();
    let error = roots.add("roots.pem", b"hello").unwrap_err();
    assert_eq!(
        error.to_string(),
        "roots.pem is neither a DER certificate, a PEM bundle of certificates nor a cabinet of them"
    );
    let cut = &root.der[..root.der.len() - 1];
    let error = roots.add("root.der", cut).unwrap_err();
    assert!(matches!(error, RootError::Malformed { number: 1, .. }));
    let bundle = [pem(&root.der), pem(cut)].concat();
    let error = roots.add("roots.pem", bundle.as_bytes()).unwrap_err();
    assert!(matches!(error, RootError::Malformed { number: 2, .. }));
    assert_eq!(roots.anchors(), 0);
}

#[test]
fn a_bundle_with_comments_carriage_returns_and_duplicates_is_taken() {
    let root = Authority::root("Root");
    let middle = root.below("Middle");
    let bundle = [
        b"# Wurzeln, M\xfcnchen\r\n".as_slice(),
        pem(&root.der).replace('\n', "\r\n").as_bytes(),
        b"Subject: CN = Middle\n",
        pem(&middle.der).as_bytes(),
        pem(&root.der).as_bytes(),
    ]
    .concat();
    let mut roots = RootStore::new();
    let added = roots.add("roots.pem", &bundle).unwrap();
    assert_eq!((added.anchors, added.intermediates, added.known), (1, 1, 1));
    judge(&middle.ek(), &[], &roots).unwrap();
}

#[test]
fn an_import_accounts_for_every_file() {
    let root = Authority::root("Root");
    let mut import = Import::new();
    import.named("root.der", &root.der).unwrap();
    let error = import.named("notes.txt", b"hello").unwrap_err();
    assert_eq!(error, RootError::NoCertificates("notes.txt".into()));
    import.found("roots/README", "README", b"hello");
    import.found("roots/cut.der", "cut.der", &root.der[..9]);
    import.found("roots/again.pem", "again.pem", pem(&root.der).as_bytes());
    let (store, files) = import.finish();
    assert_eq!(store.anchors(), 1);
    let lines: Vec<String> = files.iter().map(ToString::to_string).collect();
    let refused =
        "refused: roots/cut.der: certificate 1 is malformed; remove it: offset 4: certificate needs";
    assert!(lines[2].starts_with(refused), "{}", lines[2]);
    assert_eq!(
        lines,
        [
            "root.der: 1 roots and 0 intermediates are new, 0 were known, 0 refused, 0 passed over",
            "passed over: roots/README holds no certificate",
            lines[2].as_str(),
            "roots/again.pem: 0 roots and 0 intermediates are new, 1 were known, 0 refused, 0 passed over",
        ]
    );
    let left_out: Vec<String> = files.iter().flat_map(Imported::left_out).collect();
    assert_eq!(left_out, lines[1..3]);
}
