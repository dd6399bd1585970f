//! Crashes the embedded store on purpose: kill -9, a power cut of the file system below it, a full disk, a page that is
//! not as it was written.
//!
//! `TOUCHSTONE_ROUNDS=20` repeats everything that often, and `TOUCHSTONE_SEED` takes the chances of a run that printed it.
//!
//! A child process works on a store and says on its standard output what was acknowledged. The parent
//! ends it in the middle, opens the store, and compares: everything acknowledged is there, every
//! transaction is there whole or not at all, the audit chains verify.

#[cfg(test)]
mod child;
#[cfg(test)]
mod harm;
#[cfg(test)]
mod power;
#[cfg(test)]
mod seed;
#[cfg(test)]
mod verdict;
#[cfg(test)]
mod workload;

#[cfg(test)]
mod tests {
    use crate::{
        child::{Child, Job},
        harm::{copy, corrupt},
        power::Disk,
        seed::{self, Seed},
        verdict::{open, verify},
        workload::{self, Acks},
    };
    use broker::store::{Revision, Store, Txn, blobs::Blobs, sled::SledStore};
    use std::{
        fs,
        panic::{AssertUnwindSafe, catch_unwind},
        path::Path,
        thread,
        time::{Duration, Instant},
    };
    use tempfile::TempDir;

    /// A kill comes up to so many milliseconds after an acknowledgement.
    const MOMENT: u64 = 50;

    /// Rounds that end in kill -9, and rounds that end in a power cut. Restores are slow, so they get fewer.
    fn rounds(job: Job) -> (u64, u64) {
        let (kills, cuts) = match job {
            Job::Transact => (60, 6),
            Job::Restore => (24, 4),
        };
        (seed::rounds(kills), seed::rounds(cuts))
    }

    /// How many acknowledgements to wait for in a round; none means an end while the store opens.
    fn length(job: Job, seed: Seed, round: u64) -> u64 {
        let longest = match job {
            Job::Transact => 120,
            Job::Restore => 8,
        };
        seed.below(longest, round)
    }

    async fn survives(job: Job, root: &Path, acks: &Acks, last: &mut Revision) {
        let store = open(root);
        let revision = verify(job, &store, root, acks).await.unwrap();
        assert!(revision >= *last, "revision {revision} after {last}");
        *last = revision;
    }

    async fn kill_rounds(job: Job) {
        let root = TempDir::new().unwrap();
        let (seed, mut acks, mut last) = (Seed::new(), Acks::default(), Revision(0));
        let ((kills, _), mut pending, begun) = (rounds(job), 0, Instant::now());
        for round in 0..kills {
            let mut child = Child::start(job, root.path());
            child.wait_for(length(job, seed, round), &mut acks);
            // No condition to wait for: right after an acknowledgement the store is at rest, and any moment must do.
            thread::sleep(Duration::from_millis(seed.below(MOMENT, ("moment", round))));
            child.kill(&mut acks);
            pending += u64::from(acks.pending() > 0);
            survives(job, root.path(), &acks, &mut last).await;
        }
        let (total, took) = (acks.total(), begun.elapsed());
        println!(
            "{job:?}: {total} acknowledged; {pending} of {kills} kills while the store had something that was not; {took:.1?}"
        );
        assert!(total > 0, "the child worked");
        assert!(pending > 0, "no kill fell before an acknowledgement");
    }

    async fn power_rounds(job: Job) {
        let folder = TempDir::new().unwrap();
        let disk = match Disk::create(folder.path()) {
            Ok(disk) => disk,
            Err(why) => return println!("skipped: {why}"),
        };
        let (seed, mut acks, mut last) = (Seed::new(), Acks::default(), Revision(0));
        let (_, cuts) = rounds(job);
        for round in 0..cuts {
            let mounted = disk.mount().unwrap();
            let root = mounted.path().join("store");
            if round > 0 {
                survives(job, &root, &acks, &mut last).await;
            }
            let mut child = Child::start(job, &root);
            child.wait_for(length(job, seed, round).max(1), &mut acks);
            mounted.cut_power().unwrap();
            child.kill(&mut acks);
        }
        let mounted = disk.mount().unwrap();
        survives(job, &mounted.path().join("store"), &acks, &mut last).await;
        println!("{job:?}: {} acknowledged in {cuts} rounds", acks.total());
        assert!(acks.total() >= cuts, "the child worked");
    }

