//! One thread owns the TPM; everyone else holds a [`TpmHandle`].
//!
//! Promises: one command at a time; a bounded queue; the caller's deadline holds, counted from the call; a
//! command whose caller has given up before its turn is not begun.
//! Does not promise: that a command is stopped. libtss2 cannot cancel one, so a stuck command keeps the thread,
//! every later caller's error names it, and [`TpmHandle::occupation`] lets the watchdog restart the process. A
//! second thread is never started: two users of one TPM would be worse than none.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
    task::block_in_place,
    time::timeout_at,
};

use super::{
    Attestation, Credential, EkTemplate, Endorsement, IdentityKeyBlob, ManufacturerKey,
    ManufacturerSignature, Operation, PcrBank, PcrIndex, PcrSelection, PcrValue, Secret, Tpm, TpmError,
    TpmFault,
};

/// Commands that may wait. On slow hardware (0.2 s each) the last of them is served after 13 s, before its
/// caller gives up.
pub const QUEUE_LENGTH: usize = 64;
/// Deadline for verbs that make no RSA key, unless told otherwise: the kernel itself gives such commands 2 s to 20 s.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline for [`TpmHandle::endorsement`] and [`TpmHandle::activate`], which may derive RSA keys: the kernel gives
/// TPM2_CreatePrimary up to 5 min.
pub const KEY_GENERATION_DEADLINE: Duration = Duration::from_secs(300);

impl Operation {
    /// The time after which a TPM that still works on this will never end: twice the longest that its callers wait,
    /// which is `deadline` where no RSA key is made.
    fn stuck_after(self, deadline: Duration) -> Duration {
        match self {
            Self::ReadEndorsement | Self::ActivateCredential => KEY_GENERATION_DEADLINE.saturating_mul(2),
            Self::DeriveAttestationKey
            | Self::ReadPcrs
            | Self::ExtendPcr
            | Self::Quote
            | Self::CreateIdentityKey
            | Self::CertifyIdentityKey
            | Self::SignDigest
            | Self::SignAsManufacturer => deadline.saturating_mul(2),
        }
    }
}

/// A door to the TPM for many users. When the last one is dropped the thread ends.
#[derive(Clone)]
pub struct TpmHandle {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
    deadline: Duration,
}

/// What the owner thread and the handles tell each other.
#[derive(Default)]
struct Shared {
    occupation: Mutex<Option<(Operation, Instant)>>,
    closed: AtomicBool,
    spent: Mutex<BTreeMap<Operation, Spent>>,
}

/// What an operation took so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// How often it was done.
    pub count: u64,
    /// For how long altogether.
    pub time: Duration,
}

impl Shared {
    fn count(&self, operation: Operation, time: Duration) {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = all.entry(operation).or_default();
        spent.count = spent.count.saturating_add(1);
        spent.time = spent.time.saturating_add(time);
    }
}

struct Job {
    operation: Operation,
    deadline: Instant,
    work: Work,
}

type Work = Box<dyn FnOnce(&mut dyn Tpm) + Send>;

impl TpmHandle {
    /// Starts the owner thread. The handle's deadline is [`COMMAND_DEADLINE`].
    pub fn start(tpm: impl Tpm + 'static) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_LENGTH);
        let shared = Arc::new(Shared::default());
        let owner = Arc::clone(&shared);
        thread::Builder::new().name("tpm".to_owned()).spawn(move || serve(tpm, &jobs, &owner))?;
        Ok(Self { queue, shared, deadline: COMMAND_DEADLINE })
    }

    /// The same TPM with another deadline for each call.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// What the TPM is doing and since when; None while it is idle.
    pub fn occupation(&self) -> Option<(Operation, Duration)> {
        let occupation = *self.shared.occupation.lock().unwrap_or_else(PoisonError::into_inner);
        occupation.map(|(operation, since)| (operation, since.elapsed()))
    }

    /// The same, if it will never end.
    pub fn stuck(&self) -> Option<(Operation, Duration)> {
        self.occupation().filter(|(operation, since)| *since > operation.stuck_after(self.deadline))
    }

    /// What each operation took so far.
    #[must_use]
    pub fn spent(&self) -> Vec<(Operation, Spent)> {
        let spent = self.shared.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.iter().map(|(operation, spent)| (*operation, *spent)).collect()
    }

