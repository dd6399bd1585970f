//! SBOMs and exposure: convert, call, convert.

use std::pin::Pin;
use std::sync::Arc;

use policy::component::affected::{MAX_AFFECTED, MAX_RANGES, MAX_VERSIONS};
use policy::component::purl::MAX_PURL;
use policy::component::version::MAX_VERSION;
use policy::component::{Affected, Event, Purl, Range};
use policy::sbom::MAX_SBOM_BYTES;
use proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Administration, parse};
use crate::admin::exposure::{self, Found, Line, Part, Peers, ReleaseFindings};
use crate::admin::sbom::{self, Kept};
use crate::admin::{Act, Actor};
use crate::grpc::status::status;
use crate::plant::Plant;
use crate::session::Refusal;

/// Bytes of a document in one message.
const CHUNK: usize = 256 * 1024;
/// Parts that wait for a slow reader.
const WAITING: usize = 4;
/// Documents that are received at once: each waits in memory until it is whole.
const RECEIVED: usize = 2;
/// Seconds after which an administrator who found others uploading asks again.
const BUSY: u32 = 10;

/// An answer in parts.
pub(super) type Parts<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

static RECEIVERS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(RECEIVED);

pub(super) async fn add(
    service: &Administration,
    actor: Actor,
    mut parts: Streaming<v1::AddSbomRequest>,
) -> Result<v1::AddSbomResponse, Refusal> {
    let busy = |_| Refusal::TryLater { why: "other SBOMs are being added".to_owned(), seconds: BUSY };
    let _place = RECEIVERS.try_acquire().map_err(busy)?;
    let broken = |status: Status| Refusal::malformed(format!("the SBOM broke off: {}", status.message()));
    let (mut bytes, mut dry_run) = (Vec::new(), None);
    while let Some(part) = parts.message().await.map_err(broken)? {
        dry_run.get_or_insert(part.dry_run);
        if bytes.len().saturating_add(part.data.len()) > MAX_SBOM_BYTES {
            return Err(Refusal::malformed(format!("the SBOM has more than {MAX_SBOM_BYTES} bytes")));
        }
        bytes.extend(part.data);
    }
    let (kept, unchanged) = sbom::add(&service.plant, &actor, bytes, dry_run.unwrap_or(false)).await?;
    Ok(v1::AddSbomResponse { sbom: Some(wire_sbom(&kept)), unchanged })
}

pub(super) async fn list(
    plant: &Plant,
    _: &Actor,
    request: v1::ListSbomsRequest,
) -> Result<v1::ListSbomsResponse, Refusal> {
    let (page, next) = sbom::page(plant, parse::optional("after", &request.after)?).await?;
    let next = next.map(|digest| digest.to_string()).unwrap_or_default();
    Ok(v1::ListSbomsResponse { sboms: page.iter().map(wire_sbom).collect(), next })
}

pub(super) async fn one(plant: &Plant, request: v1::GetSbomRequest) -> Result<Parts<v1::SbomPart>, Refusal> {
    let (kept, document) = sbom::one(plant, parse::digest("digest", &request.digest)?).await?;
    let first = v1::SbomPart { sbom: Some(wire_sbom(&kept)), data: Vec::new() };
    let starts = (0..document.len()).step_by(CHUNK);
    let rest = starts.map(move |start| {
        let end = start.saturating_add(CHUNK).min(document.len());
        v1::SbomPart { sbom: None, data: document.get(start..end).unwrap_or_default().to_vec() }
    });
    Ok(Box::pin(tokio_stream::iter(std::iter::once(first).chain(rest).map(Ok))))
}

pub(super) async fn remove(
    plant: &Plant,
    actor: &Actor,
    request: v1::RemoveSbomRequest,
) -> Result<v1::RemoveSbomResponse, Refusal> {
    let digest = parse::digest("digest", &request.digest)?;
    let kept = sbom::remove(plant, actor, digest, request.dry_run).await?;
    Ok(v1::RemoveSbomResponse { sbom: Some(wire_sbom(&kept)) })
}

fn wire_sbom(kept: &Kept) -> v1::Sbom {
    let record = &kept.record;
    v1::Sbom {
        digest: record.document.0.to_vec(),
        format: record.format.to_string(),
        spec_version: record.spec_version.clone(),
        subject: record.subject.clone(),
        components: record.components,
        size: record.size,
        added_at: record.added_at.0,
        added_by: record.added_by.clone(),
        releases: kept.releases.iter().map(ToString::to_string).collect(),
    }
}

