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
use crate::auth::{
    Caller, READ, STREAM_TICKET_SECONDS, TICKET_SECONDS, WRITE, issue_stream_ticket, issue_ticket,
};
use crate::clock::now_ms;
use crate::error::{Answer, Fault, Problem};

/// What a ticket is wanted for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    job_id: Option<String>,
    #[serde(rename = "use")]
    purpose: String,
}

/// Makes a ticket for the recording of a job or for a live session.
pub(super) async fn issue(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Answer {
    let Json(wanted) =
        body.map_err(|error| Problem::new(422, "invalid_option", error.body_text()))?;
    let now_seconds = now_ms() / 1000;
    let (ticket, seconds) = match (wanted.purpose.as_str(), wanted.job_id) {
        ("audio", Some(job_id)) => {
            caller.may(READ)?;
            let tenant = caller.tenant.clone();
            let job = app.db.call(move |store| store.job(&tenant, &job_id)).await?;
            let job = job.ok_or_else(Problem::job_not_found)?;
            let ticket = issue_ticket(&app.master_key, &caller.tenant, &job.id, now_seconds);
            (ticket, TICKET_SECONDS)
        }
        ("stream", None) => {
            caller.may(WRITE)?;
            let ticket = issue_stream_ticket(&app.master_key, &caller.tenant, now_seconds);
            (ticket, STREAM_TICKET_SECONDS)
        }
        _ => {
            let detail = "audio with a job_id, or stream without".to_owned();
            let fault = Fault { pointer: "/use".to_owned(), code: "out_of_range", detail };
            return Err(Problem::options(vec![fault]));
        }
    };
    let body = json!({ "ticket": ticket, "expires_in": seconds });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}