    /// Lets no further command begin, from whatever task, and waits for the one in the works, for as long as `patience`
    /// at most. Where no resource manager cleans up, a process that ends in the midst of a command leaves its objects in
    /// the TPM's few slots.
    pub async fn close(&self, patience: Duration) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Its turn comes when nothing is in the works; it is passed over like every other job.
        let last = self.with_deadline(patience).run(Operation::SignDigest, |_| Ok(())).await;
        if let Err(TpmError { fault: TpmFault::Deadline { .. }, .. }) = last {
            tracing::warn!(occupation = ?self.occupation(), "the TPM is left in the midst of a command");
        }
    }

    /// Runs a batch of verbs with nothing of this process in between. `operation` names the batch in errors.
    pub async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        batch: impl FnOnce(&mut dyn Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let (reply, answer) = oneshot::channel();
        // A caller that has gone does not want its answer.
        let deadline = self.submit(operation, move |tpm| drop(reply.send(batch(tpm))))?;
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.unanswered(operation, deadline)),
            Err(_) => Err(self.too_late(operation)),
        }
    }

    /// The same for synchronous callers, such as a rustls signer.
    ///
    /// It cannot deadlock: the owner thread needs no task of the runtime to make progress. On a worker of a
    /// multi-thread runtime the worker's other tasks move elsewhere meanwhile; on a current-thread runtime they
    /// wait.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        operation: Operation,
        batch: impl FnOnce(&mut dyn Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let (reply, answer) = sync_channel(1);
        let deadline = self.submit(operation, move |tpm| drop(reply.send(batch(tpm))))?;
        let wait = || answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        match off_the_worker(wait) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(self.unanswered(operation, deadline)),
            Err(RecvTimeoutError::Timeout) => Err(self.too_late(operation)),
        }
    }

    fn submit(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut dyn Tpm) + Send + 'static,
    ) -> Result<Instant, TpmError> {
        let deadline = Instant::now() + self.deadline;
        match self.queue.try_send(Job { operation, deadline, work: Box::new(work) }) {
            Ok(()) => Ok(deadline),
            Err(TrySendError::Full(_)) => {
                Err(operation.failed(TpmFault::QueueFull { waiting: QUEUE_LENGTH }))
            }
            Err(TrySendError::Disconnected(_)) => Err(operation.failed(TpmFault::ThreadEnded)),
        }
    }

    /// The job was dropped: passed over because it was late, or lost with the thread.
    fn unanswered(&self, operation: Operation, deadline: Instant) -> TpmError {
        if Instant::now() < deadline {
            operation.failed(TpmFault::ThreadEnded)
        } else {
            self.too_late(operation)
        }
    }

    fn too_late(&self, operation: Operation) -> TpmError {
        operation.failed(TpmFault::Deadline { deadline: self.deadline, occupied: self.occupation() })
    }
}

/// One method for each verb of the port.
impl TpmHandle {
    /// See [`Tpm::endorsement`].
    pub async fn endorsement(&self) -> Result<Endorsement, TpmError> {
        self.run(Operation::ReadEndorsement, |tpm| tpm.endorsement()).await
    }

    /// See [`Tpm::attestation_key`].
    pub async fn attestation_key(&self) -> Result<Vec<u8>, TpmError> {
        self.run(Operation::DeriveAttestationKey, |tpm| tpm.attestation_key()).await
    }

    /// See [`Tpm::activate`].
    pub async fn activate(&self, key: EkTemplate, credential: Credential) -> Result<Secret, TpmError> {
        self.run(Operation::ActivateCredential, move |tpm| tpm.activate(key, &credential)).await
    }

    /// See [`Tpm::read_pcrs`].
    pub async fn read_pcrs(&self, bank: PcrBank, selection: PcrSelection) -> Result<Vec<PcrValue>, TpmError> {
        self.run(Operation::ReadPcrs, move |tpm| tpm.read_pcrs(bank, selection)).await
    }

    /// See [`Tpm::extend`].
    pub async fn extend(&self, pcr: PcrIndex, bank: PcrBank, digest: Vec<u8>) -> Result<(), TpmError> {
        self.run(Operation::ExtendPcr, move |tpm| tpm.extend(pcr, bank, &digest)).await
    }

    /// See [`Tpm::quote`].
    pub async fn quote(
        &self,
        qualifying_data: Vec<u8>,
        bank: PcrBank,
        selection: PcrSelection,
    ) -> Result<Attestation, TpmError> {
        self.run(Operation::Quote, move |tpm| tpm.quote(&qualifying_data, bank, selection)).await
    }

    /// See [`Tpm::create_identity_key`].
    pub async fn create_identity_key(&self) -> Result<IdentityKeyBlob, TpmError> {
        self.run(Operation::CreateIdentityKey, |tpm| tpm.create_identity_key()).await
    }

    /// See [`Tpm::certify`].
    pub async fn certify(
        &self,
        key: IdentityKeyBlob,
        qualifying_data: Vec<u8>,
    ) -> Result<Attestation, TpmError> {
        self.run(Operation::CertifyIdentityKey, move |tpm| tpm.certify(&key, &qualifying_data)).await
    }

    /// See [`Tpm::sign_digest`].
    pub async fn sign_digest(&self, key: IdentityKeyBlob, digest: [u8; 32]) -> Result<Vec<u8>, TpmError> {
        self.run(Operation::SignDigest, move |tpm| tpm.sign_digest(&key, &digest)).await
    }
}

impl TpmHandle {
    /// See [`Tpm::sign_as_manufacturer`].
    pub async fn sign_as_manufacturer(
        &self,
        key: ManufacturerKey,
        message: Vec<u8>,
        qualifying_data: Vec<u8>,
    ) -> Result<ManufacturerSignature, TpmError> {
        let sign = move |tpm: &mut dyn Tpm| tpm.sign_as_manufacturer(&key, &message, &qualifying_data);
        self.run(Operation::SignAsManufacturer, sign).await
    }
}

impl fmt::Debug for TpmHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmHandle").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

fn serve(mut tpm: impl Tpm, jobs: &Receiver<Job>, shared: &Shared) {
    let occupy = |state| *shared.occupation.lock().unwrap_or_else(PoisonError::into_inner) = state;
    for job in jobs {
        if job.deadline <= Instant::now() || shared.closed.load(Ordering::SeqCst) {
            continue;
        }
        let begun = Instant::now();
        occupy(Some((job.operation, begun)));
        (job.work)(&mut tpm);
        tpm.release();
        occupy(None);
        shared.count(job.operation, begun.elapsed());
    }
}

fn off_the_worker<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(wait),
        _ => wait(),
    }
}

#[cfg(test)]
mod tests;
