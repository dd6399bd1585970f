//! Manifests, envelopes and release keys are read without a panic, and what was read has one canonical form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::reference::dsse::Envelope;
use policy::reference::keys::PublicKey;
use policy::reference::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let stated = Envelope::parse(bytes).and_then(|envelope| envelope.stated());
    let text = String::from_utf8_lossy(bytes);
    for manifest in [stated.ok(), Manifest::parse(&text).ok()].into_iter().flatten() {
        assert_eq!(Manifest::parse(&manifest.render()), Ok(manifest));
    }
    drop(PublicKey::from_spki(bytes));
    drop(PublicKey::from_pem(&text));
});
