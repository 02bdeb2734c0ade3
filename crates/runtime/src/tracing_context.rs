//! The stations of the journey, as spans. A request that is not sampled has no `traceparent`, and costs
//! nothing here: its spans are disabled.

/// A span for one station of the journey, tied to the trace of `traceparent`, an `Option<&str>`. Whoever
/// collects traces makes it a child of that context. More fields may follow, as `tracing` writes them; one that
/// is called `error` says that the station failed.
#[macro_export]
macro_rules! station {
    ($name:literal, $traceparent:expr $(, $($field:tt)+)?) => {
        match $traceparent {
            Some(traceparent) => ::tracing::info_span!($name, traceparent $(, $($field)+)?),
            None => ::tracing::Span::none(),
        }
    };
}
