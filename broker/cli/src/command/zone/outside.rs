//! Certificates with addresses that a zone has no more.

use policy::time::UnixTime;
use proto::v1::Outside;
use serde::Serialize;

use crate::output::words;

/// What a device holds that names addresses outside the subnets.
#[derive(Debug, Serialize)]
pub(super) struct OutsideView {
    device: String,
    addresses: Vec<String>,
    until: u64,
}

impl From<Outside> for OutsideView {
    fn from(Outside { device, addresses, until }: Outside) -> Self {
        Self { device, addresses, until }
    }
}

impl OutsideView {
    /// In one line.
    pub(super) fn line(&self) -> String {
        format!(
            "{} has certificates until {} that name {}, outside the subnets: it is to replace them at once, and they are revoked \
             after an interval of the zone",
            words::visible(&self.device),
            UnixTime(self.until),
            words::list(&self.addresses)
        )
    }
}
