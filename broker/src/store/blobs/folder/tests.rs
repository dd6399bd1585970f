use super::*;
use lz4_flex::block::compress_prepend_size;
use miniz_oxide::deflate::compress_to_vec;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn open() -> (TempDir, Folder) {
    let root = TempDir::new().unwrap();
    let blobs = Folder::open(root.path()).unwrap();
    (root, blobs)
}

#[tokio::test]
async fn what_is_discarded_is_gone_at_once_and_its_file_with_the_next_that_is_put() {
    let (_root, blobs) = open();
    let old = blobs.put(b"old".to_vec()).await.unwrap();
    let back = blobs.put(b"back".to_vec()).await.unwrap();
    let file = blobs.path(&old);
    blobs.discard(old).await;
    blobs.discard(back).await;
    assert!(matches!(blobs.fetch(old, 9).await, Err(FetchError::Missing { .. })));
    assert!(file.exists());
    assert_eq!(blobs.put(b"back".to_vec()).await.unwrap(), back);
    assert!(!file.exists());
    assert_eq!(blobs.fetch(back, 9).await.unwrap(), b"back", "what is put again stays");

    let many: Vec<Vec<u8>> = (0..=u8::MAX).map(|n| vec![n]).collect();
    blobs.put_all(many.clone()).await.unwrap();
    assert_eq!(blobs.list().await.unwrap().len(), many.len() + 1);
    for bytes in many {
        blobs.discard(Digest::of(&bytes)).await;
        assert!(blobs.discarded().len() < MAX_DISCARDED);
    }
    assert_eq!(blobs.list().await.unwrap(), [back]);
}

#[tokio::test]
async fn put_fetch_list_remove() {
    let (root, blobs) = open();
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    assert_eq!(digest, Digest::of(b"abc"));
    assert_eq!(blobs.put(b"abc".to_vec()).await.unwrap(), digest, "idempotent");
    let other = blobs.put(Vec::new()).await.unwrap();
    assert_eq!(blobs.fetch(digest, 3).await.unwrap(), b"abc");
    assert_eq!(blobs.fetch(other, 0).await.unwrap(), b"");

    let path = root.path().join("blobs/ba/7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&root.path().join("blobs")), 0o700);

    let mut listed = blobs.list().await.unwrap();
    listed.sort();
    let mut expected = [digest, other];
    expected.sort();
    assert_eq!(listed, expected);

    blobs.remove(digest).await.unwrap();
    blobs.remove(digest).await.unwrap();
    let error = blobs.fetch(digest, 3).await.unwrap_err();
    assert!(matches!(&error, FetchError::Missing { path: named } if *named == path), "{error}");
    assert_eq!(blobs.list().await.unwrap(), [other]);
}

#[tokio::test]
async fn altered_file_is_refused_by_name_and_mended_by_put() {
    let (_root, blobs) = open();
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    let path = blobs.path(&digest);
    for altered in ["abd", "ab", ""] {
        fs::write(&path, altered).unwrap();
        let error = blobs.fetch(digest, 9).await.unwrap_err();
        assert!(matches!(&error, FetchError::Altered { path: named } if *named == path), "{error}");
    }
    assert!(!blobs.put_beside(digest, Vec::new()).await.unwrap(), "it was found altered");
    blobs.put(b"abc".to_vec()).await.unwrap();
    assert_eq!(blobs.fetch(digest, 9).await.unwrap(), b"abc");
    assert!(blobs.put_beside(digest, Vec::new()).await.unwrap());
    fs::remove_file(&path).unwrap();
    assert!(!blobs.put_beside(digest, vec![b"other".to_vec()]).await.unwrap());
    assert_eq!(blobs.fetch(Digest::of(b"other"), 9).await.unwrap(), b"other");
}

#[tokio::test]
async fn sizes_are_bounded() {
    let (_root, blobs) = open();
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    let error = blobs.fetch(digest, 2).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { max: 2, .. }), "{error}");
    let length = MAX_BLOB + 1;
    let error = blobs.put(vec![0; length]).await.unwrap_err();
    assert!(matches!(error, PutError::TooLarge { length: named } if named == length), "{error}");
    let digest = blobs.put(vec![0; MAX_BLOB]).await.unwrap();
    assert_eq!(blobs.fetch(digest, usize::MAX).await.unwrap().len(), MAX_BLOB);
}

#[tokio::test]
async fn half_written_files_are_removed_at_open_and_strangers_not_listed() {
    let (root, blobs) = open();
    let digest = blobs.put(b"abc".to_vec()).await.unwrap();
    let temporary = root.path().join("blobs/tmp-7");
    fs::write(&temporary, "ab").unwrap();
    fs::write(blobs.path(&digest).with_file_name("README"), "not a blob").unwrap();
    let blobs = Folder::open(root.path()).unwrap();
    assert!(!temporary.exists());
    assert_eq!(blobs.list().await.unwrap(), [digest]);
}

