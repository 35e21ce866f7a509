//! What the routes take that make jobs of a JSON object.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::idempotency::{self, Reservation};
use super::upload::submitted;
use crate::app::{App, Drain};
use crate::auth::{Caller, WRITE};
use crate::error::{self, Problem};
use crate::job::Job;
use crate::room;
use crate::store::Answer;

/// A JSON object from a caller who may write, while this server takes work.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) body: Map<String, Value>,
    /// What makes two of them the same.
    pub(super) print: String,
}

impl FromRequest<Arc<App>> for Order {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, app).await?;
        caller.may(WRITE)?;
        if app.drain_phase() >= Drain::Refusing {
            return Err(Problem::new(503, "draining", "the server is going down").retry_after(5));
        }
        let headers = parts.headers.clone();
        let request = Request::from_parts(parts, body);
        let bad = |error: JsonRejection| Problem::new(400, "bad_query", error.body_text());
        let Json(body) =
            Json::<Map<String, Value>>::from_request(request, app).await.map_err(bad)?;
        let print = idempotency::print(&[&Value::Object(body.clone()).to_string()]);
        Ok(Self { caller, headers, body, print })
    }
}

impl Order {
    /// Makes one job of it, unless its key stands for one already.
    pub(super) async fn settle<F>(
        self,
        app: Arc<App>,
        route: &'static str,
        accept: impl FnOnce(Arc<App>, Caller, Map<String, Value>, Option<Answer>) -> F + Send + 'static,
    ) -> error::Answer
    where
        F: Future<Output = Result<Job, Problem>> + Send,
    {
        let Self { caller, headers, body, print } = self;
        room::check(&app, &caller, 1).await?;
        let (own, asker) = (Arc::clone(&app), caller.clone());
        let work = move |key: Option<Reservation>| async move {
            if let Some(replay) = idempotency::replay(key.as_ref(), &print)? {
                return Ok(replay);
            }
            let answer = key.map(|key| key.answer(print));
            let job = accept(Arc::clone(&own), asker, body, answer).await?;
            Ok(submitted(&own, &job))
        };
        idempotency::settle(&app, (&caller, &headers), route, work).await
    }
}
