//! The identity that the manufacturer gave the device.

use policy::cause::chain;
use policy::time::UnixTime;

use super::Finding;
use crate::config::Config;
use crate::idevid::{IdevId, IdevIdError};
use crate::ports::Clock;
use crate::tpm::{EsapiTpm, TpmHandle};

const CHECK: &str = "idevid";

/// Looks at what `[idevid]` names, and has its key sign.
pub(super) async fn look(config: &Config, clock: &dyn Clock) -> Option<Finding> {
    let files = config.idevid.as_ref()?;
    Some(match IdevId::load(files, config.tpm.is_some()) {
        Ok(idevid) => match signs(config, &idevid).await {
            Ok(certified) => judge(&idevid, certified, clock.now()),
            Err(error) => Finding::fault(CHECK, chain(&error)),
        },
        Err(error) => Finding::fault(CHECK, chain(&error)),
    })
}

/// Whether the attestation key certifies the key, which signed; `None` without a TPM.
async fn signs(config: &Config, idevid: &IdevId) -> Result<Option<bool>, IdevIdError> {
    let start = |address| TpmHandle::start(EsapiTpm::new(address)).ok();
    let tpm = config.tpm.clone().and_then(start);
    let shown = idevid.prove(tpm.as_ref(), b"doctor", b"doctor").await?;
    let bound = !shown.certify.is_empty() || !shown.iak_certificate.is_empty();
    Ok(tpm.map(|_| bound))
}

fn judge(idevid: &IdevId, bound: Option<bool>, now: UnixTime) -> Finding {
    let described = idevid.described();
    let found = format!("{} of {}, its key signs", described.serial_number, described.subject);
    if now > described.validity.not_after {
        return Finding::warning(
            CHECK,
            format!("{found}, and it ended at {}; ask the manufacturer", described.validity.not_after),
        );
    }
    match bound {
        Some(true) if described.in_tpm || !idevid.is_in_file() => Finding::good(CHECK, found),
        None => Finding::good(CHECK, format!("{found}; by it the device joins without a token")),
        Some(_) => Finding::warning(
            CHECK,
            format!(
                "{found}, and nothing ties it to the TPM: it says who the device is, and an administrator has to register \
                 the TPM by what `touchstone-attestor identify` prints"
            ),
        ),
    }
}
