//! Random tokens, digests, and the comparison and sealing of secrets.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// A secret: never shown by `Debug`, logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// So many random bytes from the operating system.
///
/// # Panics
/// If the operating system has no random numbers, without which nothing here is safe.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// A random token of 256 bits, safe in URLs.
pub fn token() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// SHA-256 in lower-case hexadecimal digits.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes.as_ref()))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256 of the parts joined.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = mac(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Whether `tag` is the HMAC-SHA256 of the parts joined; takes as long whatever differs.
pub fn hmac_matches(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> bool {
    let mut mac = mac(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.verify_slice(tag).is_ok()
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Whether two secrets are equal; takes as long whatever differs.
pub fn equal(a: &str, b: &str) -> bool {
    let key = random::<32>();
    hmac_matches(&key, &[a.as_bytes()], &hmac_sha256(&key, &[b.as_bytes()]))
}

/// Encrypts what must rest in the database under the master key.
pub fn seal(master: &Secret, plain: &str) -> Option<String> {
    let nonce = random::<24>();
    let sealed = cipher(master).encrypt(XNonce::from_slice(&nonce), plain.as_bytes()).ok()?;
    Some(STANDARD.encode([&nonce[..], &sealed].concat()))
}

/// Decrypts what [`seal`] made; `None` under another key.
pub fn unseal(master: &Secret, sealed: &str) -> Option<Secret> {
    let bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(24)?;
    let plain = cipher(master).decrypt(XNonce::from_slice(nonce), sealed).ok()?;
    Some(Secret(String::from_utf8(plain).ok()?))
}

fn cipher(master: &Secret) -> XChaCha20Poly1305 {
    let key = hmac_sha256(master.expose().as_bytes(), &[b"echo-server sealing key 1"]);
    XChaCha20Poly1305::new(&key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_under_its_key() {
        let (right, wrong) = (Secret::new("right"), Secret::new("wrong"));
        let sealed = seal(&right, "whsec_abc").unwrap();
        assert!(!sealed.contains("abc"));
        assert_eq!(unseal(&right, &sealed).unwrap().expose(), "whsec_abc");
        assert_eq!(unseal(&wrong, &sealed), None);
        assert_eq!(unseal(&right, "nonsense"), None);
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(""), empty);
        assert!(equal("a", "a") && !equal("a", "b") && !equal("a", ""));
        assert_eq!(format!("{:?}", Secret::new("x")), "[secret]");
    }
}
