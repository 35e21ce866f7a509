//! Tickets: what a key is exchanged for where no header can be sent.
//!
//! The media elements of browsers fetch by themselves and send no `Authorization`. Whoever may read a
//! job gets a ticket that opens this job's sound and nothing else, for an hour: players fetch piece by
//! piece, as far as somebody has listened. A ticket is `TENANT.EXPIRY.TAG`, the tag an HMAC-SHA256 of
//! tenant, job and expiry under the master key, so that nothing needs to be kept.

use axum::http::Uri;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Caller, READ};
use crate::secrets::{Secret, hmac_matches, hmac_sha256};

/// How long a ticket opens its recording.
pub const TICKET_SECONDS: i64 = 3600;
/// Keeps the tags apart from everything else that the master key makes.
const PURPOSE: &[u8] = b"echo-server ticket 1";

/// Makes a ticket for the sound of a job.
pub fn issue_ticket(master: &Secret, tenant: &str, job_id: &str, now_seconds: i64) -> String {
    let expiry = now_seconds.saturating_add(TICKET_SECONDS).to_string();
    let tag = hmac_sha256(master.expose().as_bytes(), &signed(tenant, job_id, &expiry));
    format!("{}.{expiry}.{}", URL_SAFE_NO_PAD.encode(tenant), URL_SAFE_NO_PAD.encode(tag))
}

/// Who asks for a recording with a ticket, if the ticket is one for it and of now.
pub(super) fn caller(master: &Secret, uri: &Uri, now_seconds: i64) -> Option<Caller> {
    let job_id = uri.path().strip_suffix("/audio")?.rsplit('/').next()?;
    let ticket = uri.query()?.split('&').find_map(|field| field.strip_prefix("ticket="))?;
    let mut parts = ticket.splitn(3, '.');
    let tenant = String::from_utf8(URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
    let (expiry, tag) = (parts.next()?, URL_SAFE_NO_PAD.decode(parts.next()?).ok()?);
    let parts = signed(&tenant, job_id, expiry);
    if !hmac_matches(master.expose().as_bytes(), &parts, &tag) {
        return None;
    }
    let is_valid = expiry.parse::<i64>().is_ok_and(|expiry| expiry >= now_seconds);
    let caller =
        || Caller { tenant, subject: "ticket".to_owned(), scopes: READ.to_owned(), peer: None };
    is_valid.then(caller)
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
        caller(master, &uri, now_seconds).map(|caller| caller.tenant)
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
