//! Notices when something in the background has ended that must not.
//!
//! Invariant: the first failure is kept and everybody who asks is told; a node that has one is not ready, and
//! its process ends, since only a new start makes it whole. An end without a panic is no failure: whoever
//! started a task may end it.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Watches over the tasks of a node. Cloning shares it.
#[derive(Clone, Default)]
pub struct Supervisor {
    failure: watch::Sender<Option<Arc<str>>>,
}

impl Supervisor {
    /// Runs a task in the background, on the current runtime. If it panics, that is the node's failure.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let supervisor = self.clone();
        tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                supervisor.report(&format!("the {name} has panicked: {}", message(panic.as_ref())));
            }
        })
    }

    /// Says that the node is no longer whole. Only the first failure is kept.
    pub fn report(&self, failure: &str) {
        tracing::error!(failure, "the node cannot go on");
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| failure.into());
            is_first
        });
    }

    /// What has failed, if something has.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.failure.borrow().clone()
    }

    /// Resolves with the first failure; never, while there is none.
    pub async fn failed(&self) -> Arc<str> {
        let mut failures = self.failure.subscribe();
        let failure = failures.wait_for(Option::is_some).await;
        let failure = failure.expect("the sender lives in self").clone();
        failure.expect("that is what was waited for")
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason is known")
}
