//! API keys of a tenant: made, listed, taken back. A key is shown once; its digest is kept.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::query::Path;
use crate::app::App;
use crate::auth::{ADMIN, Caller, KEY_PREFIX, READ, WRITE};
use crate::clock::now_ms;
use crate::error::{Answer, Problem};
use crate::secrets::{sha256_hex, token};
use crate::store::ApiKey;

/// What a key shall be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
}

/// Makes a key of the caller's tenant.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<axum::Json<NewKey>, JsonRejection>,
) -> Answer {
    caller.may(ADMIN)?;
    let axum::Json(new) =
        body.map_err(|error| Problem::new(422, "invalid_option", error.body_text()))?;
    let known = [READ, WRITE, ADMIN];
    let is_known = new.scopes.iter().all(|scope| known.contains(&scope.as_str()));
    if !is_known || !(1..=128).contains(&new.name.chars().count()) {
        let detail = "`name` is 1 to 128 characters, `scopes` are of transcribe:read, transcribe:write and admin";
        return Err(Problem::new(422, "invalid_option", detail));
    }
    let scopes =
        if new.scopes.is_empty() { format!("{WRITE} {READ}") } else { new.scopes.join(" ") };
    let key = format!("{KEY_PREFIX}{}", token());
    let row = ApiKey {
        id: Uuid::now_v7().to_string(),
        tenant: caller.tenant.clone(),
        name: new.name,
        hash: sha256_hex(&key),
        scopes,
    };
    let id = row.id.clone();
    app.db.call(move |store| store.add_key(&row, now_ms())).await?;
    caller.audit(&app, "create_key", &id).await;
    Ok((StatusCode::CREATED, axum::Json(json!({ "id": id, "key": key }))).into_response())
}

/// Lists the keys of the caller's tenant.
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Answer {
    caller.may(ADMIN)?;
    let keys = app.db.call(move |store| store.keys(&caller.tenant)).await?;
    Ok(axum::Json(json!({ "items": keys })).into_response())
}

/// Takes a key back.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    caller.may(ADMIN)?;
    let (tenant, own) = (caller.tenant.clone(), id.clone());
    if !app.db.call(move |store| store.revoke_key(&tenant, &own, now_ms())).await? {
        return Err(Problem::new(404, "not_found", "there is no such key"));
    }
    caller.audit(&app, "revoke_key", &id).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
