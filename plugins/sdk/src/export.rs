//! From the contract's free functions to one instance of the author's publisher.
//!
//! The instance lives in a thread-local slot: a component has one thread, and calls never overlap.

/// Exports a publisher: once per plugin.
///
/// - `export!(Mine)` makes it by `Default`.
/// - `export!(Mine, Mine::start)` makes it by a function of no arguments that returns `Result<Mine, E>`, `E` being
///   displayable. An error when the plugin is first loaded refuses it, and its text is shown; in a later instance it
///   is tried again with backoff.
///
/// ```
/// # use pressroom_plugin::*;
/// struct Mine {
///     prefix: String,
/// }
///
/// impl Mine {
///     fn start() -> Result<Self, String> {
///         Ok(Self { prefix: config::get("prefix").ok_or("config: \"prefix\" is missing")? })
///     }
/// }
///
/// impl Publisher for Mine {
///     fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
///         info!("{}{} events", self.prefix, events.len());
///         Ok(vec![])
///     }
///     fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
///         Ok(vec![])
///     }
/// }
///
/// pressroom_plugin::export!(Mine, Mine::start);
/// ```
#[macro_export]
macro_rules! export {
    ($publisher:ty) => {
        $crate::export!($publisher, || {
            ::core::result::Result::<$publisher, ::core::convert::Infallible>::Ok(
                <$publisher as ::core::default::Default>::default(),
            )
        });
    };
    ($publisher:ty, $start:expr) => {
        const _: () = {
            struct Instance;

            impl $crate::__private::Instance for Instance {
                type Publisher = $publisher;

                fn start() -> ::core::result::Result<$publisher, ::std::string::String> {
                    $crate::__private::start($start)
                }

                fn with<R>(call: impl FnOnce(&mut ::core::option::Option<$publisher>) -> R) -> R {
                    ::std::thread_local! {
                        static SLOT: ::core::cell::RefCell<::core::option::Option<$publisher>> =
                            const { ::core::cell::RefCell::new(::core::option::Option::None) };
                    }
                    SLOT.with(|slot| call(&mut slot.borrow_mut()))
                }
            }

            type Exported = $crate::__private::Exported<Instance>;

            // Natively there is nobody to export to; the names are no good for an ordinary linker either.
            #[cfg(target_arch = "wasm32")]
    $crate::bindings::export_guest!(Exported with_types_in $crate::bindings);
            #[cfg(not(target_arch = "wasm32"))]
            const _: ::core::option::Option<Exported> = ::core::option::Option::None;
        };
    };
}

/// What `export!` expands to; not for use by hand.
#[doc(hidden)]
#[allow(missing_docs)]
pub mod __private {
    use crate::bindings::exports::pressroom::publisher::{lifecycle, publisher};
    use crate::bindings::pressroom::publisher::batches;
    use crate::{EventBatch, NetworkBatch, PublishError, PublishResult, Publisher};
    use std::fmt::Display;
    use std::marker::PhantomData;

    pub trait Instance {
        type Publisher: Publisher;
        fn start() -> Result<Self::Publisher, String>;
        fn with<R>(call: impl FnOnce(&mut Option<Self::Publisher>) -> R) -> R;
    }

    pub struct Exported<I>(PhantomData<I>);

    /// `{:#}` is the whole chain, where an error has one to show.
    pub fn start<P, E: Display>(start: impl FnOnce() -> Result<P, E>) -> Result<P, String> {
        start().map_err(|error| format!("{error:#}"))
    }

    impl<I: Instance> lifecycle::Guest for Exported<I> {
        fn start() -> Result<(), String> {
            let publisher = I::start()?;
            I::with(|slot| *slot = Some(publisher));
            Ok(())
        }

        fn flush() -> Result<(), publisher::PublishError> {
            I::with(|slot| slot.as_mut().map_or(Ok(()), Publisher::flush)).map_err(Into::into)
        }
    }

    impl<I: Instance> publisher::Guest for Exported<I> {
        fn publish_event_metrics(
            events: &batches::EventBatch,
        ) -> Result<Vec<publisher::Unpublished>, publisher::PublishError> {
            answer(published::<I>(|publisher| publisher.publish_event_metrics(&EventBatch::of(events))))
        }

        fn publish_network_metrics(
            operations: &batches::NetworkBatch,
        ) -> Result<Vec<publisher::Unpublished>, publisher::PublishError> {
            answer(published::<I>(|publisher| {
                publisher.publish_network_metrics(&NetworkBatch::of(operations))
            }))
        }
    }

    /// A host calls `start` first. One that does not know the optional interface still gets a publisher.
    fn published<I: Instance>(call: impl FnOnce(&mut I::Publisher) -> PublishResult) -> PublishResult {
        I::with(|slot| match slot {
            Some(publisher) => call(publisher),
            None => call(slot.insert(I::start().map_err(PublishError::retry)?)),
        })
    }

    fn answer(result: PublishResult) -> Result<Vec<publisher::Unpublished>, publisher::PublishError> {
        match result {
            Ok(rows) => Ok(rows.into_iter().map(Into::into).collect()),
            Err(error) => Err(error.into()),
        }
    }
}
