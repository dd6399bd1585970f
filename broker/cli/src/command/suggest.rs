//! "Did you mean": the nearest name that the broker knows, when it does not know the one that was written.

use proto::v1::admin_client::AdminClient;
use proto::v1::{
    GetStatusRequest, ListConduitsRequest, ListDevicesRequest, ListReleasesRequest, ListZonesRequest,
};
use tonic::transport::Channel;

use crate::failure::Failure;
use crate::output::Session;

/// Devices that are compared: the first page, because a failed command must not cost a walk of the plant.
const DEVICES: u32 = 500;
/// Longest word that is compared; names are shorter, and the distance costs the product of both lengths.
const MAX_WORD: usize = 80;
/// One letter in so many may differ.
const LETTERS_PER_TYPO: usize = 3;

/// Adds the nearest known name to `failure`. What cannot be asked is not suggested.
pub(crate) async fn improve(failure: Failure, session: &Session) -> Failure {
    let Ok(mut client) = session.client().await else { return failure };
    let known = known(&mut client).await;
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word.len() <= MAX_WORD).collect();
    match nearest(&words, &known) {
        Some(name) => failure.hint(format!("did you mean {name}?")),
        None => failure,
    }
}

/// Says which version the broker has and which one it would need.
pub(crate) async fn version(failure: Failure, session: &Session) -> Failure {
    let needed = env!("CARGO_PKG_VERSION");
    let next = match broker_version(session).await {
        Some(version) if version != needed => format!(
            "the broker is {version}, this command needs {needed} or later: update the broker, or use touchstone {version}"
        ),
        _ => format!(
            "this command needs a broker {needed} or later, built from the same release as this touchstone: update the broker"
        ),
    };
    failure.hint(next)
}

async fn broker_version(session: &Session) -> Option<String> {
    let answer = session.client().await.ok()?.get_status(GetStatusRequest {}).await.ok()?;
    Some(answer.into_inner().broker_version).filter(|version| !version.is_empty())
}

/// Names that this administrator sees.
async fn known(client: &mut AdminClient<Channel>) -> Vec<String> {
    let mut names = Vec::new();
    let request = ListDevicesRequest { limit: DEVICES, ..ListDevicesRequest::default() };
    if let Ok(answer) = client.list_devices(request).await {
        names.extend(answer.into_inner().devices.into_iter().map(|device| device.name));
    }
    if let Ok(answer) = client.list_zones(ListZonesRequest {}).await {
        names.extend(answer.into_inner().zones.into_iter().map(|zone| zone.name));
    }
    if let Ok(answer) = client.list_releases(ListReleasesRequest {}).await {
        for release in answer.into_inner().releases {
            names.push(format!("{}@{}", release.product, release.version));
            names.push(release.product);
        }
    }
    if let Ok(answer) = client.list_conduits(ListConduitsRequest {}).await {
        names.extend(answer.into_inner().conduits.into_iter().map(|conduit| conduit.service));
    }
    names
}

/// The known name that is nearest to a word which is none itself.
fn nearest<'a>(words: &[String], known: &'a [String]) -> Option<&'a str> {
    let values = words.iter().map(|word| word.rsplit_once('=').map_or(word.as_str(), |(_, value)| value));
    let unknown = values.filter(|word| !word.starts_with('-') && !known.iter().any(|name| name == word));
    let near = unknown.flat_map(|word| {
        let most = word.chars().count().div_ceil(LETTERS_PER_TYPO);
        let distance = move |name: &'a String| (strsim::damerau_levenshtein(word, name), name.as_str());
        // A release is meant for a release: `edge@9` is nearer to the product `edge` than to any of its versions.
        let alike = move |name: &&String| name.len() <= MAX_WORD && name.contains('@') == word.contains('@');
        known.iter().filter(alike).map(distance).filter(move |(far, _)| *far <= most)
    });
    near.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_nearest_name_is_suggested_for_a_word_that_is_none() {
        let known = owned(&["press-7", "press-17", "cell-3", "edge@1.4", "edge"]);
        let of = |words: &[&str]| nearest(&owned(words), &known).map(str::to_owned);
        assert_eq!(of(&["device", "show", "pres-7"]).as_deref(), Some("press-7"));
        assert_eq!(of(&["device", "list", "--zone=cel-3"]).as_deref(), Some("cell-3"));
        assert_eq!(of(&["golden", "show", "edge@1.5"]).as_deref(), Some("edge@1.4"));
        assert_eq!(of(&["golden", "show", "edge@9"]), None, "not the product");
        assert_eq!(of(&["golden", "rollback", "edgy"]).as_deref(), Some("edge"));
        assert_eq!(of(&["device", "show", "historian"]), None);
        assert_eq!(of(&["device", "show", "press-7"]), None);
    }
}
