//! `touchstone device result`: the last appraisal of a device in a zone, and the same as a signed EAR.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use policy::id::{DeviceName, ZoneName};
use proto::v1::{GetResultRequest, GetResultResponse};
use serde::Serialize;

use crate::client::failed;
use crate::failure::Result;
use crate::output::finding::Finding;
use crate::output::{Page, Report, Session, View, words};

/// Whose, where, and in which form.
#[derive(Debug, Args)]
#[command(after_help = "\
With --ear the result is an EAT Attestation Result as JWT (draft-ietf-rats-ear), signed now over what was
recorded: `iat` is when the device was appraised, `exp` when its zone wants the next proof, never later than
its certificates end. `touchstone authority jwks` prints the keys to verify it with.
Nothing is signed for a device that is quarantined, silent or retired (exit code 3).
Example: touchstone device result press-7 --ear")]
pub(crate) struct ResultArgs {
    /// Name of the device
    name: DeviceName,
    /// Zone that appraised it; needed where the device is in several
    #[arg(long, value_name = "ZONE")]
    zone: Option<ZoneName>,
    /// Print the signed result
    #[arg(long)]
    ear: bool,
}

#[derive(Debug, Serialize)]
struct ResultPage {
    device: String,
    zone: String,
    appraised_at: Option<String>,
    verdict: String,
    release: Option<String>,
    claims: BTreeMap<String, i32>,
    findings: Vec<Finding>,
    ear: Option<String>,
    expires_at: Option<String>,
    #[serde(skip)]
    time: u64,
}

impl From<GetResultResponse> for ResultPage {
    fn from(answer: GetResultResponse) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            device: answer.device,
            zone: answer.zone,
            appraised_at: words::json_time(answer.at),
            verdict: answer.verdict,
            release: some(answer.release),
            claims: answer.claims.into_iter().collect(),
            findings: answer.findings.into_iter().map(Finding::from).collect(),
            ear: some(answer.ear),
            expires_at: words::json_time(answer.expires_at),
            time: answer.at,
        }
    }
}

impl View for ResultPage {
    fn text(&self, page: &Page) -> String {
        if let Some(ear) = &self.ear {
            return format!("{}\n", words::visible(ear));
        }
        let claims: Vec<_> = self.claims.iter().map(|(claim, value)| format!("{claim} {value}")).collect();
        let mut text = String::new();
        for (label, value) in [
            ("device", self.device.clone()),
            ("zone", self.zone.clone()),
            ("appraised", words::age(self.time, page.now)),
            ("verdict", self.verdict.clone()),
            ("claims", words::list(&claims)),
            ("golden release", words::or_dash(self.release.as_deref().unwrap_or_default())),
        ] {
            let _ = writeln!(text, "{label:<15} {}", words::visible(&value));
        }
        if !self.findings.is_empty() {
            text.push_str("\nFound:\n");
            text.extend(self.findings.iter().map(Finding::text));
        }
        text
    }
}

/// Asks for the result.
pub(super) async fn run(args: ResultArgs, session: &Session) -> Result<Report> {
    let request = GetResultRequest {
        device: args.name.to_string(),
        zone: args.zone.map(|zone| zone.to_string()).unwrap_or_default(),
        ear: args.ear,
    };
    let answer = session.client().await?.get_result(request).await.map_err(|s| failed(&s))?;
    session.report(&ResultPage::from(answer.into_inner()))
}