/// The devices in parts. A failure comes after the last part, so a reader never takes some for all.
pub(super) fn exposed(
    service: &Administration,
    actor: Actor,
    request: v1::ListExposedRequest,
) -> Result<Parts<v1::ExposedPart>, Refusal> {
    let zone = parse::optional("zone", &request.zone)?;
    if request.affected.is_empty() || request.affected.len() > MAX_AFFECTED {
        return Err(Refusal::malformed(format!("affected: name 1 to {MAX_AFFECTED} packages")));
    }
    let affected = request.affected.into_iter().map(affected).collect::<Result<Vec<_>, _>>()?;
    let plant = Arc::clone(&service.plant);
    let (data, parts) = mpsc::channel(WAITING);
    let (failed, failure) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(refusal) = exposure::answer(&plant, actor.scope(), affected, zone, &data).await {
            tracing::info!(act = Act::ReadDevices.name(), reason = %refusal, "refused");
            // A reader that is gone needs no reason.
            let _ = failed.send(status(&plant, &refusal)).await;
        }
    });
    let parts = ReceiverStream::new(parts).map(|part| Ok(wire_part(part)));
    Ok(Box::pin(parts.chain(ReceiverStream::new(failure).map(Err))))
}

fn affected(wire: v1::AffectedPackage) -> Result<Affected, Refusal> {
    if wire.purl.len() > MAX_PURL || wire.versions.len() > MAX_VERSIONS || wire.ranges.len() > MAX_RANGES {
        return Err(Refusal::malformed(format!(
            "affected: a purl has at most {MAX_PURL} bytes, and a package {MAX_VERSIONS} versions and {MAX_RANGES} ranges"
        )));
    }
    let package: Purl =
        wire.purl.parse().map_err(|error| Refusal::malformed(format!("affected: {error}")))?;
    let versions = wire.versions.into_iter().map(version).collect::<Result<Vec<_>, _>>()?;
    let ranges = wire.ranges.into_iter().map(range).collect::<Result<Vec<_>, _>>()?;
    Ok(Affected { package: package.package(), ranges, versions, incomplete: wire.incomplete })
}

fn version(text: String) -> Result<String, Refusal> {
    match text.len() {
        1..=MAX_VERSION => Ok(text),
        bytes => {
            Err(Refusal::malformed(format!("a version has {bytes} bytes; 1 to {MAX_VERSION} are compared")))
        }
    }
}

fn range(wire: v1::VersionRange) -> Result<Range, Refusal> {
    if wire.events.len() > MAX_RANGES {
        return Err(Refusal::malformed(format!("a range has at most {MAX_RANGES} events")));
    }
    let event = |event: v1::VersionEvent| {
        let version = version(event.version)?;
        match event.kind.as_str() {
            "introduced" => Ok(Event::Introduced(version)),
            "after" => Ok(Event::After(version)),
            "fixed" => Ok(Event::Fixed(version)),
            "last-affected" => Ok(Event::LastAffected(version)),
            _ => Err(Refusal::malformed(
                "event: its kind is one of introduced, after, fixed, last-affected".to_owned(),
            )),
        }
    };
    Ok(Range { events: wire.events.into_iter().map(event).collect::<Result<_, _>>()? })
}

fn wire_part(part: Part) -> v1::ExposedPart {
    match part {
        Part::Release(release) => {
            v1::ExposedPart { releases: vec![wire_release(release)], ..v1::ExposedPart::default() }
        }
        Part::Peers(peers) => v1::ExposedPart { zones: wire_peers(peers), ..v1::ExposedPart::default() },
        Part::Devices(lines) => v1::ExposedPart {
            devices: lines.into_iter().map(wire_device).collect(),
            ..v1::ExposedPart::default()
        },
        Part::Clear(clear) => {
            v1::ExposedPart { clear: parse::count(clear), last: true, ..v1::ExposedPart::default() }
        }
    }
}

fn wire_release(release: ReleaseFindings) -> v1::ExposedRelease {
    let component = |found: Found| v1::ExposedComponent {
        name: found.name,
        version: found.version,
        purl: found.purl,
        sbom: found.sbom.0.to_vec(),
        source: found.source.unwrap_or_default(),
        doubt: found.doubt.unwrap_or_default(),
    };
    v1::ExposedRelease {
        release: release.id.to_string(),
        components: release.found.into_iter().map(component).collect(),
        left_out: parse::count(release.left_out),
        unknown: release.unknown,
    }
}

fn wire_peers(peers: Peers) -> Vec<v1::ZonePeers> {
    let peer = |(zone, service): (policy::id::ZoneName, Option<policy::id::ServiceName>)| v1::ZonePeer {
        zone: zone.to_string(),
        service: service.map(|service| service.to_string()).unwrap_or_default(),
    };
    let zones = peers.into_iter().map(|(zone, callers)| v1::ZonePeers {
        zone: zone.to_string(),
        peers: callers.into_iter().map(peer).collect(),
    });
    zones.collect()
}

fn wire_device(line: Line) -> v1::ExposedDevice {
    v1::ExposedDevice {
        name: line.device.to_string(),
        exposure: line.exposure.name().to_owned(),
        reason: line.reason,
        release: line.release.map(|id| id.to_string()).unwrap_or_default(),
        exposed_releases: line.releases.iter().map(ToString::to_string).collect(),
        attested_at: line.attested_at.map_or(0, |at| at.0),
        zones: line.zones.iter().map(ToString::to_string).collect(),
        owner: line.owner,
        criticality: line.criticality,
    }
}
