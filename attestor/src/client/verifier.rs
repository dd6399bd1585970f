//! Whether a server is the plant's broker.
//!
//! Promises: it has the plant's name for the broker, certified under the pinned root by an issuing key that no newer one
//! has replaced. Clocks that run late are no obstacle: the plant certifies nothing ahead of time, so what begins later
//! than the clock here shows only says that it is later, and ends are compared with that time.

use std::sync::Arc;
use std::time::Duration;

use policy::id::PlantDomain;
use policy::issuing::issuing_number;
use policy::x509::certificate::Certificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::plant::PlantRoot;

/// Verifies the broker of one plant.
#[derive(Debug)]
pub(crate) struct BrokerVerifier {
    under_root: Arc<WebPkiServerVerifier>,
    plant: PlantDomain,
    /// The highest number of an issuing key that was seen.
    seen: u32,
}

impl BrokerVerifier {
    pub(crate) fn new(
        root: &PlantRoot,
        plant: PlantDomain,
        seen: u32,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(root.store()), provider);
        let under_root = builder.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { under_root, plant, seen })
    }

    /// The issuing key that certified a verified `leaf` is none that was replaced.
    fn newest(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let leaf = Certificate::parse(leaf).ok();
        let number = leaf.and_then(|leaf| issuing_number(leaf.issuer(), &self.plant));
        match number {
            Some(number) if number >= self.seen => Ok(()),
            Some(number) => Err(Error::General(format!(
                "it is certified by issuing key {number} of the plant, and {} has taken its place: a thief or an old \
                 backup is at work",
                self.seen
            ))),
            None => Err(Error::General("it is not certified by an issuing key of the plant".to_owned())),
        }
    }
}

/// The first moment at which every one of these holds, as far as they can be read.
fn begins<'a>(chain: impl Iterator<Item = &'a CertificateDer<'a>>) -> TlsTime {
    let begin = chain.filter_map(|der| Some(Certificate::parse(der).ok()?.validity().not_before.0)).max();
    TlsTime::since_unix_epoch(Duration::from_secs(begin.unwrap_or_default()))
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: TlsTime,
    ) -> Result<ServerCertVerified, Error> {
        let begins = begins(chain.iter().chain([leaf]));
        let verified = self.under_root.verify_server_cert(leaf, chain, name, ocsp, now.max(begins))?;
        self.newest(leaf)?;
        if begins > now {
            tracing::warn!(
                seconds = begins.as_secs().saturating_sub(now.as_secs()),
                "the clock here runs late, by this much at least; mend its time source"
            );
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.under_root.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.under_root.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.under_root.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    };
    use rustls::crypto::aws_lc_rs;
    use rustls::{CertificateError, Error};

    use super::*;

    const NAME: &str = "broker.control.plant.example";

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2050, 1, 1));
        params
    }

    /// An issuing key, which certifies no other authority.
    fn issuing(name: &str) -> CertificateParams {
        let mut params = authority(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params
    }

    /// A server of June 2026.
    fn server() -> CertificateParams {
        let mut leaf = CertificateParams::default();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
        (leaf.not_before, leaf.not_after) =
            (rcgen::date_time_ymd(2026, 6, 1), rcgen::date_time_ymd(2026, 7, 1));
        leaf
    }

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    fn certified(
        params: &CertificateParams,
        by: &CertificateParams,
        key: &KeyPair,
    ) -> CertificateDer<'static> {
        params.signed_by(&self::key(), &Issuer::from_params(by, key)).unwrap().der().clone()
    }

    /// What a verifier that pinned `root` and saw issuing key `seen` says at `now`.
    fn said(
        root: &CertificateDer<'_>,
        seen: u32,
        now: u64,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let (pinned, provider) = (PlantRoot::pin(root).unwrap(), Arc::new(aws_lc_rs::default_provider()));
        let verifier =
            BrokerVerifier::new(&pinned, "plant.example".parse().unwrap(), seen, provider).unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let now = TlsTime::since_unix_epoch(Duration::from_secs(now));
        verifier.verify_server_cert(leaf, chain, &name, &[], now).map(drop)
    }

    /// What a verifier that saw issuing key `seen` says in 2026 or at `now` to a server of June 2026, certified by `name`.
    fn verdict(name: &str, seen: u32, now: u64) -> Result<(), Error> {
        let (root_key, issuing_key) = (key(), key());
        let (root, issuing) = (authority("plant.example plant root"), issuing(name));
        let pinned = root.self_signed(&root_key).unwrap();
        let middle = issuing.signed_by(&issuing_key, &Issuer::from_params(&root, &root_key)).unwrap();
        let leaf = certified(&server(), &issuing, &issuing_key);
        said(pinned.der(), seen, now, &leaf, &[middle.der().clone()])
    }

    /// The middle of June 2026.
    const DURING: u64 = 1_781_500_000;

    #[test]
    fn a_clock_that_runs_late_is_no_obstacle_and_a_certificate_that_ended_is() {
        for late in [0, DURING - 40 * 86_400, DURING] {
            assert_eq!(verdict("plant.example issuing 1", 1, late), Ok(()), "{late}");
        }
        let ended = verdict("plant.example issuing 1", 1, DURING + 40 * 86_400);
        assert!(
            matches!(ended, Err(Error::InvalidCertificate(CertificateError::ExpiredContext { .. }))),
            "{ended:?}"
        );
    }

    #[test]
    fn a_broker_under_an_issuing_key_that_was_replaced_is_refused() {
        assert_eq!(verdict("plant.example issuing 3", 2, DURING), Ok(()));
        let replaced = verdict("plant.example issuing 1", 2, DURING).unwrap_err().to_string();
        assert!(replaced.contains("issuing key 1 of the plant, and 2 has taken its place"), "{replaced}");
        let other = verdict("plant.example audit", 0, DURING).unwrap_err().to_string();
        assert!(other.contains("not certified by an issuing key"), "{other}");
    }

    /// Whoever has issuing key 1 signs what they like with it; 3 has taken its place.
    #[test]
    fn a_key_that_was_replaced_gives_itself_no_higher_number() {
        let (root_key, first_key, third_key) = (key(), key(), key());
        let root = authority("plant.example plant root");
        let (first, third) = (issuing("plant.example issuing 1"), issuing("plant.example issuing 3"));
        let pinned = root.self_signed(&root_key).unwrap().der().clone();
        let by_root = |params: &CertificateParams, key: &KeyPair| {
            params.signed_by(key, &Issuer::from_params(&root, &root_key)).unwrap().der().clone()
        };
        let (of_first, of_third) = (by_root(&first, &first_key), by_root(&third, &third_key));
        let verdict = |leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]| {
            let Err(Error::InvalidCertificate(error)) = said(&pinned, 3, DURING, leaf, chain) else {
                panic!("believed, or refused for another reason")
            };
            error
        };
        said(&pinned, 3, DURING, &certified(&server(), &third, &third_key), std::slice::from_ref(&of_third))
            .unwrap();

        // A certificate that says another signed it, alone, beside that one's own, and under one that was made for it.
        let forged = certified(&server(), &third, &first_key);
        assert_eq!(verdict(&forged, std::slice::from_ref(&of_first)), CertificateError::UnknownIssuer);
        assert_eq!(verdict(&forged, &[of_first.clone(), of_third]), CertificateError::BadSignature);
        let below = third.signed_by(&first_key, &Issuer::from_params(&first, &first_key)).unwrap();
        let below = verdict(&forged, &[below.der().clone(), of_first]);
        assert!(format!("{below:?}").contains("PathLenConstraintViolated"), "{below:?}");
    }
}
