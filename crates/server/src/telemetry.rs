//! What the program says about itself: its log on standard error and, if a collector is named, its traces.

#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod http;
#[cfg(feature = "otlp")]
mod stations;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What is running beside the server, to be stopped after it.
#[must_use = "stop it, or the last traces are lost"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    export: Option<export::Export>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The address of the collector cannot be used: give it as `http://127.0.0.1:4318`.
    #[error("traces cannot be sent to {endpoint:?}: {problem}")]
    Endpoint {
        /// Where they should go.
        endpoint: String,
        /// What is wrong.
        problem: String,
    },
}

/// Starts logging, and sending traces to a collector that speaks OTLP over HTTP, on the current runtime.
/// `SILLAGE_LOG` says what is logged, as `info` or `warn,sillage_runtime=debug`.
pub fn start(collector: Option<&str>) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::builder().with_env_var("SILLAGE_LOG").try_from_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    // What is logged and what is traced are two questions, so each layer has its own filter.
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    let (traces, telemetry) = collector.map_or(Ok((None, Telemetry::silent())), traces)?;
    tracing_subscriber::registry().with(traces).with(lines).init();
    Ok(telemetry)
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

#[cfg(feature = "otlp")]
fn traces(collector: &str) -> Result<(Option<BoxedLayer>, Telemetry), TelemetryError> {
    let (queue, export) = export::Export::start(collector)?;
    let layer = stations::Stations::new(queue).with_filter(stations::filter());
    Ok((Some(layer.boxed()), Telemetry { export: Some(export) }))
}

#[cfg(not(feature = "otlp"))]
fn traces(collector: &str) -> Result<(Option<BoxedLayer>, Telemetry), TelemetryError> {
    let problem = "this program was built without the feature `otlp`".to_owned();
    Err(TelemetryError::Endpoint { endpoint: collector.to_owned(), problem })
}

impl Telemetry {
    fn silent() -> Self {
        Self {
            #[cfg(feature = "otlp")]
            export: None,
        }
    }

    /// Sends what still waits, for as long as that is polite.
    pub async fn stop(self) {
        #[cfg(feature = "otlp")]
        if let Some(export) = self.export {
            export.stop().await;
        }
    }
}
