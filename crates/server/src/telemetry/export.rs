//! Finished spans on their way to the collector.
//!
//! Whoever finishes a span never waits: the queue is bounded, and what finds no room, or no collector, is counted
//! and forgotten. That the collector is gone is logged once, and once more when it is back.

use std::env;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::TelemetryError;
use super::http::Http;

/// How many finished spans wait at most.
const QUEUE_SPANS: usize = 4_096;
/// How many spans go in one request at most.
const BATCH_SPANS: usize = 512;
/// How long a span waits for others to go with.
const GATHER: Duration = Duration::from_millis(250);
/// How long a batch is tried again.
const EXPORT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a stop waits for the last spans to go.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Takes finished spans.
pub(super) struct Queue(mpsc::Sender<SpanData>);

impl Queue {
    /// Queues a span, if there is room.
    pub(super) fn push(&self, span: SpanData) {
        if self.0.try_send(span).is_err() {
            dropped("queue_full", 1);
        }
    }
}

fn dropped(reason: &'static str, spans: u64) {
    metrics::counter!("sillage_trace_spans_dropped_total", "reason" => reason).increment(spans);
}

/// Is never sent: the sender is only dropped.
enum Never {}

/// The task that sends them.
pub(super) struct Export {
    stop: oneshot::Sender<Never>,
    task: JoinHandle<()>,
}

impl Export {
    /// Starts on the current runtime, for a collector's address without a path.
    pub(super) fn start(collector: &str) -> Result<(Queue, Self), TelemetryError> {
        let refused = |problem| TelemetryError::Endpoint { endpoint: collector.to_owned(), problem };
        if !collector.starts_with("http://") {
            let problem =
                "it must begin with http://; to go on with TLS is the work of a collector beside the server";
            return Err(refused(problem.to_owned()));
        }
        let exporter = exporter(collector).map_err(|error| refused(error.to_string()))?;
        let (sender, queue) = mpsc::channel(QUEUE_SPANS);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(queue, stopped, exporter));
        Ok((Queue(sender), Self { stop, task }))
    }

    /// Sends what waits, and ends.
    pub(super) async fn stop(self) {
        let Self { stop, mut task } = self;
        // Dropping it asks the task to end.
        drop(stop);
        if timeout(STOP_PATIENCE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

fn exporter(collector: &str) -> Result<SpanExporter, ExporterBuildError> {
    let endpoint = format!("{}/v1/traces", collector.trim_end_matches('/'));
    let builder = SpanExporter::builder().with_http().with_http_client(Http::new());
    let mut exporter = builder.with_endpoint(endpoint).with_timeout(EXPORT_PATIENCE).build()?;
    let name = env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "sillage".to_owned());
    let resource = Resource::builder_empty()
        .with_service_name(name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

async fn run(
    mut queue: mpsc::Receiver<SpanData>,
    mut stopped: oneshot::Receiver<Never>,
    exporter: SpanExporter,
) {
    let mut collector = Collector::Answers;
    let mut batch = Vec::with_capacity(BATCH_SPANS);
    loop {
        let taken = tokio::select! {
            taken = gather(&mut queue, &mut batch) => taken,
            // From here on nothing is taken in, and what waits is still taken out.
            _ = &mut stopped, if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        if taken == 0 {
            return;
        }
        let sending = exporter.export(std::mem::take(&mut batch));
        collector = collector.after(sending.await.map_err(|error| error.to_string()), taken as u64);
    }
}

/// Waits for a span, then a little for others. May be dropped and asked again: what was taken is in the batch.
/// Nothing means that the queue has ended.
async fn gather(queue: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) -> usize {
    if batch.is_empty() {
        queue.recv_many(batch, BATCH_SPANS).await;
    }
    let deadline = Instant::now() + GATHER;
    while batch.len() < BATCH_SPANS && !queue.is_closed() {
        let room = BATCH_SPANS - batch.len();
        if !matches!(timeout_at(deadline, queue.recv_many(batch, room)).await, Ok(1..)) {
            break;
        }
    }
    batch.len()
}

/// What is known of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collector {
    Answers,
    Gone,
}

impl Collector {
    /// What is known once a batch was sent, or was not.
    fn after(self, sent: Result<(), String>, spans: u64) -> Self {
        match (self, sent) {
            (Self::Answers, Ok(())) => Self::Answers,
            (Self::Gone, Ok(())) => {
                tracing::info!("the collector takes traces again");
                Self::Answers
            }
            (before, Err(error)) => {
                dropped("collector_gone", spans);
                if before == Self::Answers {
                    tracing::warn!(%error, "the collector takes no traces; they are dropped until it does");
                }
                Self::Gone
            }
        }
    }
}
