//! The way to the collector: one POST at a time, by the thread that gathers spans.
//!
//! That thread may block, so a client that blocks is all that is needed. A collector that does not
//! answer is said once, and so is its return.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};

/// The longest that a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most of an answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A collector of OTLP over HTTP.
#[derive(Debug)]
pub(super) struct Collector {
    agent: ureq::Agent,
    is_well: AtomicBool,
}

impl Collector {
    pub(super) fn new() -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(TIMEOUT))
            .build();
        Self { agent: agent.into(), is_well: AtomicBool::new(true) }
    }

    fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut asked = self.agent.post(parts.uri.to_string());
        for (name, value) in &parts.headers {
            asked = asked.header(name, value);
        }
        let mut answer = asked.send(&body[..])?;
        let bytes = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Response::builder().status(answer.status()).body(bytes.into())?)
    }

    /// Says what has changed; true if something has.
    fn note(&self, trouble: Option<&str>) -> bool {
        let has_changed =
            self.is_well.swap(trouble.is_none(), Ordering::Relaxed) != trouble.is_none();
        match trouble {
            Some(reason) if has_changed => {
                tracing::warn!(reason, "the collector of traces cannot be told; spans are dropped");
            }
            None if has_changed => tracing::info!("the collector of traces can be told again"),
            _ => {}
        }
        has_changed
    }
}

impl HttpClient for Collector {
    // As the macro of the trait would write it.
    fn send_bytes<'own, 'promise>(
        &'own self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'promise>>
    where
        'own: 'promise,
        Self: 'promise,
    {
        Box::pin(async move {
            let sent = self.post(request);
            let trouble = match &sent {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(format!("it answered with status {}", answer.status().as_u16())),
                Err(error) => Some(error.to_string()),
            };
            self.note(trouble.as_deref());
            sent
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_said_once_and_so_is_its_end() {
        let collector = Collector::new();
        assert!(!collector.note(None));
        assert!(collector.note(Some("refused")));
        assert!(!collector.note(Some("timeout")));
        assert!(collector.note(None));
        assert!(!collector.note(None));
    }
}
