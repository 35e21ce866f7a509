//! How often a tenant may ask: a bucket of tokens for submissions, one for everything else.
//!
//! Tokens drip in evenly over a minute, up to a minute's worth. Without authentication there are no
//! tenants to be fair to, and no limits but those of the queue and of uploads at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::Method;

use crate::app::App;
use crate::auth::{self, Caller};
use crate::error::Problem;

/// Tenants remembered at once; those with full buckets are forgotten first.
const MAX_BUCKETS: usize = 10_000;

/// The buckets of all tenants.
#[derive(Debug, Default)]
pub struct Limits {
    buckets: Mutex<HashMap<(String, bool), Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limits {
    /// Takes a token for a request.
    ///
    /// # Errors
    /// `rate_limited`, with the time until there is a token.
    pub fn check(&self, app: &App, caller: &Caller, method: &Method) -> Result<(), Problem> {
        if !auth::is_required(app) {
            return Ok(());
        }
        let is_write = method == Method::POST;
        let config = &app.config;
        let a_minute =
            if is_write { config.submissions_per_minute } else { config.reads_per_minute };
        self.take(&caller.tenant, is_write, a_minute, Instant::now()).map_err(|seconds| {
            let detail = format!("more than {a_minute} requests a minute");
            Problem::new(429, "rate_limited", detail).retry_after(seconds)
        })
    }

    fn take(&self, tenant: &str, is_write: bool, a_minute: u32, now: Instant) -> Result<(), u64> {
        if a_minute == 0 {
            return Ok(());
        }
        let most = f64::from(a_minute);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| now.duration_since(bucket.at).as_secs() < 60);
        }
        let full = Bucket { tokens: most, at: now };
        let bucket = buckets.entry((tenant.to_owned(), is_write)).or_insert(full);
        let dripped = now.duration_since(bucket.at).as_secs_f64() * most / 60.0;
        bucket.tokens = (bucket.tokens + dripped).min(most);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(((1.0 - bucket.tokens) * 60.0 / most).ceil().max(1.0) as u64);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_empty_bucket_says_when_to_come_back() {
        let (limits, now) = (Limits::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(limits.take("a", true, 3, now), Ok(()));
        }
        assert_eq!(limits.take("a", true, 3, now), Err(20));
        assert_eq!(limits.take("a", false, 3, now), Ok(()));
        assert_eq!(limits.take("b", true, 3, now), Ok(()));
        let later = now + Duration::from_secs(20);
        assert_eq!(limits.take("a", true, 3, later), Ok(()));
        assert!(limits.take("a", true, 3, later).is_err());
        assert_eq!(limits.take("c", true, 0, now), Ok(()));
    }
}
