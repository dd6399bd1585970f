//! Release keys: convert, call, convert.

use std::num::NonZeroU8;

use policy::reference::keys::MAX_SPKI_BYTES;
use proto::v1;

use super::{forecast, parse};
use crate::admin::Actor;
use crate::admin::golden::keys::{self, KeyRef, Need, New, Removal, Rotation, Threshold};
use crate::plant::Plant;
use crate::release_keys::Registered;
use crate::session::Refusal;

/// Longest PEM of a key: base64, its armour, and some words of whoever made it.
const MAX_PEM: usize = 4 * MAX_SPKI_BYTES;

pub(super) async fn list(
    plant: &Plant,
    _: &Actor,
    _: v1::ListReleaseKeysRequest,
) -> Result<v1::ListReleaseKeysResponse, Refusal> {
    let (ring, needs) = keys::all(plant).await?;
    let mut all: Vec<&Registered> = ring.keys().collect();
    // Those in force first, each group by name.
    all.sort_by_key(|key| (!key.held.record.is_in_force(), key.held.record.name.clone(), key.held.record.at));
    Ok(v1::ListReleaseKeysResponse {
        keys: all.into_iter().map(wire).collect(),
        thresholds: needs.iter().map(threshold_to_wire).collect(),
    })
}

pub(super) async fn add(
    plant: &Plant,
    actor: &Actor,
    request: v1::AddReleaseKeyRequest,
) -> Result<v1::AddReleaseKeyResponse, Refusal> {
    let new = New {
        name: parse::text("name", &request.name)?,
        products: parse::texts("product", &request.products)?,
        public_key: pem(request.public_key)?,
        seen: parse::seen(request.seen)?,
        dry_run: request.dry_run,
    };
    let added = keys::add(plant, actor, &new).await?;
    Ok(v1::AddReleaseKeyResponse { key: Some(wire(&added.key)), seen: Some(parse::to_wire(added.seen)) })
}

pub(super) async fn rotate(
    plant: &Plant,
    actor: &Actor,
    request: v1::RotateReleaseKeyRequest,
) -> Result<v1::RotateReleaseKeyResponse, Refusal> {
    let rotation = Rotation {
        key: key_ref(&request.key)?,
        public_key: pem(request.public_key)?,
        compromised: request.compromised,
        reason: request.reason,
        seen: parse::seen(request.seen)?,
        dry_run: request.dry_run,
    };
    let rotated = keys::rotate(plant, actor, &rotation).await?;
    let lost = &rotated.lost;
    Ok(v1::RotateReleaseKeyResponse {
        key: Some(wire(&rotated.key)),
        before: Some(wire(&rotated.before)),
        void: lost.void.iter().map(ToString::to_string).collect(),
        running: lost.running.iter().map(ToString::to_string).collect(),
        groups: forecast::groups(&lost.forecast, true),
        seen: Some(parse::to_wire(rotated.seen)),
    })
}

pub(super) async fn remove(
    plant: &Plant,
    actor: &Actor,
    request: v1::RemoveReleaseKeyRequest,
) -> Result<v1::RemoveReleaseKeyResponse, Refusal> {
    let removal = Removal {
        key: key_ref(&request.key)?,
        compromised: request.compromised,
        reason: request.reason,
        seen: parse::seen(request.seen)?,
        dry_run: request.dry_run,
    };
    let removed = keys::remove(plant, actor, &removal).await?;
    let lost = &removed.lost;
    Ok(v1::RemoveReleaseKeyResponse {
        before: Some(wire(&removed.before)),
        void: lost.void.iter().map(ToString::to_string).collect(),
        forecast: forecast::lines(&lost.forecast, request.grouped)?,
        groups: forecast::groups(&lost.forecast, request.grouped),
        running: lost.running.iter().map(ToString::to_string).collect(),
        short: removed.short.iter().map(threshold_to_wire).collect(),
        seen: Some(parse::to_wire(removed.seen)),
    })
}

pub(super) async fn set_threshold(
    plant: &Plant,
    actor: &Actor,
    request: v1::SetReleaseThresholdRequest,
) -> Result<v1::SetReleaseThresholdResponse, Refusal> {
    let needed = u8::try_from(request.needed).ok().and_then(NonZeroU8::new);
    let threshold = Threshold {
        product: parse::text("product", &request.product)?,
        needed: needed.ok_or_else(|| {
            Refusal::malformed("a release needs one signature at least; write a number from 1".to_owned())
        })?,
        seen: parse::seen(request.seen)?,
        dry_run: request.dry_run,
    };
    let changed = keys::set(plant, actor, &threshold).await?;
    Ok(v1::SetReleaseThresholdResponse {
        before: u32::from(changed.before.get()),
        available: parse::count(changed.available),
        seen: Some(parse::to_wire(changed.seen)),
    })
}

/// A key by its name, or by `sha256:` and its digest.
fn key_ref(value: &str) -> Result<KeyRef, Refusal> {
    if value.starts_with("sha256:") {
        return parse::text("key", value).map(KeyRef::Id);
    }
    parse::text("key", value).map(KeyRef::Name)
}

fn pem(text: String) -> Result<String, Refusal> {
    if text.len() > MAX_PEM {
        return Err(Refusal::malformed(format!(
            "the public key has {} bytes, at most {MAX_PEM}; give the PEM block PUBLIC KEY alone",
            text.len()
        )));
    }
    Ok(text)
}

fn threshold_to_wire(need: &Need) -> v1::ReleaseThreshold {
    v1::ReleaseThreshold {
        product: need.product.to_string(),
        needed: u32::from(need.needed),
        available: parse::count(need.available),
    }
}

fn wire(key: &Registered) -> v1::ReleaseKey {
    let record = &key.held.record;
    let removed = record.removed.clone().unwrap_or_default();
    let compromised = record.compromised.clone().unwrap_or_default();
    v1::ReleaseKey {
        name: record.name.to_string(),
        id: key.id.0.to_vec(),
        scheme: keys::scheme(record).to_owned(),
        products: record.products.iter().map(ToString::to_string).collect(),
        public_key: record.public_key.clone(),
        added_at: record.at.0,
        added_by: record.by.clone(),
        removed_at: removed.at.0,
        removed_by: removed.by,
        removed_reason: removed.reason,
        compromised_at: compromised.at.0,
        compromised_by: compromised.by,
        compromised_reason: compromised.reason,
        seen: Some(parse::to_wire(keys::seen(key))),
    }
}
