//! A store that fails, and one in which somebody else is faster: no answer is "still attested" (checklist rows 6
//! and 11).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::plant_of;
use super::tpm::TestTpm;
use crate::admin::tests::{Bench, refused};
use crate::record::device::{Attested, Device, Tpm, attested_key, device_key, ek_key};
use crate::record::golden::GOLDEN;
use crate::record::stored;
use crate::record::zone::ZONE;
use crate::session::challenge::Door;
use crate::session::complete::complete;
use crate::store::blobs::MAX_BLOB;
use crate::store::{
    Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
};

/// What goes wrong.
pub(super) enum Fault {
    /// Nothing can be read that begins with this.
    Unreadable(String),
    /// Somebody changes this record just before the first transaction.
    Overtaken(String, Vec<u8>),
}

struct Faulty {
    inner: Arc<dyn Store>,
    fault: Fault,
    over: AtomicBool,
}

impl Faulty {
    fn reads(&self, key: &str) -> Result<(), ReadError> {
        match &self.fault {
            Fault::Unreadable(prefix) if key.starts_with(prefix) => {
                Err(ReadError::Unreadable { key: key.to_owned(), why: "the disk is gone".to_owned() })
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.reads(key)?;
        self.inner.get(key).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        self.reads(prefix)?;
        self.inner.scan(prefix, after, limit).await
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        if let Fault::Overtaken(key, value) = &self.fault
            && !self.over.swap(true, Ordering::Relaxed)
        {
            self.inner.transact(Txn::new().put(key.clone(), value.clone())).await?;
        }
        self.inner.transact(txn).await
    }

    fn watch(&self, after: Revision) -> Watch {
        self.inner.watch(after)
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn replace_all(&self, content: Content, past: Revision) -> Result<Revision, ReplaceError> {
        self.inner.replace_all(content, past).await
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        self.inner.probe().await
    }
}

pub(super) fn break_store(bench: &mut Bench, fault: Fault) -> Arc<dyn Store> {
    let inner = Arc::clone(&bench.plant.store);
    bench.plant.store = Arc::new(Faulty { inner: Arc::clone(&inner), fault, over: AtomicBool::new(false) });
    inner
}

#[tokio::test]
async fn row_11_a_store_that_cannot_be_read_attests_nobody() {
    for of in 0..5 {
        let mut tpm = TestTpm::new();
        let (mut bench, name) = plant_of(&tpm, true).await;
        let keys =
            [ek_key(&tpm.ek_digest()), device_key(&name), ZONE.to_owned(), GOLDEN.to_owned(), String::new()];
        let prefix = keys[of].clone();
        let honest = tpm.answer(&bench.plant, "press-7").await.unwrap();
        let before = bench.revision();
        let inner = break_store(&mut bench, Fault::Unreadable(prefix.clone()));
        let outcome = complete(&bench.plant, honest.clone(), Door::Enrollment).await;
        assert_eq!(refused!(outcome, Internal), "the broker could not decide; its log says why", "{prefix}");
        assert_eq!(bench.revision(), before, "{prefix}");
        bench.plant.store = inner;
        complete(&bench.plant, honest, Door::Enrollment).await.unwrap();
    }
}

/// The record that a decision rests on is immutable between check and use.
#[tokio::test]
async fn row_6_a_record_that_changes_between_check_and_use_ends_the_session() {
    for of_the_tpm in [false, true] {
        let mut tpm = TestTpm::new();
        let (mut bench, name) = plant_of(&tpm, true).await;
        let honest = tpm.answer(&bench.plant, "press-7").await.unwrap();
        let device: Device = bench.read(device_key(&name)).await;
        let known: Tpm = bench.read(ek_key(&tpm.ek_digest())).await;
        let (key, value) = match of_the_tpm {
            false => {
                (device_key(&name), stored(&Device { ek: TestTpm::new().ek_digest(), ..device }).unwrap())
            }
            true => (ek_key(&tpm.ek_digest()), stored(&Tpm { retired: true, ..known }).unwrap()),
        };
        let inner = break_store(&mut bench, Fault::Overtaken(key.clone(), value.clone()));
        let outcome = complete(&bench.plant, honest, Door::Enrollment).await;
        let text = refused!(outcome, MustReattest);
        assert!(text.contains("something this decision rests on was changed"), "{text}");
        assert_eq!(inner.get(&key).await.unwrap().unwrap().value, value, "the other's change stands");
    }
}

/// A proof that was overtaken has kept nothing of its own if it said nothing new: what it names is the other's.
#[tokio::test]
async fn a_proof_that_is_overtaken_takes_nothing_of_the_one_before_it() {
    let mut tpm = TestTpm::new();
    let (mut bench, name) = plant_of(&tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let before: Attested = bench.read(attested_key(&name)).await;
    let again = tpm.renewal(&bench.plant, "press-7").await;
    // After a reboot: the evidence before it is that of the earlier boot.
    let other = bench.plant.blobs.put(b"of the faster one".to_vec()).await.unwrap();
    let faster = Attested { evidence: other, result: other, reset_count: 9, ..before.clone() };
    break_store(&mut bench, Fault::Overtaken(attested_key(&name), stored(&faster).unwrap()));
    let text = refused!(complete(&bench.plant, again, Door::Attestation).await, MustReattest);
    assert!(text.contains("something this decision rests on was changed"), "{text}");
    bench.plant.blobs.fetch(before.evidence, MAX_BLOB).await.unwrap();
    bench.plant.blobs.fetch(other, MAX_BLOB).await.unwrap();
}
