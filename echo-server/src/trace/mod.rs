//! Traces: which request, job, attempt and callback belong together, told to a collector of OTLP.
//!
//! ```text
//! traceparent of the client ─► request ─► the job's row ─┬─► job ─► attempt, attempt, …
//!                                                        ├─► callback ─► traceparent for its receiver
//!                                                        └─► traceparent for its worker
//! ```
//!
//! The spans of a job are written when it is over, from its row and its attempts: however many workers
//! and servers died on the way, who ends it tells all of it, once. Spans wait in a queue of bounded
//! length and leave by a thread of their own, so a collector that is down or hangs costs spans and
//! nothing else. Without a collector the client's context is passed on as it came.
//!
//! What is told: routes and never paths or queries, identifiers, states, codes, times and hosts; no
//! names of files, no words, no secrets.

mod collector;
mod jobs;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, Method};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use collector::Collector;
pub(crate) use jobs::job_ended;

/// The header of W3C Trace Context.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// The length of the only version there is; later ones may be longer.
const MIN_LENGTH: usize = 55;
/// What is left in the queue at the end gets so long to leave.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// What tells of no work, however often it is asked.
const UNTOLD: [&str; 6] =
    ["/", "/assets/{*path}", "/health", "/health/live", "/health/ready", "/metrics"];

tokio::task_local! {
    /// The context of the request that is being answered.
    static CURRENT: Option<String>;
}

/// Runs `work` as part of a trace.
pub(crate) async fn within<T>(context: Option<String>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(context, work).await
}

/// The `traceparent` of what comes of the request that is being answered.
pub(crate) fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Tells a collector what was done, if there is one.
#[derive(Debug, Default)]
pub struct Traces {
    told: Option<(SdkTracerProvider, SdkTracer)>,
}

impl Traces {
    /// Tells the collector at a base URL, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it; none if there is none.
    ///
    /// # Errors
    /// If the URL or another variable of OpenTelemetry cannot be understood.
    pub fn open(endpoint: Option<&str>) -> Result<Self, String> {
        let Some(endpoint) = endpoint else { return Ok(Self::default()) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .build()
            .map_err(|error| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))?;
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("echo-server");
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("echo-server");
        Ok(Self { told: Some((provider, tracer)) })
    }

    /// Whether anybody is told.
    pub(crate) fn is_on(&self) -> bool {
        self.told.is_some()
    }

    /// Begins the span of a request, below the one that its headers name.
    pub(crate) fn request(
        &self,
        method: &Method,
        route: Option<&str>,
        headers: &HeaderMap,
    ) -> Span {
        let parent = headers.get(TRACEPARENT).and_then(|text| text.to_str().ok());
        if route.is_some_and(|route| UNTOLD.contains(&route)) {
            return Span::untold(parent);
        }
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "_OTHER",
        };
        let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        let mut span = self.span(SpanKind::Server, name, parent, None);
        span.set("http.request.method", method.to_owned());
        if let Some(route) = route {
            span.set("http.route", route.to_owned());
        }
        span
    }

    /// Begins the span of one try to tell a host how a job ended.
    pub(crate) fn callback(&self, parent: Option<&str>, host: String) -> Span {
        let mut span = self.span(SpanKind::Client, "callback", parent, None);
        span.set("server.address", host);
        span
    }

    /// Begins a span now, or at a time in milliseconds.
    fn span(
        &self,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        parent: Option<&str>,
        start_ms: Option<i64>,
    ) -> Span {
        let Some((_, tracer)) = &self.told else { return Span::untold(parent) };
        let mut builder = SpanBuilder::from_name(name).with_kind(kind);
        builder.start_time = start_ms.map(time);
        let above = match parent.and_then(parse) {
            Some(context) => Context::new().with_remote_span_context(context),
            None => Context::new(),
        };
        Span::Told(Box::new(tracer.build_with_context(builder, &above)))
    }

    /// Sends what is left, for at most a few seconds. Blocks.
    pub fn close(&self) {
        if let Some((provider, _)) = &self.told
            && let Err(error) = provider.shutdown_with_timeout(LAST_WORDS)
        {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// Something under way. It is over when it is dropped.
#[derive(Debug)]
pub(crate) enum Span {
    /// It will be told to the collector.
    Told(Box<opentelemetry_sdk::trace::Span>),
    /// Nobody is told; what it is part of is passed on.
    Untold(Option<String>),
}

impl Span {
    fn untold(parent: Option<&str>) -> Self {
        Self::Untold(parent.and_then(parse).map(|context| text(&context)))
    }

    /// Says more about it.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Self::Told(span) = self {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Notes that it failed, and the code of why.
    pub(crate) fn fail(&mut self, code: impl Into<Cow<'static, str>>) {
        if let Self::Told(span) = self {
            let code = code.into();
            span.set_attribute(KeyValue::new("error.type", code.clone().into_owned()));
            span.set_status(Status::error(code));
        }
    }

    /// The `traceparent` of what comes of it.
    pub(crate) fn context(&self) -> Option<String> {
        match self {
            Self::Told(span) => Some(text(span.span_context())),
            Self::Untold(parent) => parent.clone(),
        }
    }

    /// It was over at this time in milliseconds.
    fn end_at(self, at_ms: i64) {
        if let Self::Told(mut span) = self {
            span.end_with_timestamp(time(at_ms));
        }
    }
}

/// Reads a `traceparent`; `None` unless it is one.
fn parse(text: &str) -> Option<SpanContext> {
    // The propagator takes identifiers that are too short.
    if text.trim().len() < MIN_LENGTH {
        return None;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), text.to_owned())]);
    let found = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let context = found.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The `traceparent` of a context.
fn text(context: &SpanContext) -> String {
    let is_sampled = u8::from(context.is_sampled());
    format!("00-{}-{}-{is_sampled:02x}", context.trace_id(), context.span_id())
}

fn time(at_ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn without_a_collector_the_context_is_passed_on() {
        let headers = HeaderMap::from_iter([(
            axum::http::HeaderName::from_static(TRACEPARENT),
            axum::http::HeaderValue::from_static(PARENT),
        )]);
        let traces = Traces::open(None).unwrap();
        let span = traces.request(&Method::GET, Some("/x"), &headers);
        assert_eq!(span.context().as_deref(), Some(PARENT));
        assert_eq!(traces.request(&Method::GET, None, &HeaderMap::new()).context(), None);
    }

    #[test]
    fn only_a_traceparent_is_one() {
        assert_eq!(parse(PARENT).map(|context| text(&context)).as_deref(), Some(PARENT));
        let (zeros, short) =
            (PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), &PARENT[3..]);
        let upper = PARENT.to_uppercase();
        for bad in ["", "x", "00-1-2-3", "00-é-é-01", &zeros, short, &upper, &"0-".repeat(5000)] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_context_of_a_request_is_seen_within_it_only() {
        assert_eq!(current(), None);
        let seen = within(Some(PARENT.to_owned()), async { current() }).await;
        assert_eq!((seen.as_deref(), current()), (Some(PARENT), None));
    }
}
