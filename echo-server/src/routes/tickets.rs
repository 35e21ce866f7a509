//! `POST /tickets`: what a key is exchanged for where no header can be sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::auth::{Caller, READ, TICKET_SECONDS, issue_ticket};
use crate::clock::now_ms;
use crate::error::{Answer, Fault, Problem};

/// What a ticket is wanted for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    job_id: String,
    #[serde(rename = "use")]
    purpose: String,
}

/// Makes a ticket for the recording of a job.
pub(super) async fn issue(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Answer {
    caller.may(READ)?;
    let Json(wanted) =
        body.map_err(|error| Problem::new(422, "invalid_option", error.body_text()))?;
    if wanted.purpose != "audio" {
        let fault =
            Fault { pointer: "/use".to_owned(), code: "out_of_range", detail: "audio".to_owned() };
        return Err(Problem::options(vec![fault]));
    }
    let tenant = caller.tenant.clone();
    let job = app.db.call(move |store| store.job(&tenant, &wanted.job_id)).await?;
    let job = job.ok_or_else(Problem::job_not_found)?;
    let ticket = issue_ticket(&app.master_key, &caller.tenant, &job.id, now_ms() / 1000);
    let body = json!({ "ticket": ticket, "expires_in": TICKET_SECONDS });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}