    /// A full disk: the store says so and stops, and everything acknowledged is there once there is room.
    #[tokio::test]
    async fn full_disk_loses_no_transaction() {
        let folder = TempDir::new().unwrap();
        let disk = match Disk::create(folder.path()) {
            Ok(disk) => disk,
            Err(why) => return println!("skipped: {why}"),
        };
        let (seed, mut acks, mut last) = (Seed::new(), Acks::default(), Revision(0));
        for round in 0..seed::rounds(3) {
            let mounted = disk.mount().unwrap();
            let root = mounted.path().join("store");
            let mut child = Child::start(Job::Transact, &root);
            child.wait_for(1 + length(Job::Transact, seed, round), &mut acks);
            mounted.fill().unwrap();
            child.gives_up(&mut acks);
            mounted.make_room().unwrap();
            survives(Job::Transact, &root, &acks, &mut last).await;
        }
        assert!(acks.total() > 0, "the child worked");
    }

    /// A page that is not as it was written: the store does not open, or cannot read it, or nothing acknowledged is
    /// lost. What it says then is what a restore is for.
    #[tokio::test]
    async fn corrupt_page_loses_nothing_in_silence() {
        let folder = TempDir::new().unwrap();
        let (whole, seed, mut acks) = (folder.path().join("whole"), Seed::new(), Acks::default());
        fs::create_dir(&whole).unwrap();
        for _ in 0..3 {
            let mut child = Child::start(Job::Transact, &whole);
            child.wait_for(300, &mut acks);
            child.kill(&mut acks);
            verify(Job::Transact, &open(&whole), &whole, &acks).await.unwrap();
        }
        let (mut refused, mut read) = (0, 0);
        for round in 0..seed::rounds(20) {
            let root = folder.path().join(format!("round-{round}"));
            copy(&whole, &root).unwrap();
            let harm = corrupt(&root, seed, round).unwrap();
            let opened = catch_unwind(AssertUnwindSafe(|| SledStore::open(&root, "b1".parse().unwrap())));
            let opened = opened.unwrap_or_else(|_| panic!("round {round}: {harm}: a panic"));
            match opened {
                Err(_) => refused += 1,
                Ok(store) => match verify(Job::Transact, &store, &root, &acks).await {
                    Ok(_) => {}
                    Err(why) if why.starts_with("cannot read") || why.contains("from the last backup") => {
                        read += 1
                    }
                    Err(why) => panic!("round {round}: {harm}: the store opened, and {why}"),
                },
            }
            fs::remove_dir_all(&root).unwrap();
        }
        println!("{refused} stores did not open, {read} said what they cannot read");
    }

    /// No test by itself: what [`Child::start`] runs.
    #[test]
    fn child() {
        crate::child::run();
    }

    #[tokio::test]
    async fn kill_loses_no_transaction() {
        kill_rounds(Job::Transact).await;
    }

    #[tokio::test]
    async fn kill_leaves_one_whole_content() {
        kill_rounds(Job::Restore).await;
    }

    #[tokio::test]
    async fn power_cut_loses_no_transaction() {
        power_rounds(Job::Transact).await;
    }

    #[tokio::test]
    async fn power_cut_leaves_one_whole_content() {
        power_rounds(Job::Restore).await;
    }

    /// Proof that the verdict can be guilty.
    #[tokio::test]
    async fn verdict_finds_loss_and_torn_batches() {
        let root = TempDir::new().unwrap();
        let store = open(root.path());
        let mut version = None;
        let blobs = Blobs::open(root.path()).unwrap();
        for number in 1..=30 {
            if let Some(blob) = workload::blob(0, number) {
                blobs.put(blob).await.unwrap();
            }
            version = Some(store.transact(workload::txn(0, number, version)).await.unwrap());
        }
        let mut acks = Acks::default();
        acks.note("0 30");
        verify(Job::Transact, &store, root.path(), &acks).await.unwrap();

        acks.note("0 31");
        let guilty = verify(Job::Transact, &store, root.path(), &acks).await.unwrap_err();
        assert_eq!(guilty, "task 0: 31 acknowledged, 30 there");

        let key = workload::slot(0, 30, "b");
        let torn = Txn::new().delete(key.clone());
        store.transact(torn).await.unwrap();
        let guilty = verify(Job::Transact, &store, root.path(), &Acks::default()).await.unwrap_err();
        assert_eq!(guilty, format!("task 0 at 30: {key} is not as written"));
    }
}
