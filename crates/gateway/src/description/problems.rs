//! What each kind of route may answer instead, from the table of codes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::http::StatusCode;
use utoipa::IntoResponses;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder};

use crate::codes::{Advice, Code};

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $($code:ident)*;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    of(&[$(Code::$code),*])
                }
            }
        )*
    };
}

problems! {
    /// Of a route that takes a command; for `responses(…)`, as all of these.
    CommandProblems: Malformed Unauthorized NotFound Conflict TooLarge UnsupportedMediaType UnknownCommand
        InvalidField RateLimited Internal Overloaded Unavailable;
    /// Of the route that tells a receipt.
    ReceiptProblems: Unauthorized NotFound InvalidField RateLimited Unavailable;
    /// Of a route that asks a view.
    QueryProblems: Unauthorized Forbidden NotFound EpochChanged Compacted InvalidField RateLimited Overloaded
        Unavailable ViewBehind;
    /// Of the route that opens a stream.
    StreamProblems: Unauthorized NotFound InvalidField RateLimited Overloaded Unavailable;
    /// Of the route that makes guests.
    GuestProblems: RateLimited Internal;
    /// Of a route that shows something to operators.
    OperatorProblems: Unauthorized Forbidden;
    /// Of the route that shows the outbox.
    OutboxProblems: Unauthorized Forbidden Unavailable;
    /// Of the route that compacts.
    CompactionProblems: Unauthorized Forbidden Unavailable;
    /// Of the route that shows what is parked.
    ParkedProblems: Unauthorized Forbidden NotFound;
    /// Of the route that appends to a stream.
    AppendProblems: Malformed Unauthorized Forbidden NotFound Conflict TooLarge UnsupportedMediaType InvalidField
        RateLimited Overloaded Unavailable;
    /// Of the routes that read streams and the log.
    LogProblems: Unauthorized Forbidden NotFound EpochChanged Compacted InvalidField RateLimited Internal Overloaded
        Unavailable;
    /// Of the route on which operators give orders.
    ControlProblems: Malformed Unauthorized Forbidden NotFound Conflict TooLarge UnsupportedMediaType InvalidField
        Unavailable;
}

fn of(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<StatusCode, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(*code);
    }
    let response = |(status, codes): (StatusCode, Vec<Code>)| {
        (status.as_str().to_owned(), response(status, &codes).into())
    };
    by_status.into_iter().map(response).collect()
}

fn response(status: StatusCode, codes: &[Code]) -> Response {
    let mut description = String::new();
    for code in codes {
        let (word, about, advice) = (code.word(), code.about(), advice(code.advice()));
        // Writing to a string cannot fail.
        let _ = writeln!(description, "`{word}`: {about} {advice}");
    }
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description(description.trim_end())
        .content("application/problem+json", content);
    let (name, kind, about) = match status {
        StatusCode::UNAUTHORIZED => ("WWW-Authenticate", Type::String, "Always `Bearer`."),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            ("Retry-After", Type::Integer, "In how many seconds to come back, if that is known.")
        }
        _ => return response.build(),
    };
    let schema = ObjectBuilder::new().schema_type(kind).build();
    response.header(name, HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()).build()
}

/// What a client does, as a sentence.
const fn advice(advice: Advice) -> &'static str {
    match advice {
        Advice::Retry => "Send it again later, with the same command id.",
        Advice::Fix => "Mend it before sending it again.",
        Advice::SignIn => "Get a new token first.",
        Advice::GiveUp => "It will not work, whatever is done.",
    }
}
