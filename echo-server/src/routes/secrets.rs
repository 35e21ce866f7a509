//! `/webhook-secret`: what callbacks of the caller's tenant are signed with, and another one of it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::json;

use crate::app::App;
use crate::auth::{Caller, WRITE};
use crate::clock::{now_ms, rfc3339};
use crate::error::Answer;
use crate::store::Rotation;
use crate::webhook::secrets;

/// Shows the secret. Who may submit may see it: each job can name a secret of its own anyway.
pub(super) async fn show(State(app): State<Arc<App>>, caller: Caller) -> Answer {
    caller.may(WRITE)?;
    let tenant = caller.tenant.clone();
    let rotation = app.db.call(move |store| store.rotation(&tenant)).await?;
    caller.audit(&app, "show_webhook_secret", &caller.tenant).await;
    Ok(answer(&app, &caller, &rotation))
}

/// Makes a new secret; the one before signs as well for a day.
pub(super) async fn rotate(State(app): State<Arc<App>>, caller: Caller) -> Answer {
    caller.may(WRITE)?;
    let tenant = caller.tenant.clone();
    let rotation = app.db.call(move |store| store.rotate(&tenant, now_ms())).await?;
    caller.audit(&app, "rotate_webhook_secret", &caller.tenant).await;
    Ok(answer(&app, &caller, &rotation))
}

fn answer(app: &App, caller: &Caller, rotation: &Rotation) -> axum::response::Response {
    let secret = secrets::of_tenant(&app.webhook_secret, &caller.tenant, rotation.count);
    let body = json!({
        "secret": secret.expose(),
        "rotated_at": rotation.at.map(rfc3339),
        "previous_signs_until": secrets::overlap(rotation, now_ms()).map(rfc3339),
    });
    axum::Json(body).into_response()
}
