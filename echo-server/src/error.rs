//! What a client is told when something cannot be done: RFC 9457 problem documents with stable codes.
//!
//! A [`Problem`] says what the client may do; internal causes are logged at the place they appear and
//! never sent. The OpenAI surface writes the same problems in its own envelope.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::store::StoreError;

/// The result of a handler.
pub type Answer<T = Response> = std::result::Result<T, Problem>;

/// One faulty field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// A JSON pointer to the field.
    pub pointer: String,
    /// A stable code.
    pub code: &'static str,
    /// What would have been accepted.
    pub detail: String,
}

impl Fault {
    /// A fault of the option `name`.
    pub fn option(name: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: format!("/options/{name}"), code, detail: detail.into() }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable code, such as `file_too_large`.
    pub code: &'static str,
    /// A sentence for people.
    pub detail: String,
    /// Every faulty field.
    pub faults: Vec<Fault>,
    /// Seconds after which trying again makes sense.
    pub retry_after_seconds: Option<u64>,
    /// Whether the connection cannot be used again, because a body was left unread.
    pub closes: bool,
    /// More members of the document.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    /// A problem of this status and code.
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code,
            detail: detail.into(),
            faults: Vec::new(),
            retry_after_seconds: None,
            closes: false,
            extra: serde_json::Map::new(),
        }
    }

    /// Options that cannot be taken, all of them at once.
    pub fn options(faults: Vec<Fault>) -> Self {
        let code = match faults.as_slice() {
            [only] if only.code == "unknown_field" || only.code == "conflicting_field" => only.code,
            _ => "invalid_option",
        };
        let detail: Vec<String> =
            faults.iter().map(|f| format!("{}: {}", f.pointer, f.detail)).collect();
        let mut problem = Self::new(422, code, detail.join("; "));
        problem.faults = faults;
        problem
    }

    /// No such job, or one of somebody else.
    pub fn job_not_found() -> Self {
        Self::new(404, "job_not_found", "there is no such transcription")
    }

    /// A fault of the server, whose cause was logged.
    pub fn internal() -> Self {
        Self::new(500, "internal", "the server failed; the request id leads to the log")
    }

    /// With the time after which to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// With the connection closed after the answer.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// With one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// `File too large` of `file_too_large`.
    fn title(&self) -> String {
        let mut title = self.code.replace('_', " ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        title
    }

    /// The headers that every form of the answer has.
    pub fn add_headers(&self, response: &mut Response) {
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = json!({
            "type": format!("urn:echo:problem:{}", self.code),
            "title": self.title(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "retry_after": self.retry_after_seconds,
            "errors": self.faults,
        });
        if let Some(members) = document.as_object_mut() {
            members.extend(self.extra.clone());
        }
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, document.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        self.add_headers(&mut response);
        // The request id and the path are added by the outermost layer, which knows them.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced => {
                Self::new(409, "stale_lease", "the lease was lost: stop and discard the work")
            }
            StoreError::KeyUsed => {
                let detail = "another request with this key was faster";
                Self::new(409, "idempotency_in_progress", detail).retry_after(1)
            }
            StoreError::Busy => {
                tracing::warn!("the database is busy");
                Self::new(503, "dependency_unavailable", "the database is busy").retry_after(1)
            }
            StoreError::Unavailable => {
                tracing::warn!("the database cannot be reached");
                Self::new(503, "dependency_unavailable", "the database cannot be reached")
                    .retry_after(2)
            }
            StoreError::Unfit => Self::new(404, "not_found", "there is nothing of that name"),
            StoreError::Full => {
                tracing::error!("the disk of the database is full");
                Self::new(507, "insufficient_storage", "the disk is full").retry_after(60)
            }
            StoreError::Database(cause) => {
                tracing::error!(%cause, "the database failed");
                Self::internal()
            }
        }
    }
}
