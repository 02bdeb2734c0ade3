//! `POST /api/auth/guest`: a user for whoever has none, held to a rate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sillage_kernel::{Tenant, Timestamp, UserId};
use sillage_store::clock;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Gateway;
use crate::codes::{Code, Refusal};
use crate::description::{GuestProblems, schemas};
use crate::tokens::{Allowance, Grant};

/// How long a guest stays.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// The tenant of guests.
const TENANT: &str = "main";

/// A new guest.
#[derive(Serialize, ToSchema)]
pub(super) struct Guest {
    /// Goes into `Authorization: Bearer …`.
    token: String,
    #[schema(schema_with = schemas::user_id)]
    user_id: UserId,
    /// Where guests belong.
    #[schema(value_type = String, examples("main"))]
    tenant: Tenant,
    #[schema(schema_with = schemas::timestamp)]
    expires_at: Timestamp,
}

/// Makes a guest.
///
/// A user and a token for whoever has none; it holds for a day. Guests may send, ask, follow and connect only so
/// often a second, and only so many new ones come in a second.
#[utoipa::path(post, path = "/api/auth/guest", tag = "sign-in", operation_id = "new_guest", security(()),
    responses((status = 200, description = "The guest.", body = Guest), GuestProblems))]
pub(super) async fn post(State(gateway): State<Arc<Gateway>>) -> Result<Json<Guest>, Refusal> {
    gateway.limits.new_guest()?;
    let internal = |_| Refusal::new(Code::Internal, "A guest could not be named.");
    let user_id: UserId = format!("guest-{}", Uuid::new_v4().simple()).parse().map_err(internal)?;
    let tenant: Tenant = TENANT.parse().map_err(internal)?;
    let grant = Grant {
        user_id: user_id.clone(),
        username: None,
        tenant: tenant.clone(),
        scopes: BTreeSet::new(),
        allowance: Allowance::Limited,
        lifetime: LIFETIME,
    };
    let token = gateway.keys.issue(&grant, clock::now());
    let expires_at = gateway.sign_in(&token)?.expires_at;
    Ok(Json(Guest { token, user_id, tenant, expires_at }))
}
