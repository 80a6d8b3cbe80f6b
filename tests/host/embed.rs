//! The example of an embedding service, run: what it records arrives at the publisher that it brings.

#[path = "../../examples/embed.rs"]
#[allow(dead_code, reason = "its `main`")]
mod example;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_an_embedding_service_loses_nothing() {
    let closing = example::serve().await.unwrap();
    assert!(closing.balanced() && closing.dropped() == 0 && closing.never_accepted == 0, "{closing:?}");
    assert_eq!((closing.cancelled, closing.publishers.len()), (0, 1), "{closing:?}");
    let books = closing.publishers[0].books;
    assert_eq!(
        (books.accepted, books.delivered),
        (6, 6),
        "three events and three network operations: {books:?}"
    );
}
