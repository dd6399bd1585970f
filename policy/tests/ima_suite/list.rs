//! Reading: every template, every width, and what is refused with its offset.

use policy::budget::MAX_IMA_NAME;
use policy::eventlog::ima::list::{ImaList, ImaListError, Record};
use policy::eventlog::ima::template::DigestOf;
use policy::reader::ReadError;
use policy::tpm::alg::{HashAlg, HashValue};

use crate::rig::{Written, d_ng, file, list, list_of, n_ng, record, sha256, violation};

fn read(bytes: &[u8]) -> Result<Vec<Record<'_>>, ImaListError> {
    ImaList::parse(bytes, 0)?.records().collect()
}

/// One record of each template.
fn of_every_template() -> Vec<Written> {
    let digest = sha256(b"content");
    let (d, n) = (d_ng(&digest), n_ng("/usr/bin/x"));
    let v2 = [&b"ima:"[..], &d].concat();
    let none = Vec::new;
    let legacy = vec![HashAlg::Sha1.hash(&[b"content"]).as_bytes().to_vec(), b"/usr/bin/x".to_vec()];
    vec![
        record("ima", &legacy),
        record("ima-ng", &[d.clone(), n.clone()]),
        record("ima-sig", &[d.clone(), n.clone(), none()]),
        record("ima-ngv2", &[v2.clone(), n.clone()]),
        record("ima-sigv2", &[v2, n.clone(), none()]),
        record("ima-buf", &[d.clone(), n.clone(), b"buffer".to_vec()]),
        record("ima-modsig", &[d.clone(), n.clone(), none(), d.clone(), b"pkcs7".to_vec()]),
        record(
            "evm-sig",
            &[d.clone(), n.clone(), none(), none(), none(), none(), vec![0; 4], vec![0; 4], vec![0; 2]],
        ),
        record("d-ng|n-ng|imode", &[d.clone(), n.clone(), vec![0; 2]]),
        record("n-ng|d-ng", &[n.clone(), d.clone()]),
        record("some-other", &[b"whatever".to_vec()]),
        violation("/usr/bin/x"),
    ]
}

#[test]
fn every_template_is_read_in_every_width() {
    let written = of_every_template();
    for width in HashAlg::ALL {
        // The first record decides about the width, so each must be able to.
        for turn in 0..written.len() {
            let turned = [&written[turn..], &written[..turn]].concat();
            let bytes = list_of(width, &turned);
            assert_eq!(ImaList::parse(&bytes, 0).unwrap().alg(), width, "{}", turned[0].template);
            let records = read(&bytes).unwrap();
            assert_eq!(records.len(), turned.len());
            for (record, written) in records.iter().zip(&turned) {
                assert_eq!(record.template, written.template);
                assert_eq!(record.is_violation(), written.violation);
                for bank in HashAlg::ALL {
                    assert_eq!(record.extends(bank), written.template_hash(bank), "{}", record.template);
                }
                let opaque = ["some-other", "n-ng|d-ng"].contains(&record.template);
                let of_list = (record.template == "ima") == (turned[0].template == "ima");
                let named = !opaque && of_list;
                assert_eq!(record.fields.name, named.then_some(&b"/usr/bin/x"[..]), "{}", record.template);
            }
        }
    }
}

/// Path and digest of the only record behind a boot aggregate of a newer template.
fn renamed(honest: &Written, name: &str) -> (Option<Vec<u8>>, Option<HashValue>) {
    let renamed = Written { template: name.to_owned(), ..honest.clone() };
    let bytes = list(&[file("boot_aggregate", "0"), renamed]);
    let records = read(&bytes).unwrap();
    assert_eq!(records[1].extends(HashAlg::Sha256), honest.template_hash(HashAlg::Sha256), "{name}");
    let fields = records[1].fields;
    (fields.name.map(<[u8]>::to_vec), fields.digest.map(|digest| digest.value))
}

#[test]
fn a_name_that_moves_path_or_digest_makes_the_record_opaque() {
    let (evil, good) = (sha256(b"evil"), sha256(b"good"));
    let buffer = record("ima-buf", &[d_ng(&evil), n_ng("key"), n_ng("/tmp/x")]);
    for name in
        ["d-ng|iuid|n-ng", "d-ng|n-ng|n-ng", "d-ng|n-ng|n", "n-ng|d-ng|n", "iuid|igid|n", "d|n-ng|sig"]
    {
        assert_eq!(renamed(&buffer, name), (None, None), "{name}");
    }
    let evm = record(
        "evm-sig",
        &[
            d_ng(&evil),
            n_ng("/evil"),
            d_ng(&good),
            n_ng("/tmp/x"),
            vec![0; 4],
            d_ng(&good),
            vec![0; 4],
            vec![0; 4],
            vec![0; 2],
        ],
    );
    for name in [
        "iuid|igid|d-ng|n-ng|sig|buf|modsig|evmsig|imode",
        "d-ng|n-ng|d-ng|n|xattrlengths|xattrvalues|iuid|igid|imode",
        "d-ng|n-ng|evmsig|xattrnames|xattrlengths|d-ngv2|iuid|igid|imode",
        "d-ng|n-ng|evmsig|xattrnames|xattrlengths|evmsig|iuid|igid|imode",
    ] {
        assert_eq!(renamed(&evm, name), (None, None), "{name}");
    }
    for name in ["evm-sig", "d-ng|n-ng|sig|buf|xattrlengths|xattrvalues|iuid|igid|imode"] {
        assert_eq!(renamed(&evm, name), (Some(b"/evil".to_vec()), Some(evil)), "{name}");
    }
}

