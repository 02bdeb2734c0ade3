//! Where tokens come from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Why a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// To connect. One that was given before will do, as long as it holds.
    Any,
    /// The last one runs out within a minute, or was refused: another, please.
    New,
}

type Ask = dyn Fn(Wanted) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync;

/// Gives tokens when they are needed: to connect, and before one runs out.
#[derive(Clone)]
pub struct TokenSource(Arc<Ask>);

impl TokenSource {
    /// Always the same token. When it no longer holds, the client needs a sign-in.
    pub fn fixed(token: impl Into<String>) -> Self {
        let token = token.into();
        Self::new(move |wanted| {
            let token = (wanted == Wanted::Any).then(|| token.clone());
            async move { token }
        })
    }

    /// Asks `give` each time. Nothing means that somebody has to sign in first.
    pub fn new<F, G>(give: F) -> Self
    where
        F: Fn(Wanted) -> G + Send + Sync + 'static,
        G: Future<Output = Option<String>> + Send + 'static,
    {
        Self(Arc::new(move |wanted| Box::pin(give(wanted))))
    }

    pub(crate) fn token(&self, wanted: Wanted) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> {
        (self.0)(wanted)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}