#[tokio::test]
async fn what_repeats_itself_is_stored_packed_and_unpacked_within_bounds() {
    let (root, blobs) = open();
    let log = b"EV_EFI_BOOT_SERVICES_APPLICATION ".repeat(1_000);
    let digest = blobs.put(log.clone()).await.unwrap();
    assert_eq!(digest, Digest::of(&log), "of the bytes as they were put");
    let small = formed(&blobs.path(&digest), Form::Packed);
    assert!(fs::metadata(&small).unwrap().len() < 1_000);
    assert!(!blobs.path(&digest).exists());
    assert_eq!(Folder::open(root.path()).unwrap().fetch(digest, log.len()).await.unwrap(), log);
    let error = blobs.fetch(digest, log.len() - 1).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");

    let whole = fs::read(&small).unwrap();
    let promises_more = [&u32::MAX.to_le_bytes()[..], &whole[4..]].concat();
    fs::write(&small, promises_more).unwrap();
    let error = blobs.fetch(digest, MAX_BLOB).await.unwrap_err();
    assert!(matches!(error, FetchError::Altered { .. }), "no room is made for it: {error}");
    let promises_less = [&7_u32.to_le_bytes()[..], &whole[4..]].concat();
    let cut = whole[..whole.len() - 1].to_vec();
    for (altered, what) in [
        (compress_prepend_size(b"another"), "another file"),
        (compress_prepend_size(&vec![b' '; log.len()]), "another file of its length"),
        (promises_less, "less than is in it"),
        (cut, "cut off"),
        (vec![1], "no length"),
        ([&whole[..], b" "].concat(), "something follows"),
    ] {
        fs::write(&small, altered).unwrap();
        let error = blobs.fetch(digest, log.len()).await.unwrap_err();
        assert!(matches!(&error, FetchError::Altered { path } if *path == small), "{what}: {error}");
    }
    fs::write(&small, "no block").unwrap();
    let error = blobs.fetch(digest, log.len()).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::TooLarge { path, .. } if *path == small),
        "words as length: {error}"
    );
    blobs.put(log.clone()).await.unwrap();
    assert_eq!(blobs.fetch(digest, log.len()).await.unwrap(), log);
    blobs.remove(digest).await.unwrap();
    assert!(matches!(blobs.fetch(digest, log.len()).await, Err(FetchError::Missing { .. })));
}

#[tokio::test]
async fn a_file_of_an_older_broker_is_read_as_it_is() {
    let (_root, blobs) = open();
    let log = vec![7; 1_000];
    let digest = blobs.put(log.clone()).await.unwrap();
    let path = blobs.path(&digest);
    for (form, held) in [(Form::Whole, log.clone()), (Form::Deflated, compress_to_vec(&log, 1))] {
        fs::remove_file(formed(&path, Form::Packed)).unwrap();
        let old = formed(&path, form);
        fs::write(&old, held).unwrap();
        assert_eq!(blobs.fetch(digest, 1_000).await.unwrap(), log);
        let error = blobs.fetch(digest, 999).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { max: 999, .. }), "{error}");
        assert_eq!(blobs.list().await.unwrap(), [digest]);
        blobs.put(log.clone()).await.unwrap();
        assert!(!formed(&path, Form::Packed).exists(), "nothing is stored twice");

        fs::write(&old, "damaged").unwrap();
        assert!(matches!(blobs.fetch(digest, 1_000).await, Err(FetchError::Altered { .. })));
        blobs.put(log.clone()).await.unwrap();
        assert!(!old.exists(), "what is written anew takes its place");
        assert_eq!(blobs.fetch(digest, 1_000).await.unwrap(), log);
    }
}

#[tokio::test]
async fn what_is_put_again_is_not_removed_although_it_was_condemned() {
    let (_root, blobs) = open();
    let digests = [blobs.put(b"one".to_vec()).await.unwrap(), blobs.put(b"two".to_vec()).await.unwrap()];
    blobs.condemn(&digests.into());
    blobs.put(b"one".to_vec()).await.unwrap();
    assert!(!blobs.remove_condemned(digests[0]).await.unwrap());
    assert!(blobs.remove_condemned(digests[1]).await.unwrap());
    assert_eq!(blobs.list().await.unwrap(), [digests[0]]);
}

#[tokio::test]
async fn failures_name_the_path() {
    let (root, blobs) = open();
    let digest = Digest::of(b"abc");
    fs::write(root.path().join("blobs/ba"), "a file where a folder should be").unwrap();
    let error = blobs.put(b"abc".to_vec()).await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot create ") && error.to_string().contains("blobs/ba"),
        "{error}"
    );
    let error = blobs.fetch(digest, 9).await.unwrap_err();
    assert!(matches!(&error, FetchError::Io(_)), "{error}");
}
