//! `touchstone exposure`: which devices run a vulnerable component, as far as they proved it.

mod question;
mod view;

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use policy::component::Purl;
use policy::id::ZoneName;
use proto::v1;

use self::view::Exposed;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Report, Session};

/// Which component.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["purl", "advisory"]))]
#[command(after_help = "\
Each device is on one of three lists, or proved that it runs a release without the component:
  proven   it proved within two intervals of its zone a release whose SBOM has the component in this range
  may      the same, but the proof is old, the release is in doubt, versions cannot be compared, releases with the
           same measurements differ, or it is told to install a release that has the component
  unknown  its release states no SBOM, an SBOM is not here, or it never proved what it runs

Exit codes: 0 nobody is on a list; 1 somebody is, and with --ignore-unknown somebody is proven or may. What an
advisory names and no SBOM could name counts as unknown.

Examples:
  touchstone exposure --purl pkg:deb/debian/openssl --below 3.0.15-1~deb12u1
  touchstone exposure --purl 'pkg:npm/%40angular/core@17.0.1'
  touchstone exposure --advisory DSA-5764-1.json -o json")]
pub(crate) struct ExposureArgs {
    /// Package by its purl; with a version: this one. `?distro=debian-12` limits it to one release
    #[arg(long, value_name = "PURL")]
    purl: Option<Purl>,
    /// First version that is not affected
    #[arg(long, value_name = "VERSION", requires = "purl", conflicts_with = "advisory")]
    below: Option<String>,
    /// First version that is affected
    #[arg(long, value_name = "VERSION", requires = "purl", conflicts_with = "advisory")]
    from: Option<String>,
    /// Advisory in a file: OSV or CSAF 2.0, JSON; `-` is standard input
    #[arg(long, value_name = "FILE")]
    advisory: Option<PathBuf>,
    /// Only devices of this zone
    #[arg(long, value_name = "ZONE")]
    zone: Option<ZoneName>,
    /// End with 0 if devices are unknown and none is proven or may
    #[arg(long)]
    ignore_unknown: bool,
}

/// Asks the broker and shows the lists.
pub(crate) async fn run(args: ExposureArgs, session: &Session) -> Result<Report> {
    let question = question::of(&args)?;
    let request = v1::ListExposedRequest {
        affected: question.affected.iter().map(question::to_wire).collect(),
        zone: args.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let mut client = session.patient_client().await?;
    let mut parts = client.list_exposed(request).await.map_err(|s| failed(&s))?.into_inner();
    let (mut answer, mut whole) = (v1::ExposedPart::default(), false);
    while let Some(part) = parts.message().await.map_err(|s| failed(&s))? {
        answer.releases.extend(part.releases);
        answer.zones.extend(part.zones);
        answer.devices.extend(part.devices);
        answer.clear = answer.clear.saturating_add(part.clear);
        whole |= part.last;
    }
    if !whole {
        return Err(Failure::new(Exit::Internal, "the broker's answer broke off; ask again"));
    }
    let view = Exposed::new(question, answer, session.now());
    let exit = if view.needs_you(args.ignore_unknown) { Exit::NeedsYou } else { Exit::Done };
    Ok(session.report(&view)?.ending(exit))
}
