//! `GET /transcriptions`: a tenant's jobs, page by page.
//!
//! Pages by cursor start after an item, so that jobs submitted meanwhile move nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::query::Query;
use crate::app::App;
use crate::auth::{Caller, READ};
use crate::clock::parse_rfc3339;
use crate::error::{Answer, Problem};
use crate::job::{Job, TextField, summary_json};
use crate::store::ListQuery;

/// Lists jobs.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(fields): Query<Vec<TextField>>,
) -> Answer {
    caller.may(READ)?;
    let (query, page) = read(fields)?;
    let limit = query.limit;
    let listed = app.db.call(move |store| store.list(&caller.tenant, &query)).await?;
    let items: Vec<_> = listed.jobs.iter().map(summary_json).collect();
    let next = listed.jobs.last().filter(|_| listed.has_more).map(cursor);
    let body = json!({
        "items": items,
        "next_cursor": next,
        "page": page,
        "page_size": limit,
        "total": listed.total,
    });
    Ok(axum::Json(body).into_response())
}

fn cursor(job: &Job) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", job.created_at, job.id))
}

fn read_cursor(text: &str) -> Option<(i64, String)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (at, id) = text.split_once(' ')?;
    Some((at.parse().ok()?, id.to_owned()))
}

/// Reads the query, with the number of the page if pages are numbered.
fn read(fields: Vec<TextField>) -> Result<(ListQuery, Option<u32>), Problem> {
    let mut query = ListQuery { limit: 20, ..ListQuery::default() };
    let mut page: Option<u32> = None;
    for (name, value) in fields {
        let bad = |expected: &str| {
            Problem::new(400, "bad_query", format!("{name} is `{value}`, expected {expected}"))
        };
        let time =
            || parse_rfc3339(&value).ok_or_else(|| bad("a time such as 2026-11-22T11:00:00Z"));
        match name.as_str() {
            "limit" | "page_size" => {
                let limit = value.parse().ok().filter(|limit| (1..=100).contains(limit));
                query.limit = limit.ok_or_else(|| bad("1 to 100"))?;
            }
            "page" => {
                let number = value.parse().ok().filter(|page| (1..=1_000_000).contains(page));
                page = Some(number.ok_or_else(|| bad("1 or more"))?);
            }
            "cursor" => {
                let unreadable =
                    || Problem::new(400, "bad_cursor", "the cursor is none of this API");
                query.after = Some(read_cursor(&value).ok_or_else(unreadable)?);
            }
            "status" => {
                for state in value.split(',') {
                    query.states.push(state.parse().map_err(|()| bad("a status"))?);
                }
            }
            "sort" => {
                query.is_ascending = match value.as_str() {
                    "created_at" => true,
                    "-created_at" => false,
                    _ => return Err(bad("created_at or -created_at")),
                };
            }
            "created_after" => query.created_after = Some(time()?),
            "created_before" => query.created_before = Some(time()?),
            "external_id" => query.external_id = Some(value),
            "batch_id" => query.batch_id = Some(value),
            "q" => query.name_part = Some(value).filter(|part| !part.is_empty()),
            "include_total" => {
                query.has_total = match value.as_str() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(bad("true or false")),
                };
            }
            _ => match name.strip_prefix("metadata[").and_then(|key| key.strip_suffix(']')) {
                Some(key) => query.metadata.push((key.to_owned(), value)),
                None => {
                    let detail = format!("there is no parameter `{name}`");
                    return Err(Problem::new(400, "bad_query", detail));
                }
            },
        }
    }
    if let Some(page) = page {
        if query.after.is_some() {
            return Err(Problem::new(400, "bad_query", "give cursor or page, not both"));
        }
        query.offset = (page - 1) * query.limit;
    }
    Ok((query, page))
}
