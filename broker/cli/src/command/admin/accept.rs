//! `touchstone admin accept`: the key is made here, and never leaves.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use clap::Args;
use proto::invitation::{Code, to_be_proven};
use proto::v1::invitation_client::InvitationClient;
use proto::v1::{AcceptInvitationRequest, AcceptInvitationResponse};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::zones;
use crate::client::pinned::is_root;
use crate::client::{self, Patience, failed};
use crate::context::{Context, pem, pem_chain, read_certificates, spki};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::{Report, Sentence, Session, words};

/// What an invited person has.
#[derive(Debug, Args)]
#[command(after_help = "\
The code has the fingerprint of the plant root: the broker shows the certificate, and it is believed if the fingerprint
is right and the broker is under it. --root takes it from a file instead, for which the fingerprint must be right too.
`-` reads the code from standard input, where others on this machine do not see it.
Example:
  touchstone admin accept - --address broker.plant.example:8443 --out ~/.config/touchstone/context")]
pub(crate) struct AcceptArgs {
    /// The code, or - for standard input
    code: String,
    /// The plant root's certificate [default: as the broker shows it]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The context folder to make; it must not be there yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Accepted {
    name: String,
    role: String,
    zones: Option<Vec<String>>,
    not_after: Option<String>,
    context: String,
}

/// Accepts an invitation.
pub(crate) async fn run(args: &AcceptArgs, session: &Session) -> Result<Report> {
    let address = session
        .address()
        .ok_or_else(|| Failure::new(Exit::Usage, "say where the broker is with --address HOST:PORT"))?;
    let code: Code = read_code(&args.code)?;
    if args.out.exists() {
        return Err(Failure::unusable(format!("{}: is there already", args.out.display()))
            .next("choose another --out, or remove the folder"));
    }
    let key = KeyPair::generate()
        .map_err(|e| Failure::new(Exit::Internal, format!("a key cannot be made: {e}")))?;
    let mut context = Context {
        plant: code.plant.clone(),
        address: address.to_owned(),
        plant_root: Vec::new(),
        identity: None,
        folder: args.out.clone(),
    };
    let root = plant_root(args, &code, &context).await?;
    let draft = FolderDraft::create(&args.out)?;
    // Before anything is used up: what cannot be written here is noticed now.
    draft.write("admin.key", 0o600, pem("PRIVATE KEY", key.serialized_der()).as_bytes())?;
    draft.write("plant-root.pem", 0o644, pem("CERTIFICATE", &root).as_bytes())?;
    let text = format!("plant = \"{}\"\naddress = \"{}\"\n", code.plant, toml_text(address)?);
    draft.write("context.toml", 0o644, text.as_bytes())?;
    context.plant_root = vec![root];
    let answer = ask(&context, &code, &key).await?;
    draft.write("admin.pem", 0o644, pem_chain(&answer.chain).as_bytes())?;
    draft.publish(&args.out)?;
    report(args, answer, session)
}

fn read_code(text: &str) -> Result<Code> {
    let read = match text {
        "-" => file::read_text(Path::new("-"))?,
        code => code.to_owned(),
    };
    read.trim().parse().map_err(|e: proto::invitation::CodeError| Failure::unusable(e.to_string()))
}

/// The plant root that the code is for: from the file, or as the broker shows it. Either is held against the code.
async fn plant_root(args: &AcceptArgs, code: &Code, context: &Context) -> Result<CertificateDer<'static>> {
    let Some(path) = &args.root else {
        return client::plant_root(context, code).await;
    };
    let root = read_certificates(path)?.into_iter().next().filter(|root| is_root(code, root));
    let other = || format!("{}: this is not the plant root that the code is for", path.display());
    root.ok_or_else(|| {
        Failure::unusable(other())
            .next("leave out --root, or ask whoever invited you for plant-root.pem of their context folder")
    })
}

/// An address has nothing that would have to be escaped.
fn toml_text(address: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "[].:-_%".contains(c);
    if address.chars().all(plain) {
        return Ok(address);
    }
    Err(Failure::unusable(format!("`{address}` is no HOST:PORT")))
}

/// Sends a request for a certificate with the proof that its sender has the code.
async fn ask(context: &Context, code: &Code, key: &KeyPair) -> Result<AcceptInvitationResponse> {
    let csr = CertificateParams::default().serialize_request(key);
    let csr = csr.map_err(|e| Failure::new(Exit::Internal, format!("a request cannot be made: {e}")))?;
    let csr = csr.der().to_vec();
    let proof = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &code.secret), &to_be_proven(&csr));
    let request = AcceptInvitationRequest { id: hex::encode(code.id), csr, proof: proof.as_ref().to_vec() };
    let mut client = InvitationClient::new(client::channel(context, Patience::Call).await?);
    let answer = client.accept(request).await.map_err(|s| failed(&s))?.into_inner();
    let ours = answer.chain.first().and_then(|leaf| spki(leaf)) == Some(key.subject_public_key_info());
    if !ours {
        return Err(Failure::new(Exit::Internal, "the broker's certificate is for another key")
            .next("ask an owner to remove you and to invite you again"));
    }
    Ok(answer)
}

fn report(args: &AcceptArgs, answer: AcceptInvitationResponse, session: &Session) -> Result<Report> {
    let limits = (!answer.zones.is_empty()).then_some(answer.zones);
    let context = args.out.display().to_string();
    let text = format!(
        "you are {}, {} of {}, until {}; try `touchstone --context {context} status`",
        answer.name,
        answer.role,
        zones(limits.as_deref()),
        words::rfc3339(answer.not_after)
    );
    let fields = Accepted {
        name: answer.name,
        role: answer.role,
        zones: limits,
        not_after: words::json_time(answer.not_after),
        context,
    };
    session.report(&Sentence { text, fields })
}

/// A folder that appears under its name only when it is whole.
struct FolderDraft(PathBuf);

impl FolderDraft {
    fn create(out: &Path) -> Result<Self> {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let draft = out.with_file_name(name);
        DirBuilder::new().mode(0o700).create(&draft).map_err(|e| unwritten(&draft, &e))?;
        Ok(Self(draft))
    }

    fn write(&self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut file = file::Draft::create(&self.0.join(name), mode)?;
        file.append(bytes)?;
        file.publish()
    }

    fn publish(self, out: &Path) -> Result<()> {
        fs::rename(&self.0, out).map_err(|e| unwritten(out, &e))
    }
}

impl Drop for FolderDraft {
    fn drop(&mut self) {
        // After `publish` it has another name and there is nothing to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unusable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_finished_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("context");
        let draft = FolderDraft::create(&out).unwrap();
        draft.write("admin.key", 0o600, b"secret").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        let draft = FolderDraft::create(&out).unwrap();
        draft.write("admin.key", 0o600, b"secret").unwrap();
        draft.publish(&out).unwrap();
        assert_eq!(fs::read(out.join("admin.key")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_address_does_not_become_a_setting() {
        assert!(toml_text("[::1]:8443").is_ok() && toml_text("broker.plant.example:8443").is_ok());
        assert!(toml_text("x\"\nplant = \"y").is_err());
    }
}
