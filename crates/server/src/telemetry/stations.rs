//! From the stations of the journey to the spans of OpenTelemetry.
//!
//! Every station names its place itself, in its field `traceparent`, since it may run on another task, on another
//! node or after a restart: what is entered around it says nothing. So a station is always a child of the span that
//! `traceparent` names, and that span is the station with the field `brought`, the first of the request. Stations
//! that act on an event long after the request (`publish`, `fold`, `deliver`) are children too, not traces of their
//! own with a link: each span belongs to one event, as OpenTelemetry allows it where messages are not handled in
//! batches, and a trace shows the whole journey in one picture.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::export::Queue;

/// The field that names the place of a station.
const TRACEPARENT: &str = "traceparent";
/// The field of the first station: the context that the request brought, or nothing.
const BROUGHT: &str = "brought";
/// The field of a station that failed.
const ERROR: &str = "error";

/// Turns stations into finished spans, and queues them.
pub(super) struct Stations {
    queue: Queue,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
}

/// A span that is open.
struct Open(SpanData);

/// Lets only stations pass.
pub(super) fn filter() -> FilterFn {
    let is_station: fn(&Metadata<'_>) -> bool =
        |metadata| metadata.is_span() && metadata.fields().field(TRACEPARENT).is_some();
    FilterFn::new(is_station).with_max_level_hint(LevelFilter::INFO)
}

impl Stations {
    pub(super) fn new(queue: Queue) -> Self {
        let scope = InstrumentationScope::builder("sillage").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { queue, ids: RandomIdGenerator::default(), scope }
    }

    /// The span of a station; none if it does not say where it belongs.
    fn open(&self, name: &'static str, fields: Fields) -> Option<SpanData> {
        let Fields { traceparent, brought, attributes, status } = fields;
        let (trace_id, first) = parse(&traceparent?)?;
        let (span_id, parent_span_id, parent_span_is_remote) = match brought.as_deref().map(parse) {
            Some(Some((_, theirs))) => (first, theirs, true),
            Some(None) => (first, SpanId::INVALID, false),
            None => (self.ids.new_span_id(), first, false),
        };
        let now = SystemTime::now();
        Some(SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id,
            parent_span_is_remote,
            span_kind: kind(name),
            name: Cow::Borrowed(name),
            start_time: now,
            end_time: now,
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Stations {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(span), Some(data)) = (context.span(id), self.open(attributes.metadata().name(), fields))
        {
            span.extensions_mut().insert(Open(data));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(Open(data)) = span.extensions_mut().get_mut::<Open>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            data.attributes.append(&mut fields.attributes);
            if fields.status != Status::Unset {
                data.status = fields.status;
            }
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let open = context.span(&id).and_then(|span| span.extensions_mut().remove::<Open>());
        if let Some(Open(data)) = open {
            self.queue.push(SpanData { end_time: SystemTime::now(), ..data });
        }
    }
}

fn kind(station: &str) -> SpanKind {
    match station {
        "receive" => SpanKind::Server,
        "publish" | "deliver" => SpanKind::Producer,
        "fold" => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

/// The trace and the span that a context of version 00 names.
fn parse(traceparent: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = traceparent.split('-').skip(1);
    let (trace, span) = (parts.next()?, parts.next()?);
    Some((TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?))
}

/// What a span says of itself.
#[derive(Default)]
struct Fields {
    traceparent: Option<String>,
    brought: Option<String>,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            TRACEPARENT => self.traceparent = Some(value.to_owned()),
            BROUGHT => self.brought = Some(value.to_owned()),
            ERROR => self.status = Status::error(value.to_owned()),
            name => self.attributes.push(KeyValue::new(name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
