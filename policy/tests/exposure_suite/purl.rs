//! Purls are read by the rules of their types.

use policy::component::Purl;
use policy::component::purl::{MAX_PURL, PurlError};
use proptest::prelude::*;

#[test]
fn parts_are_decoded() {
    let purl: Purl =
        "pkg:DEB/debian/openssl@1%3A3.0.14-1~deb12u2?arch=amd64&distro=bookworm".parse().unwrap();
    assert_eq!((purl.package_type(), purl.namespace(), purl.name()), ("deb", Some("debian"), "openssl"));
    assert_eq!(purl.version().as_deref(), Some("1:3.0.14-1~deb12u2"));
    assert_eq!(purl.package().to_string(), "pkg:deb/debian/openssl?distro=bookworm");
    let scoped: Purl = "pkg:npm/%40acme/hmi@2.1.0".parse().unwrap();
    assert_eq!(scoped.namespace(), Some("@acme"));
    let rpm: Purl = "pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?epoch=1".parse().unwrap();
    assert_eq!(rpm.version().as_deref(), Some("1:3.0.7-27.el9"));
}

#[test]
fn what_is_no_purl_is_told() {
    for text in ["", "openssl", "deb/debian/openssl", "pkg:", "pkg:deb", "pkg:de b/x"] {
        let error = text.parse::<Purl>().unwrap_err();
        assert!(matches!(&error, PurlError::Malformed { .. }), "{text}: {error}");
        assert!(error.to_string().contains("write for example pkg:deb/debian/openssl"), "{error}");
    }
    let long = format!("pkg:deb/debian/{}", "a".repeat(MAX_PURL));
    assert_eq!(long.parse::<Purl>(), Err(PurlError::TooLong(long.len())));
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(
        kind in "[a-z]{1,5}", namespace in "[a-z]{1,6}", name in "[a-z0-9 %@+.~-]{0,7}[a-z]", version in "[a-z0-9:%+~.-]{1,8}",
    ) {
        let purl = Purl::of(&kind, Some(&namespace), &name);
        prop_assume!(purl.is_ok());
        let text = format!("{}@{}", purl.unwrap(), version.replace('%', "%25").replace(':', "%3A").replace('+', "%2B"));
        let purl: Purl = text.parse().unwrap();
        prop_assert_eq!(purl.version(), Some(version));
        prop_assert_eq!(&purl.to_string().parse::<Purl>().unwrap(), &purl);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(pkg:)?\\PC{0,40}") {
        let _ = text.parse::<Purl>();
    }
}
