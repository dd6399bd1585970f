//! What the broker tells a device between its proofs: what `broker::grpc::watch` does with every look at the store, without
//! its timers.

use std::sync::Arc;

use broker::grpc::peer::{Anchors, DevicePeer, Peer};
use broker::plant::Plant;
use broker::session::standing::{Standing, standing};
use broker::trust::{trust_set, view};
use policy::digest::Digest;
use proto::v1;
use rustls::pki_types::CertificateDer;

/// What a device is told.
#[derive(Debug, Clone)]
pub enum News {
    /// The stream is open.
    Opened,
    /// A trust set.
    Trust(Box<v1::SignedTrustSet>),
    /// It is to prove itself now.
    AttestNow(&'static str),
    /// Its certificate was revoked.
    Lost(Box<v1::Denial>),
}

impl News {
    /// For the trace.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Trust(_) => "trust",
            Self::AttestNow(_) => "attest now",
            Self::Lost(_) => "lost",
        }
    }
}

/// A stream, as the broker holds it.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The certificate that it was opened with.
    pub leaf: Vec<u8>,
    peer: Arc<DevicePeer>,
    sequence: u64,
    content: Option<Digest>,
    asked: Option<u64>,
}

/// A stream that was looked at: what is to be told, and whether it goes on.
pub type Looked = (Option<Stream>, Vec<News>);

/// The device that shows `leaf`, if it is one.
pub async fn identified(plant: &Plant, leaf: &[u8]) -> Option<Arc<DevicePeer>> {
    let view = view(plant).await.ok()?;
    let anchors = Anchors {
        plant: Some(plant.domain()),
        issuing: plant.keys.load().issuing.certificate().to_vec(),
        callers: view.callers().map(|(zone, der)| (zone.clone(), der.to_vec())).collect(),
    };
    match anchors.identify(&CertificateDer::from(leaf), &[], plant.now()) {
        Ok(Peer::Device(peer)) => Some(peer),
        Ok(Peer::Anonymous | Peer::Administrator(_)) | Err(_) => None,
    }
}

/// Opens a stream for whoever shows `leaf`, who has the trust set of this number; none if that is no device.
pub async fn open(plant: Arc<Plant>, leaf: Vec<u8>, sequence: u64) -> Looked {
    let Some(peer) = identified(&plant, &leaf).await else { return (None, Vec::new()) };
    let stream = Stream { leaf, peer, sequence, content: None, asked: None };
    let (stream, news) = look(plant, stream).await;
    (stream, [vec![News::Opened], news].concat())
}

/// Looks what there is to tell.
pub async fn look(plant: Arc<Plant>, mut stream: Stream) -> Looked {
    let (mut news, plant) = (Vec::new(), plant.as_ref());
    if stream.peer.not_after < plant.now() {
        return (None, news);
    }
    match standing(plant, &stream.peer).await {
        Ok(Standing::Lost(denial)) => return (None, vec![News::Lost(denial)]),
        Ok(Standing::Distrusted) => return (None, vec![News::AttestNow("distrusted")]),
        Ok(Standing::Holds { device, ask, .. }) => {
            let counter = device.record.counter;
            match ask {
                Some(ask) if stream.asked != Some(counter) => {
                    stream.asked = Some(counter);
                    news.push(News::AttestNow(ask.words()));
                }
                Some(_) | None => {}
            }
            let view = view(plant).await.expect("the store of a simulated broker reads");
            if view.sequence(plant.keys.load().epoch) > stream.sequence {
                let set = trust_set(plant, &device.record).await.expect("a trust set");
                if stream.content != Some(set.content()) {
                    news.push(News::Trust(Box::new(set.signed(plant).expect("a signature"))));
                    (stream.sequence, stream.content) = (set.sequence(), Some(set.content()));
                }
            }
        }
        Err(refusal) => panic!("a simulated broker cannot say where a device stands: {refusal}"),
    }
    (Some(stream), news)
}
