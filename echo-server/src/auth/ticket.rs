//! Tickets: what a key is exchanged for where no header can be sent.
//!
//! The media elements of browsers fetch by themselves and send no `Authorization`. Whoever may read a
//! job gets a ticket that opens this job's sound and nothing else, for an hour: players fetch piece by
//! piece, as far as somebody has listened. A ticket is `TENANT.EXPIRY.TAG`, the tag an HMAC-SHA256 of
//! tenant, job and expiry under the master key, so that nothing needs to be kept.
//!
//! The WebSocket of a browser sends none either. A ticket for a live session is good for a minute and once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::Uri;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Caller, READ, WRITE};
use crate::secrets::{Secret, hmac_matches, hmac_sha256, token};

/// How long a ticket opens its recording.
pub const TICKET_SECONDS: i64 = 3600;
/// How long a ticket opens a live session.
pub const STREAM_TICKET_SECONDS: i64 = 60;
/// Keeps the tags apart from everything else that the master key makes.
const PURPOSE: &[u8] = b"echo-server ticket 1";

/// Makes a ticket for the sound of a job.
pub fn issue_ticket(master: &Secret, tenant: &str, job_id: &str, now_seconds: i64) -> String {
    make(master, tenant, job_id, now_seconds.saturating_add(TICKET_SECONDS))
}

/// Makes a ticket for a live session; no two are equal.
pub fn issue_stream_ticket(master: &Secret, tenant: &str, now_seconds: i64) -> String {
    let (number, expiry) = (token(), now_seconds.saturating_add(STREAM_TICKET_SECONDS));
    let ticket = make(master, tenant, &stream_name(&number), expiry);
    format!("{ticket}.{number}")
}

/// What stands in the place of a job's identifier, which has no spaces.
fn stream_name(number: &str) -> String {
    format!("live stream {number}")
}

/// Tickets that have opened a session.
#[derive(Debug, Default)]
pub struct UsedTickets(Mutex<HashMap<String, i64>>);

impl UsedTickets {
    /// Whether this is the first use of a number.
    fn is_first(&self, number: &str, now_seconds: i64) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, at| *at + STREAM_TICKET_SECONDS >= now_seconds);
        used.insert(number.to_owned(), now_seconds).is_none()
    }
}

fn make(master: &Secret, tenant: &str, job_id: &str, expiry: i64) -> String {
    let expiry = expiry.to_string();
    let tag = hmac_sha256(master.expose().as_bytes(), &signed(tenant, job_id, &expiry));
    format!("{}.{expiry}.{}", URL_SAFE_NO_PAD.encode(tenant), URL_SAFE_NO_PAD.encode(tag))
}

/// Who asks with a ticket, if the ticket is one for what is asked and of now.
pub(super) fn caller(
    master: &Secret,
    used: &UsedTickets,
    uri: &Uri,
    now_seconds: i64,
) -> Option<Caller> {
    let ticket = uri.query()?.split('&').find_map(|field| field.strip_prefix("ticket="))?;
    let mut parts = ticket.splitn(4, '.');
    let (tenant, expiry, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let tenant = String::from_utf8(URL_SAFE_NO_PAD.decode(tenant).ok()?).ok()?;
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    let (name, scope) = match (uri.path().strip_suffix("/audio"), parts.next()) {
        (Some(job), None) => (job.rsplit('/').next()?.to_owned(), READ),
        (None, Some(number)) if uri.path().ends_with("/stream") => (stream_name(number), WRITE),
        _ => return None,
    };
    let is_ours = hmac_matches(master.expose().as_bytes(), &signed(&tenant, &name, expiry), &tag);
    let is_valid = is_ours && expiry.parse::<i64>().is_ok_and(|expiry| expiry >= now_seconds);
    if !is_valid || (scope == WRITE && !used.is_first(&name, now_seconds)) {
        return None;
    }
    Some(Caller { tenant, subject: "ticket".to_owned(), scopes: scope.to_owned(), peer: None })
}

/// What is signed; the separator is in no identifier of a job and in no number.
fn signed<'a>(tenant: &'a str, job_id: &'a str, expiry: &'a str) -> [&'a [u8]; 6] {
    [PURPOSE, job_id.as_bytes(), b"\n", expiry.as_bytes(), b"\n", tenant.as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(master: &Secret, path: &str, ticket: &str, now_seconds: i64) -> Option<String> {
        let uri: Uri = format!("{path}?x=1&ticket={ticket}").parse().unwrap();
        caller(master, &UsedTickets::default(), &uri, now_seconds).map(|caller| caller.tenant)
    }

    #[test]
    fn a_ticket_opens_its_own_recording_for_an_hour() {
        let master = Secret::new("master");
        let ticket = issue_ticket(&master, "a.b/ü", "job-1", 1000);
        let path = "/transcription/job-1/audio";
        assert_eq!(ask(&master, path, &ticket, 1000).as_deref(), Some("a.b/ü"));
        assert_eq!(ask(&master, path, &ticket, 1000 + TICKET_SECONDS).as_deref(), Some("a.b/ü"));
        assert_eq!(ask(&master, path, &ticket, 1001 + TICKET_SECONDS), None);
        assert_eq!(ask(&master, "/transcription/job-2/audio", &ticket, 1000), None);
        assert_eq!(ask(&master, "/transcription/job-1", &ticket, 1000), None);
        assert_eq!(ask(&Secret::new("other"), path, &ticket, 1000), None);
    }

    #[test]
    fn a_ticket_for_a_session_opens_one_session_for_a_minute() {
        let (master, used) = (Secret::new("master"), UsedTickets::default());
        let ask = |ticket: &str, now| {
            let uri: Uri = format!("/stream?ticket={ticket}").parse().unwrap();
            caller(&master, &used, &uri, now).map(|caller| caller.scopes)
        };
        let ticket = issue_stream_ticket(&master, "a", 1000);
        assert_eq!(ask(&format!("{ticket}x"), 1000), None);
        assert_eq!(ask(&ticket, 1061), None);
        assert_eq!(ask(&ticket, 1060).as_deref(), Some(WRITE));
        assert_eq!(ask(&ticket, 1060), None);
        assert_eq!(ask(&issue_ticket(&master, "a", "job-1", 1000), 1000), None);
        let audio: Uri = format!("/transcription/job-1/audio?ticket={ticket}").parse().unwrap();
        assert_eq!(caller(&master, &used, &audio, 1000), None);
    }

    #[test]
    fn a_changed_ticket_opens_nothing() {
        let master = Secret::new("master");
        let ticket = issue_ticket(&master, "a", "job-1", 1000);
        let other_tenant = ticket.replacen("YQ.", "Yg.", 1);
        assert_ne!(other_tenant, ticket);
        let path = "/transcription/job-1/audio";
        for wrong in
            [&*other_tenant, &ticket.replace("4600", "9600"), "", ".", "..", "a.b.c", &ticket[..9]]
        {
            assert_eq!(ask(&master, path, wrong, 1000), None, "{wrong}");
        }
    }
}
