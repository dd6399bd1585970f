//! Requests of strangers to the administrators' service are as short as a refusal needs.
//!
//! Promises: a message is read before its method knows who asks, and only that of an administrator may be as long as a file of
//! zones and conduits: nobody else makes the broker hold so much.

use http_body_util::Limited;
use proto::v1::admin_server::SERVICE_NAME;
use tonic::body::Body;
use tonic::codegen::http::Request;

use super::connection::ConnectionInfo;

/// Bytes of a request that is refused anyway.
const REFUSED: usize = 64 << 10;

/// The request, with no more of its body than whoever sends it may have read.
pub(crate) fn to_their_right(request: Request<Body>) -> Request<Body> {
    let info = request.extensions().get::<ConnectionInfo>();
    let administers = info.is_some_and(|info| info.peer.administrator().is_ok());
    let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
    if administers || !method.is_some_and(|method| method.starts_with('/')) {
        return request;
    }
    request.map(|body| Body::new(Limited::new(body, REFUSED)))
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    async fn is_read(path: &str, bytes: usize) -> bool {
        let body = Body::new(Full::new(vec![7; bytes].into()));
        let request = Request::builder().uri(path).body(body).unwrap();
        to_their_right(request).into_body().collect().await.is_ok()
    }

    #[tokio::test]
    async fn a_stranger_has_no_room_for_a_file() {
        assert!(is_read("/touchstone.v1.Admin/ApplyGraph", REFUSED).await);
        assert!(!is_read("/touchstone.v1.Admin/ApplyGraph", REFUSED + 1).await);
        assert!(
            is_read("/touchstone.v1.Attestation/Complete", REFUSED + 1).await,
            "its own service bounds it"
        );
    }
}
