//! A file of roots, whether DER, PEM or a cabinet, is taken or refused without a panic and within its bounds, and
//! taking it twice adds nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::evidence::endorsement::RootStore;

fuzz_target!(|bytes: &[u8]| {
    let mut store = RootStore::new();
    let Ok(added) = store.add_at("file", "Infineon/file", bytes) else { return };
    assert_eq!((store.anchors(), store.intermediates()), (added.anchors, added.intermediates));
    let again = store.add("again", bytes).map(|again| (again.anchors, again.intermediates));
    assert_eq!(again, Ok((0, 0)));
});
