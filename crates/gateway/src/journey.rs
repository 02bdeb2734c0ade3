//! A request's own part of the journey, as stations of its trace. A request that is not traced costs one look at
//! the clock: its journey is empty.

use sillage_kernel::{Outcome, Receipt};
use sillage_runtime::{DispatchError, station};
use tracing::{Span, field, info_span};

use crate::codes::Refusal;
use crate::sampling::{Sampler, Trace};

/// Where a request is on its way. It ends when this is dropped.
pub struct Journey(Option<Box<Traced>>);

/// Dropped in this order: the first station is open until the request is answered.
struct Traced {
    station: Span,
    _receive: Span,
    context: Box<str>,
}

impl Sampler {
    /// The journey of a command that has just come, perhaps with a trace context: it is being validated.
    pub fn command(&self, brought: Option<&str>) -> Journey {
        self.journey(brought, |context| station!("validate", Some(context), error = field::Empty))
    }

    /// The journey of a query that has just come, perhaps with a trace context: it is being parsed.
    pub fn query(&self, brought: Option<&str>) -> Journey {
        self.journey(brought, |context| station!("parse_query", Some(context), error = field::Empty))
    }

    fn journey(&self, brought: Option<&str>, next: fn(&str) -> Span) -> Journey {
        let traced = self.pick(brought).map(|Trace { context, brought }| {
            // `brought` is only in the first span of a trace: it makes that the one which `traceparent` names.
            let receive = info_span!("receive", traceparent = &*context, brought = &*brought);
            Box::new(Traced { station: next(&context), _receive: receive, context })
        });
        Journey(traced)
    }
}

impl Journey {
    /// The trace context of what comes of the request, if it is traced.
    pub fn context(&self) -> Option<&str> {
        self.0.as_ref().map(|traced| &*traced.context)
    }

    /// Leaves the station where it is, for this one.
    pub fn enter(&mut self, station: Span) {
        if let Some(traced) = &mut self.0 {
            traced.station = station;
        }
    }

    /// Leaves the station where it is; others have the request now.
    pub fn leave(&mut self) {
        self.enter(Span::none());
    }

    /// Hands on what a station came to. If the request is refused there, the refusal is its last station.
    pub fn checked<T>(&mut self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        if let (Err(refusal), Some(traced)) = (&result, &mut self.0) {
            let error = refusal.code.word();
            traced.station.record("error", error);
            traced.station = station!("refuse", Some(&*traced.context), code = error);
        }
        result
    }

    /// Hands on what became of a command. Its receipt is answered, whatever is in it.
    pub fn settled(&mut self, result: Result<Receipt, DispatchError>) -> Result<Receipt, Refusal> {
        let receipt = self.checked(result.map_err(Refusal::from))?;
        let outcome = match &receipt.outcome {
            Outcome::Applied { .. } => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Rejected(_) => "rejected",
        };
        self.enter(station!("answer", self.context(), outcome));
        Ok(receipt)
    }
}
