//! What the program says about itself: its log on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. `SILLAGE_LOG` says what is logged, as `info` or `warn,sillage_runtime=debug`.
pub fn start() {
    let filter = EnvFilter::builder().with_env_var("SILLAGE_LOG").try_from_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
}