#[test]
fn a_record_renamed_to_the_first_template_has_no_path() {
    // The bytes that an honest record hashes, cut as the first template cuts them.
    let honest = record("ima-ng", &[d_ng(&sha256(b"evil")), n_ng(&"x".repeat(227))]);
    let hashed: Vec<u8> = honest
        .fields
        .iter()
        .flat_map(|f| [&u32::try_from(f.len()).unwrap().to_le_bytes()[..], f].concat())
        .collect();
    let legacy = record("ima", &[hashed[..20].to_vec(), hashed[20..275].to_vec()]);
    assert_eq!(legacy.template_hash(HashAlg::Sha256), honest.template_hash(HashAlg::Sha256));
    let begun = |first: Written, after: Written| {
        let bytes = list(&[first, after]);
        let records = read(&bytes).unwrap();
        (records[0].fields.name.is_some(), records[1].fields.name.is_some())
    };
    let newer = file("boot_aggregate", "0");
    assert_eq!(begun(newer.clone(), legacy.clone()), (true, false));
    assert_eq!(begun(legacy.clone(), newer), (true, false));
    assert_eq!(begun(legacy.clone(), legacy.clone()), (true, true));
    let part = list(&[legacy]);
    let records: Result<Vec<_>, _> = ImaList::parse(&part, 3).unwrap().records().collect();
    assert_eq!(records.unwrap()[0].fields.name, None);
}

#[test]
fn digests_say_what_they_are_of() {
    let digest = sha256(b"tree");
    let verity = [&b"verity:"[..], &d_ng(&digest)].concat();
    let unknown = b"sm3-256:\0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".to_vec();
    let bytes = list(&[
        record("ima-ngv2", &[verity, n_ng("/a")]),
        file("/b", "content"),
        record("ima-ng", &[unknown, n_ng("/c")]),
    ]);
    let of: Vec<_> = read(&bytes).unwrap().iter().map(|r| r.fields.digest.map(|d| (d.of, d.value))).collect();
    assert_eq!(of, [Some((DigestOf::Verity, digest)), Some((DigestOf::Unsaid, sha256(b"content"))), None]);
}

#[test]
fn a_flipped_byte_of_data_or_digest_is_refused_at_its_record() {
    let (first, second) = (file("/a", "1"), file("/b", "2"));
    let honest = list(&[first.clone(), second]);
    let offset = first.bytes(HashAlg::Sha1).len();
    for at in [offset + 4, offset + 23, honest.len() - 6] {
        let mut bytes = honest.clone();
        bytes[at] ^= 1;
        let refused = ImaListError::Digest { position: 1, offset, alg: HashAlg::Sha1 };
        assert_eq!(read(&bytes).unwrap_err(), refused);
    }
}

#[test]
fn bounds_are_kept() {
    let refusal = |bytes: &[u8]| read(bytes).unwrap_err();
    assert_eq!(refusal(&[]), ImaListError::Empty);
    assert_eq!(refusal(&[7; 300]), ImaListError::Width);
    assert_eq!(refusal(&[0; 300]), ImaListError::Width);
    let long = record(&"x".repeat(MAX_IMA_NAME + 1), &[]);
    assert_eq!(refusal(&list(std::slice::from_ref(&long))), ImaListError::Width);
    let behind = list(&[file("/a", "1"), long]);
    let ImaListError::Structure(ReadError::TooLarge { what, found: 65, limit: 64, .. }) = refusal(&behind)
    else {
        panic!("refused for another reason")
    };
    assert_eq!(what, "template name");
    assert_eq!(refusal(&list(&[file("/a", "1").in_pcr(24)])), ImaListError::Pcr { offset: 0, pcr: 24 });
    assert!(matches!(refusal(&list(&[file("/a", "1"), record("a\nb", &[])])), ImaListError::Name { .. }));
    let mut huge = list(&[file("/a", "1")]);
    huge[35..39].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refusal(&huge), ImaListError::Structure(ReadError::TooLarge { offset: 39, .. })));
    let legacy = record("ima", &[vec![1; 20], vec![b'a'; 256]]);
    assert!(matches!(
        refusal(&list(&[legacy])),
        ImaListError::Structure(ReadError::TooLarge { found: 256, .. })
    ));
}

#[test]
fn fields_must_be_those_of_the_template() {
    let refusal = |written: Written| read(&list(&[written])).unwrap_err();
    let surplus = record("ima-ng", &[d_ng(&sha256(b"")), n_ng("/a"), Vec::new()]);
    let ImaListError::Fields { template, fields: 2, offset: 38 } = refusal(surplus) else { panic!() };
    assert_eq!(template, "ima-ng");
    let cut = record("ima-sig", &[d_ng(&sha256(b"")), n_ng("/a")]);
    assert!(matches!(
        refusal(cut),
        ImaListError::Structure(ReadError::Truncated { what: "length of a field", .. })
    ));
}

#[test]
fn the_other_byte_order_is_named() {
    let mut bytes = 10_u32.to_be_bytes().to_vec();
    bytes.extend([7; 20]);
    bytes.extend(6_u32.to_be_bytes());
    bytes.extend(b"ima-ng");
    assert_eq!(read(&bytes).unwrap_err(), ImaListError::BigEndian);
}

#[test]
fn nothing_follows_an_error() {
    let mut bytes = list(&[file("/a", "1"), file("/b", "2")]);
    bytes[5] ^= 1;
    let parsed = ImaList::parse(&bytes, 0).unwrap();
    let mut records = parsed.records();
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none());
}
