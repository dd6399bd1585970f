//! Row 33: a root vouches for the TPMs of its own manufacturer.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::forge::{Authority, judge, store, tpm_names};
use policy::evidence::endorsement::{EndorsementError, Manufacturer, RootStore};
use rcgen::DnType;

/// A root with an organisation in its subject.
fn root_of(organisation: &str) -> Authority {
    Authority::root_with("Root", |params| {
        params.distinguished_name.push(DnType::OrganizationName, organisation);
    })
}

/// A store that found these roots at these paths.
fn found(roots: &[(&str, &Authority)]) -> RootStore {
    let mut store = RootStore::new();
    for (path, root) in roots {
        store.add_at(path, path, &root.der).unwrap();
    }
    store
}

#[test]
fn row_33_a_manufacturers_root_does_not_vouch_for_anothers_tpm() {
    let root = root_of("Nuvoton Technology Corporation");
    // The workshop's TPMs say that they are Infineon's.
    let error = judge(&root.ek(), &[], &store(&[&root.der])).unwrap_err();
    let EndorsementError::OtherManufacturer { claimed, root: named, vouches_for, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*claimed, vouches_for.as_str()), (Manufacturer::INFINEON, "Nuvoton"));
    assert!(named.contains("Root") && named.ends_with("(roots.pem)"), "{named}");

    let own = root.ek_with(|params| {
        params.custom_extensions = vec![tpm_names(&[(1, "id:4E544300"), (2, "NPCT75x"), (3, "id:00070002")])];
    });
    assert_eq!(judge(&own, &[], &store(&[&root.der])).unwrap().manufacturer(), Manufacturer::NUVOTON);
}

#[test]
fn the_folder_of_a_root_wins_over_its_organisation() {
    let plain = Authority::root("Root");
    let nuvoton = root_of("Nuvoton Technology Corporation");
    for (path, root, endorsed) in [
        ("root.der", &plain, true),
        ("Infineon/RootCA/root.der", &plain, true),
        ("IFX/root.der", &nuvoton, true),
        ("roots/STMicro/root.der", &plain, false),
        // The folder nearest to the file counts, and the file's own name does not.
        ("Intel/Infineon/root.der", &plain, true),
        ("Infineon/Intel/root.der", &plain, false),
        ("Infineon/Intel", &plain, true),
    ] {
        let verdict = judge(&root.ek(), &[], &found(&[(path, root)]));
        match verdict {
            Ok(_) => assert!(endorsed, "{path}"),
            Err(EndorsementError::OtherManufacturer { .. }) => assert!(!endorsed, "{path}"),
            Err(other) => panic!("{path}: {other}"),
        }
    }
}

#[test]
fn a_root_in_two_folders_vouches_for_both() {
    let root = root_of("Microsoft Corporation");
    let refused = judge(&root.ek(), &[], &found(&[("Microsoft/a.cer", &root)])).unwrap_err();
    assert!(matches!(refused, EndorsementError::OtherManufacturer { .. }), "{refused}");
    judge(&root.ek(), &[], &found(&[("Microsoft/a.cer", &root), ("Infineon/a.cer", &root)])).unwrap();
    judge(&root.ek(), &[], &found(&[("Infineon/a.cer", &root), ("Microsoft/a.cer", &root)])).unwrap();
}

#[test]
fn another_root_of_the_same_name_is_tried() {
    let (right, wrong) = (Authority::root("Root"), Authority::root("Root"));
    let cross = right.below("Middle");
    let by_wrong = wrong.cross_sign(&cross);
    let mut roots = found(&[("Intel/a.cer", &wrong), ("IFX/b.cer", &right)]);
    roots.add("middles", &cross.der).unwrap();
    roots.add("middles", &by_wrong).unwrap();
    assert_eq!(judge(&cross.ek(), &[], &roots).unwrap().root_label(), "IFX/b.cer");
}
