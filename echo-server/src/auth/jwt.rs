//! JSON Web Tokens with HS256, and nothing else: the algorithm is not the sender's to choose.
//!
//! RFC 7519 and 7515. One algorithm in forty lines is less to trust than a library of all of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Problem;
use crate::secrets::{Secret, hmac_matches, hmac_sha256};

/// Clocks may differ by so many seconds.
const LEEWAY_SECONDS: i64 = 60;
/// `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What a token claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who.
    pub sub: String,
    /// Until when, in seconds since 1970.
    pub exp: i64,
    /// From when on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// For which tenant; default `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<String>,
    /// What is allowed, separated by spaces.
    #[serde(default = "default_scope")]
    pub scope: String,
    /// For whom the token is; `echo` if it is there.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub aud: Value,
}

fn default_scope() -> String {
    format!("{} {}", super::WRITE, super::READ)
}

/// Makes a token.
pub fn sign(claims: &Claims, secret: &Secret) -> String {
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
    let signed = format!("{HEADER}.{payload}");
    let tag = hmac_sha256(secret.expose().as_bytes(), &[signed.as_bytes()]);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Reads a token that the secret has signed and that is of now.
pub(super) fn verify(token: &str, secret: &Secret, now_seconds: i64) -> Result<Claims, Problem> {
    let claims = read(token, secret)
        .ok_or_else(|| Problem::new(401, "invalid_token", "the token is not valid"))?;
    if claims.exp.saturating_add(LEEWAY_SECONDS) < now_seconds {
        let problem = Problem::new(401, "token_expired", "the token is not valid any more");
        return Err(problem.with("server_time", crate::clock::rfc3339(now_seconds * 1000)));
    }
    if claims.nbf.is_some_and(|nbf| nbf.saturating_sub(LEEWAY_SECONDS) > now_seconds) {
        return Err(Problem::new(401, "invalid_token", "the token is not valid yet"));
    }
    Ok(claims)
}

fn read(token: &str, secret: &Secret) -> Option<Claims> {
    let (signed, tag) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.get("alg")?.as_str()? != "HS256" || header.get("crit").is_some() {
        return None;
    }
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    if !hmac_matches(secret.expose().as_bytes(), &[signed.as_bytes()], &tag) {
        return None;
    }
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let is_for_us = match &claims.aud {
        Value::Null => true,
        Value::String(aud) => aud == "echo",
        Value::Array(list) => list.iter().any(|aud| aud == "echo"),
        _ => false,
    };
    (is_for_us && !claims.sub.is_empty()).then_some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn claims() -> Claims {
        let scope = default_scope();
        Claims { sub: "ana".into(), exp: NOW + 60, nbf: None, tid: None, scope, aud: Value::Null }
    }

    fn secret() -> Secret {
        Secret::new("0123456789abcdef0123456789abcdef")
    }

    #[test]
    fn a_token_is_what_its_secret_has_signed() {
        let token = sign(&claims(), &secret());
        assert_eq!(verify(&token, &secret(), NOW).unwrap(), claims());
        let other = Secret::new("another secret of thirty-two bytes");
        assert_eq!(verify(&token, &other, NOW).unwrap_err().code, "invalid_token");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let tampered = String::from_utf8(bytes).unwrap();
            // The last letter of a code has bits that stand for nothing; strict decoding refuses them.
            assert!(verify(&tampered, &secret(), NOW).is_err(), "letter {at}");
        }
    }

    #[test]
    fn the_algorithm_is_not_the_senders_choice() {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
        for alg in ["none", "None", "HS512", "RS256"] {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}"}}"#));
            let signed = format!("{header}.{payload}");
            let tag = hmac_sha256(secret().expose().as_bytes(), &[signed.as_bytes()]);
            for tag in [String::new(), URL_SAFE_NO_PAD.encode(tag)] {
                assert!(verify(&format!("{signed}.{tag}"), &secret(), NOW).is_err(), "{alg}");
            }
        }
    }

    #[test]
    fn time_and_audience_count() {
        let token = sign(&Claims { exp: NOW - 61, ..claims() }, &secret());
        assert_eq!(verify(&token, &secret(), NOW).unwrap_err().code, "token_expired");
        let token = sign(&Claims { nbf: Some(NOW + 120), ..claims() }, &secret());
        assert!(verify(&token, &secret(), NOW).is_err());
        let token = sign(&Claims { aud: "other".into(), ..claims() }, &secret());
        assert!(verify(&token, &secret(), NOW).is_err());
        let token = sign(&Claims { aud: serde_json::json!(["x", "echo"]), ..claims() }, &secret());
        assert!(verify(&token, &secret(), NOW).is_ok());
    }
}
