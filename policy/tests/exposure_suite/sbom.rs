//! SBOMs are read whole and within bounds, or refused.

use policy::sbom::{MAX_COMPONENTS, MAX_SBOM_BYTES, Sbom, SbomError, SbomFormat};
use proptest::prelude::*;

pub(crate) const CYCLONEDX: &str = include_str!("data/edge.cdx.json");
pub(crate) const SPDX: &str = include_str!("data/edge.spdx.json");

pub(crate) fn read(text: &str) -> Sbom {
    Sbom::parse(text.as_bytes()).unwrap()
}

#[test]
fn cyclonedx_lists_nested_components_and_sources() {
    let sbom = read(CYCLONEDX);
    assert_eq!((sbom.format, sbom.spec_version.as_str()), (SbomFormat::CycloneDx, "1.5"));
    assert_eq!(sbom.subject, "edge-box 1.4.0");
    let names: Vec<&str> = sbom.components.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["edge-box", "libssl3", "openssh-server", "hmi", "lodash", "zlib"]);
    let sources = |name: &str| {
        let found = sbom.components.iter().find(|one| one.name == name).unwrap();
        found.sources.iter().map(|source| (source.name.clone(), source.version.clone())).collect::<Vec<_>>()
    };
    assert_eq!(sources("libssl3"), [("openssl".to_owned(), None)]);
    assert_eq!(sources("openssh-server"), [("openssh".to_owned(), Some("1:9.2p1-2+deb12u3".to_owned()))]);
    for version in ["1.4", "1.6"] {
        read(&CYCLONEDX.replace("\"1.5\"", &format!("\"{version}\"")));
    }
}

#[test]
fn spdx_lists_packages_with_purls_and_sources() {
    let sbom = read(SPDX);
    assert_eq!((sbom.format, sbom.spec_version.as_str()), (SbomFormat::Spdx, "2.3"));
    assert_eq!(sbom.components.len(), 3);
    assert_eq!(sbom.components[0].sources[0].version.as_deref(), Some("3.0.14-1~deb12u2"));
    assert_eq!(sbom.components[1].version().as_deref(), Some("1:3.0.7-27.el9"));
    assert_eq!(sbom.components[1].sources[0].name, "openssl");
    assert_eq!(
        (sbom.components[2].purl.as_ref(), sbom.components[2].version().as_deref()),
        (None, Some("1.36.1"))
    );
    read(&SPDX.replace("SPDX-2.3", "SPDX-2.2"));
}

#[test]
fn what_is_not_read_is_refused_with_its_reason() {
    let refused = |text: &str| Sbom::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(refused("<bom/>"), SbomError::Json(_)));
    assert_eq!(refused("{}"), SbomError::Unknown);
    let text = refused(&CYCLONEDX.replace("\"1.5\"", "\"1.3\"")).to_string();
    assert_eq!(text, "cyclonedx 1.3 is not read; make the SBOM as CycloneDX 1.4, 1.5 or 1.6");
    let text = refused(&SPDX.replace("SPDX-2.3", "SPDX-3.0")).to_string();
    assert_eq!(text, "spdx SPDX-3.0 is not read; make the SBOM as SPDX 2.2 or 2.3");
    let long = format!(r#"{{"spdxVersion":"SPDX-2.3","packages":[{{"name":"{}"}}]}}"#, "a".repeat(5000));
    assert_eq!(refused(&long), SbomError::LongText { field: "name", found: 5000 });
    assert_eq!(Sbom::parse(&vec![b' '; MAX_SBOM_BYTES + 1]), Err(SbomError::TooLarge(MAX_SBOM_BYTES + 1)));
}

#[test]
fn counts_and_depth_are_bounded() {
    let of = |component: &str, times: usize| {
        let all = vec![component; times].join(",");
        format!(r#"{{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{all}]}}"#)
    };
    let component = r#"{"name":"a"}"#;
    assert_eq!(read(&of(component, MAX_COMPONENTS)).components.len(), MAX_COMPONENTS);
    let error = Sbom::parse(of(component, MAX_COMPONENTS + 1).as_bytes()).unwrap_err();
    assert_eq!(error, SbomError::TooMany { what: "components", limit: MAX_COMPONENTS });
    let error = Sbom::parse(of("{}", 600_000).as_bytes()).unwrap_err();
    assert!(matches!(error, SbomError::TooMany { what: "JSON objects", .. }), "{error}");
    let nested = r#"{"name":"a","components":["#.repeat(500) + &"]}".repeat(500);
    let error = Sbom::parse(of(&nested, 1).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("recursion limit"), "{error}");
}

proptest! {
    #[test]
    fn cut_and_changed_documents_are_read_or_refused(at in 0usize..2500, byte: u8, spdx: bool) {
        // Without the line break at its end, of which nothing is missed.
        let mut bytes = if spdx { SPDX } else { CYCLONEDX }.trim_end().as_bytes().to_vec();
        let place = at % bytes.len();
        bytes[place] = byte;
        let _ = Sbom::parse(&bytes);
        bytes.truncate(place);
        prop_assert!(Sbom::parse(&bytes).is_err());
    }
}
