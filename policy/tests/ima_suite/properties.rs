//! What is written is what is read, and no change of a list's bytes changes what it proves.

use policy::eventlog::ima::list::ImaList;
use policy::tpm::alg::HashAlg;
use proptest::prelude::*;

use crate::rig::{Device, Written, d_ng, file, list, list_of, n_ng, record, sha256, violation};

fn written() -> impl Strategy<Value = Written> {
    let path = "/[a-z/]{0,40}";
    let signature = proptest::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        (path, signature).prop_map(|(path, signature)| {
            record("ima-sig", &[d_ng(&sha256(path.as_bytes())), n_ng(&path), signature])
        }),
        path.prop_map(|path| {
            record("ima", &[HashAlg::Sha1.hash(&[path.as_bytes()]).as_bytes().to_vec(), path.into_bytes()])
        }),
        path.prop_map(|path| violation(&path)),
        (path, 10_u32..12).prop_map(|(path, pcr)| file(&path, "x").in_pcr(pcr)),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|data| record("opaque", &[data])),
    ]
}

/// Position, what was extended, whether it is a violation, and the data.
type Believed = Vec<(u64, Vec<u8>, bool, Vec<u8>)>;

/// What a device is believed to have measured.
fn believed(device: &Device, bytes: Vec<u8>) -> Option<Believed> {
    let verified = device.verify(bytes).ok()?;
    // The data of a violation is bound by nothing, so nothing is believed of it.
    let row = |record: policy::eventlog::ima::list::Record<'_>| {
        let violation = record.is_violation();
        let hash = record.extends(HashAlg::Sha256).as_bytes().to_vec();
        let data = if violation { Vec::new() } else { record.data.to_vec() };
        (record.position, hash, violation, data)
    };
    Some(verified.records().map(row).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(records in proptest::collection::vec(written(), 1..12), width in 0..4_usize) {
        let width = HashAlg::ALL[width];
        let bytes = list_of(width, &records);
        let list = ImaList::parse(&bytes, 5).unwrap();
        prop_assert_eq!(list.alg(), width);
        let read: Vec<_> = list.records().map(Result::unwrap).collect();
        prop_assert_eq!(read.len(), records.len());
        for ((read, written), position) in read.iter().zip(&records).zip(5..) {
            prop_assert_eq!((read.position, u32::from(read.pcr.number())), (position, written.pcr));
            prop_assert_eq!(read.template, &written.template);
            prop_assert_eq!(read.extends(HashAlg::Sha384), written.template_hash(HashAlg::Sha384));
        }
    }

    #[test]
    fn a_changed_list_proves_the_same_or_nothing(
        records in proptest::collection::vec(written(), 1..8),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        kind in 0..3,
    ) {
        let device = Device::of(&records);
        let honest = device.list();
        let truth = believed(&device, honest.clone());
        prop_assert!(truth.is_some());
        let at = at.index(honest.len());
        let mut changed = honest.clone();
        match kind {
            0 => changed[at] ^= byte | 1,
            1 => changed.insert(at, byte),
            _ => changed.truncate(at),
        }
        let found = believed(&device, changed);
        prop_assert!(found.is_none() || found == truth, "{found:?}");
    }

    #[test]
    fn swapped_records_prove_nothing(
        records in proptest::collection::vec(written(), 2..8),
        i in any::<prop::sample::Index>(),
    ) {
        let device = Device::of(&records);
        let i = 1 + i.index(records.len() - 1);
        let mut swapped = device.records.clone();
        swapped.swap(i, i + 1);
        let truth = believed(&device, device.list());
        let found = believed(&device, list(&swapped));
        let independent = device.records[i].pcr != device.records[i + 1].pcr;
        prop_assert!(found.is_none() || found == truth || independent, "{found:?}");
    }

    #[test]
    fn noise_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(list) = ImaList::parse(&bytes, 0) {
            let _ = list.records().count();
        }
    }
}
