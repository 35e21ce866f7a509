//! `POST /upload/url`: the address of a recording in, a job out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde_json::{Map, Value};

use super::order::Order;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{self, Problem};
use crate::job::{Job, Source, Submission};
use crate::outbound::{Origin, Policy, Url};
use crate::secrets::seal;
use crate::store::Answer;
use crate::submit::submit;
use crate::upload::clean_filename;

/// The headers that a source may be asked with.
const HEADERS: [&str; 4] = ["authorization", "cookie", "referer", "user-agent"];

/// Takes an address with options.
pub(super) async fn url(State(app): State<Arc<App>>, order: Order) -> error::Answer {
    order.settle(app, "url", accept).await
}

async fn accept(
    app: Arc<App>,
    caller: Caller,
    mut body: Map<String, Value>,
    answer: Option<Answer>,
) -> Result<Job, Problem> {
    let invalid = |detail: &str| Problem::new(422, "invalid_url", detail);
    let Some(Value::String(text)) = body.remove("url") else {
        return Err(invalid("`url` is missing"));
    };
    let source = source(&app, &text, body.remove("headers"))?;
    let submission = Submission::from_map(merged(body)?, &app.config.model)?;
    submit(&app, &caller, source, submission, answer).await
}

/// A source at an address that may be asked, as far as can be told without asking.
pub(super) fn source(app: &App, text: &str, headers: Option<Value>) -> Result<Source, Problem> {
    let invalid = |detail: &str| Problem::new(422, "invalid_url", detail);
    let url = Url::parse(text).ok_or_else(|| {
        invalid("expected http:// or https://, at most 2048 characters, without user and password")
    })?;
    let headers = source_headers(headers)?;
    let policy = Policy::new(&app.config);
    policy
        .check_form(&url)
        .map_err(|_| Problem::new(422, "fetch_blocked", "the address is not allowed"))?;
    let origin = Origin { url: url.to_string(), headers };
    let sealed = serde_json::to_string(&origin).ok().and_then(|text| seal(&app.master_key, &text));
    Ok(Source {
        kind: "url".to_owned(),
        filename: url.file_name().map(clean_filename),
        url: Some(url.without_query()),
        sealed: Some(sealed.ok_or_else(Problem::internal)?),
        ..Source::default()
    })
}

/// Options beside `url` and those below `options`, which must not contradict.
pub(super) fn merged(mut body: Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let options = match body.remove("options") {
        None | Some(Value::Null) => return Ok(body),
        Some(Value::Object(options)) => options,
        Some(_) => {
            return Err(Problem::new(422, "invalid_option", "`options` is not a JSON object"));
        }
    };
    for (name, value) in options {
        if body.insert(name.clone(), value).is_some() {
            let detail = format!("`{name}` is given twice");
            return Err(Problem::new(422, "conflicting_field", detail));
        }
    }
    Ok(body)
}

fn source_headers(given: Option<Value>) -> Result<BTreeMap<String, String>, Problem> {
    let refuse = || {
        let detail = "`headers` may have Authorization, Cookie, Referer and User-Agent";
        Problem::new(422, "invalid_option", detail)
    };
    let mut headers = BTreeMap::new();
    let fields = match given {
        None | Some(Value::Null) => return Ok(headers),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(refuse()),
    };
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        let value = value.as_str().filter(|value| value.len() <= 4096).ok_or_else(refuse)?;
        if !HEADERS.contains(&name.as_str()) || value.contains(char::is_control) {
            return Err(refuse());
        }
        headers.insert(name, value.to_owned());
    }
    Ok(headers)
}
