//! `GET /usage`: what a tenant's completed jobs took, day by day, and what that cost.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Query;
use crate::app::App;
use crate::auth::{Caller, READ};
use crate::clock::{now_ms, parse_rfc3339};
use crate::error::{Answer, Problem};

/// Shown if nobody says from when.
const DEFAULT_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    from: Option<String>,
    to: Option<String>,
    group_by: Option<String>,
}

/// Sums up days.
pub(super) async fn usage(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(span): Query<Span>,
) -> Answer {
    caller.may(READ)?;
    if span.group_by.as_deref().is_some_and(|group| group != "day") {
        return Err(Problem::new(400, "bad_query", "group_by: expected day"));
    }
    let to = moment("to", span.to.as_deref())?.unwrap_or_else(|| now_ms() + 1);
    let from = moment("from", span.from.as_deref())?;
    let from = from.unwrap_or_else(|| to.saturating_sub(DEFAULT_DAYS * DAY_MS));
    let days = app.db.call(move |store| store.usage(&caller.tenant, from, to)).await?;
    let items = days.iter().map(|day| {
        let mut item = json!(day);
        item["cost_usd"] = json!(day.busy_seconds / 3600.0 * app.config.usd_per_hour);
        item
    });
    Ok(axum::Json(json!({ "items": items.collect::<Vec<Value>>() })).into_response())
}

/// A time, or the beginning of a day.
fn moment(name: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let known = parse_rfc3339(text).or_else(|| parse_rfc3339(&format!("{text}T00:00:00Z")));
    let expected = "expected a day such as 2026-11-22 or a time such as 2026-11-22T11:00:00Z";
    known.map(Some).ok_or_else(|| Problem::new(400, "bad_query", format!("{name}: {expected}")))
}
