//! The local authority of swtpm, which test beds and virtual machines have.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "this test runs swtpm_setup in a folder")]

use std::path::{Path, PathBuf};
use std::process::Command;

use policy::evidence::endorsement::{EndorsementError, RootStore, ValidityPolicy, endorse};
use policy::time::UnixTime;

/// Any time between the making of the certificates and 9999-12-31, when swtpm's end.
const AT: &str = "2100-01-01T00:00:00Z";

/// A folder that is removed with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Has swtpm_setup make a TPM with its certificates in `folder`; nothing where it is not installed.
fn manufacture(folder: &Path) -> Option<()> {
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["ca", "state", "out"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let authority = format!(
        "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/serial\n",
        ca = path("ca")
    );
    let setup = format!(
        "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
        path("localca.conf"),
        path("options")
    );
    std::fs::write(folder.join("localca.conf"), authority).unwrap();
    std::fs::write(folder.join("options"), "").unwrap();
    std::fs::write(folder.join("setup.conf"), setup).unwrap();

    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let made = Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--overwrite", "--runas", user.trim()])
        .args(["--tpmstate", &path("state"), "--config", &path("setup.conf")])
        .args(["--write-ek-cert-files", &path("out"), "--logfile", &path("log")])
        .status();
    match made {
        Ok(status) => {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(status.success(), "swtpm_setup: {log}");
            Some(())
        }
        Err(error) => {
            eprintln!("skipped: swtpm_setup does not run here: {error}");
            None
        }
    }
}

#[test]
fn certificates_of_a_software_tpm_chain_to_its_local_authority() {
    let folder = Folder(std::env::temp_dir().join(format!("touchstone-ek-swtpm-{}", std::process::id())));
    let Some(()) = manufacture(&folder.0) else { return };
    let read = |name: &str| std::fs::read(folder.0.join(name)).unwrap();
    let root = read("ca/swtpm-localca-rootca-cert.pem");
    let intermediate = read("ca/issuercert.pem");
    let at: UnixTime = AT.parse().unwrap();

    let mut roots = RootStore::new();
    roots.add("rootca", &root).unwrap();
    assert_eq!((roots.anchors(), roots.intermediates()), (1, 0));
    for (file, key, size) in [("out/ek-rsa2048.crt", "rsa", "2048"), ("out/ek-secp384r1.crt", "ecc", "P-384")]
    {
        let certificate = read(file);
        let ek = endorse(&certificate, &[&intermediate], &roots, at, ValidityPolicy::AtTime).unwrap();
        assert_eq!((ek.key().kind(), ek.key().size().as_str()), (key, size));
        assert_eq!(ek.manufacturer().to_string(), "IBM (software TPM)");
        assert_eq!((ek.model(), ek.version().to_string().as_str()), ("swtpm", "8217.4131"));
        assert_eq!((ek.root_subject(), ek.chain_length()), ("CN=swtpm-localca-rootca", 3));
        assert_eq!(ek.validity().not_after.to_string(), "9999-12-31T23:59:59Z");

        let error = endorse(&certificate, &[], &roots, at, ValidityPolicy::AtTime).unwrap_err();
        let (certificate, issuer) = ("CN=unknown".to_owned(), "CN=swtpm-localca".to_owned());
        assert_eq!(error, EndorsementError::UnknownIssuer { certificate, issuer });
    }
}
