//! The stations of the journey, as spans. A request that is not sampled has no `traceparent`, and costs
//! nothing here: its spans are disabled.

/// A span for one station of the journey, tied to the trace of `traceparent`, an `Option<&str>`. Whoever
/// collects traces makes it a child of that context.
#[macro_export]
macro_rules! station {
    ($name:literal, $traceparent:expr) => {
        match $traceparent {
            Some(traceparent) => ::tracing::info_span!($name, traceparent),
            None => ::tracing::Span::none(),
        }
    };
}
