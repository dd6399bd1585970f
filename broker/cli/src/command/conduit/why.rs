//! `touchstone conduit why`: may this device open that service, and if not, what is in the way?

use std::fmt::Write as _;

use clap::Args;
use policy::id::{DeviceName, ServiceName, ZoneName};
use proto::v1::{AccessReason, ConduitAnswer, ExplainConduitRequest, ExplainConduitResponse};
use serde::Serialize;

use crate::client::failed;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output::{Page, Report, Session, View, words};

/// Who would open what.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 if it may, 3 if it may not. The device decides the same by itself: touchstone-attestor authorize.
Example: touchstone conduit why press-7 --to historian --service opcua")]
pub(crate) struct WhyArgs {
    /// Name of the device that would open the connection
    device: DeviceName,
    /// Zone that offers the service
    #[arg(long, value_name = "ZONE")]
    to: ZoneName,
    /// Name of the service
    #[arg(long, value_name = "SERVICE")]
    service: ServiceName,
}

#[derive(Debug, Serialize)]
struct WhyPage {
    device: String,
    to: String,
    service: String,
    allowed: bool,
    answers: Vec<AnswerView>,
}

#[derive(Debug, Serialize)]
struct AnswerView {
    from: String,
    allowed: bool,
    until: Option<String>,
    reasons: Vec<ReasonView>,
    #[serde(skip)]
    ends: u64,
}

#[derive(Debug, Serialize)]
struct ReasonView {
    code: String,
    message: String,
    remedy: String,
}

impl From<ConduitAnswer> for AnswerView {
    fn from(answer: ConduitAnswer) -> Self {
        let reason = |reason: AccessReason| ReasonView {
            code: reason.code,
            message: reason.message,
            remedy: reason.remedy,
        };
        Self {
            from: answer.from,
            allowed: answer.allowed,
            until: words::json_time(answer.until),
            reasons: answer.reasons.into_iter().map(reason).collect(),
            ends: answer.until,
        }
    }
}

impl WhyPage {
    fn new(args: WhyArgs, answer: ExplainConduitResponse) -> Self {
        Self {
            device: args.device.to_string(),
            to: args.to.to_string(),
            service: args.service.to_string(),
            allowed: answer.allowed,
            answers: answer.answers.into_iter().map(AnswerView::from).collect(),
        }
    }
}

impl View for WhyPage {
    fn text(&self, page: &Page) -> String {
        let Self { device, to, service, answers, .. } = self;
        if answers.is_empty() {
            return format!(
                "{device} is in no zone, so it opens nothing.\n\nNext: touchstone device admit {device} --zone ZONE\n"
            );
        }
        let mut text = String::new();
        for answer in answers {
            let may = if answer.allowed { "may open" } else { "may not open" };
            let from = words::visible(&answer.from);
            let _ = write!(text, "From zone {from}, {device} {may} {service} of zone {to}");
            let _ = match answer.allowed {
                true => writeln!(text, "; as it stands this ends {}.", words::left(answer.ends, page.now)),
                false => writeln!(text, ":"),
            };
            for reason in &answer.reasons {
                let (message, remedy) = (words::visible(&reason.message), words::visible(&reason.remedy));
                let _ = writeln!(text, "- {message}\n  What to do: {remedy}");
            }
        }
        text
    }
}

/// Asks the broker.
pub(super) async fn run(args: WhyArgs, session: &Session) -> Result<Report> {
    let request = ExplainConduitRequest {
        device: args.device.to_string(),
        to: args.to.to_string(),
        service: args.service.to_string(),
    };
    let answer = session.client().await?.explain_conduit(request).await.map_err(|s| failed(&s))?;
    let page = WhyPage::new(args, answer.into_inner());
    let exit = if page.allowed { Exit::Done } else { Exit::Negative };
    Ok(session.report(&page)?.ending(exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_what_to_do() {
        let args = WhyArgs {
            device: "press-7".parse().unwrap(),
            to: "historian".parse().unwrap(),
            service: "opcua".parse().unwrap(),
        };
        let reason = AccessReason {
            code: "no-conduit".to_owned(),
            message: "no conduit opens opcua".to_owned(),
            remedy: "touchstone conduit allow".to_owned(),
        };
        let answer =
            ConduitAnswer { from: "cell-3".to_owned(), reasons: vec![reason], ..ConduitAnswer::default() };
        let open =
            ConduitAnswer { from: "cell-4".to_owned(), allowed: true, until: 7300, reasons: Vec::new() };
        let answer = ExplainConduitResponse { allowed: true, answers: vec![answer, open] };
        let text = WhyPage::new(args, answer).text(&Page::plain(100));
        assert_eq!(
            text,
            "From zone cell-3, press-7 may not open opcua of zone historian:\n\
             - no conduit opens opcua\n  What to do: touchstone conduit allow\n\
             From zone cell-4, press-7 may open opcua of zone historian; as it stands this ends in 2 h.\n"
        );
    }
}
