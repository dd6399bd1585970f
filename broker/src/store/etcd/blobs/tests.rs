use super::{super::node::Node, *};

/// Bytes that no packing makes smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut word = 1_u64;
    let next = move || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The blobs as two brokers have them.
fn two(node: &Node) -> (Arc<EtcdBlobs>, Arc<EtcdBlobs>) {
    let open = || EtcdBlobs::open(&node.options()).unwrap();
    (open(), open())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_broker_puts_the_other_fetches() {
    let Some(node) = Node::start().await else { return };
    let (one, two) = two(&node);
    let log = b"EV_EFI_BOOT_SERVICES_APPLICATION ".repeat(1_000);
    for bytes in [Vec::new(), b"abc".to_vec(), log, noise(PART), noise(PART + 1), noise(3 * PART + 7)] {
        let digest = one.put(bytes.clone()).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(two.fetch(digest, bytes.len()).await.unwrap(), bytes);
        assert_eq!(two.put(bytes.clone()).await.unwrap(), digest, "idempotent");
        if let Some(less) = bytes.len().checked_sub(1) {
            let error = two.fetch(digest, less).await.unwrap_err();
            assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
        }
        assert!(one.list().await.unwrap().contains(&digest));
        two.remove(digest).await.unwrap();
        let error = one.fetch(digest, MAX_BLOB).await.unwrap_err();
        assert!(matches!(error, FetchError::Missing { .. }), "{error}");
        assert_eq!(one.list().await.unwrap(), [], "nor its parts");
    }
    let error = one.put(vec![0; MAX_BLOB + 1]).await.unwrap_err();
    assert!(matches!(error, PutError::TooLarge { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_broker_puts_again_is_not_swept() {
    let Some(node) = Node::start().await else { return };
    let (one, two) = two(&node);
    let (small, large, gone) = (b"small".to_vec(), noise(PART + 1), b"gone".to_vec());
    let mut digests = BTreeSet::new();
    for bytes in [&small, &large, &gone] {
        digests.insert(one.put(bytes.clone()).await.unwrap());
    }
    assert_eq!(one.list().await.unwrap(), digests.iter().copied().collect::<Vec<_>>());
    one.condemn(&digests);
    two.put(small.clone()).await.unwrap();
    two.put(large.clone()).await.unwrap();
    for digest in digests {
        assert_eq!(one.remove_condemned(digest).await.unwrap(), digest == Digest::of(&gone));
    }
    assert_eq!(two.fetch(Digest::of(&large), MAX_BLOB).await.unwrap(), large);
    let error = two.fetch(Digest::of(&gone), MAX_BLOB).await.unwrap_err();
    assert!(matches!(error, FetchError::Missing { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_altered_or_unfinished_is_refused() {
    let Some(node) = Node::start().await else { return };
    let (one, two) = two(&node);
    let (small, large) = (one.put(b"abc".to_vec()).await.unwrap(), one.put(noise(PART + 1)).await.unwrap());
    one.set(&one.layout.blob(&small), b"\0abd".to_vec()).await.unwrap();
    one.set(&one.layout.blob_part(&large, 1), b"another end".to_vec()).await.unwrap();
    for digest in [small, large] {
        let error = two.fetch(digest, MAX_BLOB).await.unwrap_err();
        assert!(matches!(error, FetchError::Altered { .. }), "{error}");
    }
    one.set(&one.layout.blob(&large), vec![Lies::Unfinished.byte()]).await.unwrap();
    let error = two.fetch(large, MAX_BLOB).await.unwrap_err();
    assert!(matches!(error, FetchError::Missing { .. }), "{error}");
    two.put(noise(PART + 1)).await.unwrap();
    assert_eq!(one.fetch(large, MAX_BLOB).await.unwrap(), noise(PART + 1));
}
