//! An advisory is read without a panic, and every component can be asked about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::advisory::Advisory;
use policy::component::{Component, Inquiry};

fuzz_target!(|bytes: &[u8]| {
    let Ok(advisory) = Advisory::parse(bytes) else { return };
    let purls = advisory.affected.iter().map(|one| one.package.clone()).collect::<Vec<_>>();
    let inquiry = Inquiry::new(advisory.affected);
    for purl in purls {
        let component = Component {
            name: purl.name().to_owned(),
            version: Some("1.2.3-4".to_owned()),
            purl: Some(purl),
            sources: Vec::new(),
        };
        let _ = inquiry.applies_to(&component);
    }
});
