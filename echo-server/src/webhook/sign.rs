//! Signatures of Standard Webhooks, version 1: HMAC-SHA256 of `id.timestamp.body`.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::clock::rfc3339;
use crate::error::Problem;
use crate::secrets::{Secret, hmac_matches, hmac_sha256};

/// Clocks may differ by so many seconds.
const TOLERANCE_SECONDS: i64 = 300;
/// Of SHA-256.
const TAG_BYTES: usize = 32;

/// The key of a secret: `whsec_` and base64, or the bytes as they are.
fn key(secret: &Secret) -> Vec<u8> {
    let text = secret.expose();
    let encoded = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    encoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

/// The header `webhook-signature`.
pub fn signature(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp}.");
    format!("v1,{}", STANDARD.encode(hmac_sha256(&key(secret), &[head.as_bytes(), body])))
}

/// The header with a signature by each secret.
pub fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let all = secrets.iter().map(|secret| signature(secret, id, timestamp, body));
    all.collect::<Vec<_>>().join(" ")
}

/// What the headers of an inbound message say: which one it is, and that it is of this time.
#[derive(Debug)]
pub struct Stamp<'a> {
    id: &'a str,
    timestamp: &'a str,
    signatures: Vec<Vec<u8>>,
}

fn bad_signature() -> Problem {
    Problem::new(401, "bad_signature", "the message is not signed by the worker secret")
}

/// Checks what can be checked before the body is there.
///
/// # Errors
/// `bad_signature` if there is none; `timestamp_out_of_range` with our time, so that the sender can
/// correct its own.
pub fn stamp(headers: &HeaderMap, now_ms: i64) -> Result<Stamp<'_>, Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = text("webhook-id").filter(|id| !id.is_empty() && id.len() <= 255);
    let id = id.ok_or_else(bad_signature)?;
    let timestamp = text("webhook-timestamp").ok_or_else(bad_signature)?;
    let seconds: i64 = timestamp.parse().map_err(|_| bad_signature())?;
    let signatures = text("webhook-signature").unwrap_or_default().split(' ');
    let signatures: Vec<_> = signatures
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .filter(|tag| tag.len() == TAG_BYTES)
        .collect();
    if signatures.is_empty() {
        return Err(bad_signature());
    }
    if (now_ms / 1000).abs_diff(seconds) > TOLERANCE_SECONDS.unsigned_abs() {
        let problem =
            Problem::new(401, "timestamp_out_of_range", "the message is too old or too new");
        return Err(problem.with("server_time", rfc3339(now_ms)));
    }
    Ok(Stamp { id, timestamp, signatures })
}

impl Stamp<'_> {
    /// Checks the body and returns the identifier of the message.
    ///
    /// # Errors
    /// `bad_signature`.
    pub fn verify(&self, secret: &Secret, body: &[u8]) -> Result<String, Problem> {
        let (head, key) = (format!("{}.{}.", self.id, self.timestamp), key(secret));
        let fits = |tag: &Vec<u8>| hmac_matches(&key, &[head.as_bytes(), body], tag);
        if self.signatures.iter().any(fits) { Ok(self.id.to_owned()) } else { Err(bad_signature()) }
    }
}

/// Checks a message that is here and returns its identifier.
///
/// # Errors
/// Those of [`stamp`] and [`Stamp::verify`].
pub fn verify(
    secret: &Secret,
    headers: &HeaderMap,
    body: &[u8],
    now_ms: i64,
) -> Result<String, Problem> {
    stamp(headers, now_ms)?.verify(secret, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(id: &str, timestamp: i64, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.to_string().parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the specification's own libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_what_was_signed_lately_is_believed() {
        let (secret, now) = (Secret::new("secret"), 1_800_000_000_000);
        let at = now / 1000;
        let signed = signature(&secret, "a", at, b"body");
        let code = |headers: &HeaderMap, body: &[u8], now| {
            verify(&secret, headers, body, now).map_err(|problem| problem.code)
        };
        assert_eq!(code(&headers("a", at, &signed), b"body", now), Ok("a".to_owned()));
        assert_eq!(
            code(&headers("a", at, &format!("v1,xx {signed}")), b"body", now),
            Ok("a".to_owned())
        );
        for (id, at, body) in [("b", at, "body"), ("a", at + 1, "body"), ("a", at, "bodY")] {
            assert_eq!(code(&headers(id, at, &signed), body.as_bytes(), now), Err("bad_signature"));
        }
        let late = code(&headers("a", at, &signed), b"body", now + 301_000);
        assert_eq!(late, Err("timestamp_out_of_range"));
        // What need not be read to be refused.
        assert_eq!(stamp(&headers("a", at, "v1,eHg="), now).unwrap_err().code, "bad_signature");
        let late = stamp(&headers("a", at - 301, &signed), now).unwrap_err();
        assert_eq!(late.code, "timestamp_out_of_range");
        assert_eq!(code(&HeaderMap::new(), b"body", now), Err("bad_signature"));
    }
}
