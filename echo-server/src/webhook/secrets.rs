//! The secrets that sign a tenant's callbacks: made of the server's secret, the tenant's name and a
//! count, and so kept nowhere.
//!
//! A rotation is a row with the next count. For a day what was signed with before signs as well, each
//! message with both; whoever rotates twice within a day ends the oldest at once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::secrets::{Secret, hmac_sha256};
use crate::store::Rotation;

/// How long the secret before a rotation signs as well.
const OVERLAP_MS: i64 = 24 * 3600 * 1000;

/// The secret of a tenant after so many rotations, as Standard Webhooks writes it.
pub fn of_tenant(server: &Secret, tenant: &str, count: i64) -> Secret {
    let parts = [b"echo-server callbacks 1".as_slice(), &count.to_be_bytes(), tenant.as_bytes()];
    let key = hmac_sha256(server.expose().as_bytes(), &parts);
    Secret::new(format!("whsec_{}", STANDARD.encode(key)))
}

/// Until when the secret before the last rotation signs, if it does at `now`.
pub fn overlap(rotation: &Rotation, now: i64) -> Option<i64> {
    rotation.at.map(|at| at.saturating_add(OVERLAP_MS)).filter(|until| now < *until)
}

/// Every secret that signs at `now`, the newest first.
pub fn signing(server: &Secret, tenant: &str, rotation: &Rotation, now: i64) -> Vec<Secret> {
    let before = overlap(rotation, now).map(|_| rotation.count - 1);
    let counts = [Some(rotation.count), before];
    counts.into_iter().flatten().map(|count| of_tenant(server, tenant, count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_one_secret_and_for_a_day_after_a_rotation_two() {
        let server = Secret::new("server");
        let secret = |tenant: &str, count| of_tenant(&server, tenant, count);
        assert_eq!(signing(&server, "a", &Rotation::default(), 0), [secret("a", 0)]);
        let rotated = Rotation { count: 3, at: Some(5) };
        assert_eq!(signing(&server, "a", &rotated, 6), [secret("a", 3), secret("a", 2)]);
        assert_eq!(signing(&server, "a", &rotated, 5 + OVERLAP_MS), [secret("a", 3)]);
        let others = [secret("b", 3), secret("a", 2), of_tenant(&Secret::new("other"), "a", 3)];
        assert!(others.iter().all(|other| *other != secret("a", 3)));
        let text = secret("a", 3).expose().to_owned();
        assert_eq!(STANDARD.decode(&text["whsec_".len()..]).unwrap().len(), 32);
    }
}
