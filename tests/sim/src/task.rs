//! Work of broker or device, done step by step: up to its next write or call, which the world lets go on when it likes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use attestor::client::{CallError, Calls};
use proto::v1;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// Work that ends with a `T`.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How far work has come.
#[derive(Debug)]
pub enum Step<T> {
    /// It is done.
    Done(T),
    /// It waits for the world.
    Waits,
}

/// Goes on with `work` until it is done, or `waits` says that it waits for the world. What it has done on other threads
/// is waited for: nothing else happens meanwhile.
pub fn step<T>(runtime: &Runtime, work: &mut Work<T>, waits: impl Fn() -> bool) -> Step<T> {
    runtime.block_on(poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Step::Done(done)),
        Poll::Pending if waits() => Poll::Ready(Step::Waits),
        Poll::Pending => Poll::Pending,
    }))
}

/// What a device asks of the broker.
#[derive(Debug, Clone)]
pub enum Request {
    /// A challenge to enroll.
    BeginEnrollment(v1::BeginEnrollmentRequest),
    /// The answer to it.
    CompleteEnrollment(Box<v1::CompleteRequest>),
    /// A challenge to attest.
    BeginAttestation(v1::BeginAttestationRequest),
    /// The answer to it.
    CompleteAttestation(Box<v1::CompleteRequest>),
}

/// What the broker answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A challenge to enroll.
    Enrollment(Box<v1::BeginEnrollmentResponse>),
    /// A challenge to attest.
    Attestation(Box<v1::BeginAttestationResponse>),
    /// What the proof earned.
    Complete(Box<v1::CompleteResponse>),
    /// A refusal.
    Denied(Box<v1::Denial>),
}

type Answer = oneshot::Sender<Result<Reply, CallError>>;

/// A call that waits for its answer.
pub struct Call {
    /// What is asked.
    pub request: Request,
    answer: Answer,
}

impl Call {
    /// Answers it; without one, nobody answers. Says whether anybody hears that: a device that lost its power, or began
    /// another exchange since, does not.
    pub fn answer(self, reply: Option<Reply>) -> bool {
        let silence = || CallError::Unreachable {
            broker: "127.0.0.1:1".parse().expect("an address"),
            reason: "no answer".to_owned(),
        };
        let answer = match reply {
            Some(Reply::Denied(denial)) => Err(CallError::Denied(denial)),
            Some(reply) => Ok(reply),
            None => Err(silence()),
        };
        self.answer.send(answer).is_ok()
    }
}

/// The device's line to the broker: a call is laid down here.
#[derive(Clone, Default)]
pub struct Line(Arc<Mutex<Option<Call>>>);

impl Line {
    /// The call that was made, if one waits.
    #[must_use]
    pub fn take(&self) -> Option<Call> {
        self.0.lock().expect("a call").take()
    }

    /// Whether one does.
    #[must_use]
    pub fn is_calling(&self) -> bool {
        self.0.lock().expect("a call").is_some()
    }

    async fn call(&self, request: Request) -> Result<Reply, CallError> {
        let (answer, hears) = oneshot::channel();
        *self.0.lock().expect("a call") = Some(Call { request, answer });
        hears.await.expect("the world answers every call of a device that is on")
    }
}

impl Calls for Line {
    async fn begin_enrollment(
        &self,
        request: v1::BeginEnrollmentRequest,
    ) -> Result<v1::BeginEnrollmentResponse, CallError> {
        match self.call(Request::BeginEnrollment(request)).await? {
            Reply::Enrollment(begun) => Ok(*begun),
            other => panic!("{other:?}"),
        }
    }

    async fn complete_enrollment(
        &self,
        request: v1::CompleteRequest,
    ) -> Result<v1::CompleteResponse, CallError> {
        match self.call(Request::CompleteEnrollment(Box::new(request))).await? {
            Reply::Complete(done) => Ok(*done),
            other => panic!("{other:?}"),
        }
    }

    async fn begin_attestation(
        &self,
        request: v1::BeginAttestationRequest,
    ) -> Result<v1::BeginAttestationResponse, CallError> {
        match self.call(Request::BeginAttestation(request)).await? {
            Reply::Attestation(begun) => Ok(*begun),
            other => panic!("{other:?}"),
        }
    }

    async fn complete_attestation(
        &self,
        request: v1::CompleteRequest,
    ) -> Result<v1::CompleteResponse, CallError> {
        match self.call(Request::CompleteAttestation(Box::new(request))).await? {
            Reply::Complete(done) => Ok(*done),
            other => panic!("{other:?}"),
        }
    }

    async fn complete_enrollment_in_parts(
        &self,
        _: mpsc::Receiver<v1::CompletePart>,
    ) -> Result<v1::CompleteResponse, CallError> {
        unreachable!("no device here has an IMA list")
    }

    async fn complete_attestation_in_parts(
        &self,
        _: mpsc::Receiver<v1::CompletePart>,
    ) -> Result<v1::CompleteResponse, CallError> {
        unreachable!("no device here has an IMA list")
    }
}
