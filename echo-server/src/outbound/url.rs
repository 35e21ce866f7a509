//! Absolute `http` and `https` URLs, and references to be followed from them.

use std::fmt;
use std::net::Ipv6Addr;

use axum::http::Uri;

/// The longest URL taken.
pub const MAX_LENGTH: usize = 2048;

/// A URL that may be asked for, policy permitting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether the connection is encrypted.
    pub is_https: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, given or implied.
    pub port: u16,
    /// Path and query, beginning with a slash.
    pub path: String,
}

impl Url {
    /// Reads a URL; `None` unless it is absolute, `http` or `https`, and without user and password.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > MAX_LENGTH || text.contains(|c: char| c.is_control() || c == '\\') {
            return None;
        }
        let text = text.split('#').next().unwrap_or(text).trim_end();
        let uri: Uri = text.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = host(authority.host())?;
        // A port that is there but no number is a trick, not a port.
        let given = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let port = match given {
            Some((_, port)) => port.parse().ok()?,
            None if is_https => 443,
            None => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // A query may stand right behind the host; what is asked for begins with a slash.
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = Self { is_https, host, port, path: format!("{slash}{path}") };
        // That slash may have been one too many.
        (url.to_string().len() <= MAX_LENGTH).then_some(url)
    }

    /// Follows a reference, such as the `Location` of a redirect.
    pub fn join(&self, reference: &str) -> Option<Self> {
        let reference = reference.trim();
        let scheme = if self.is_https { "https" } else { "http" };
        if reference.contains("://") && !reference.starts_with('/') {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{scheme}:{reference}"));
        }
        let base = self.path.split('?').next().unwrap_or("/");
        let path = match reference {
            "" => self.path.clone(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            query if query.starts_with('?') => format!("{base}{query}"),
            relative => {
                format!("{}/{relative}", base.rsplit_once('/').map_or("", |(folder, _)| folder))
            }
        };
        Self::parse(&format!("{}{path}", self.origin()))
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Host and port, as in the header `Host`.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Without the query, which may hold secrets.
    pub fn without_query(&self) -> String {
        format!("{}{}", self.origin(), self.path.split('?').next().unwrap_or("/"))
    }

    /// The last part of the path, if it looks like the name of a file.
    pub fn file_name(&self) -> Option<&str> {
        let path = self.path.split('?').next()?;
        path.rsplit('/').next().filter(|name| !name.is_empty())
    }
}

/// A name, or an address in brackets without them.
fn host(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']')?;
        return address.parse::<Ipv6Addr>().ok().map(|_| address.to_ascii_lowercase());
    }
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_web_addresses_are_read() {
        let url = Url::parse("https://Example.com./a?b#c").unwrap();
        assert_eq!((url.to_string().as_str(), url.port), ("https://example.com/a?b", 443));
        assert_eq!(url.without_query(), "https://example.com/a");
        assert_eq!(Url::parse("http://[::1]:81/").unwrap().host, "::1");
        assert_eq!(Url::parse("http://a.example?b").unwrap().path, "/?b");
        assert_eq!(Url::parse("http://a.example/b\u{3000}#c").unwrap().path, "/b");
        let longest = format!("http://a/?{}", "b".repeat(MAX_LENGTH - 10));
        assert_eq!(Url::parse(&longest).unwrap().to_string(), longest);
        assert_eq!(Url::parse(&longest.replace("a/?", "aa?")).map(|url| url.to_string()), None);
        for bad in [
            "ftp://a/",
            "file:///etc/passwd",
            "gopher://a/",
            "//a/",
            "/a",
            "http://u:p@a/",
            "http://u@a/",
            "http://a:port/",
            "http://a:99999/",
            "http:///x",
            "http://a\\@b/",
            "http://a\n/",
            "http://a[::1]/",
            "http://[::1/",
            "http://[127.0.0.1]/",
            "http://a%2e/",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn references_are_followed_from_where_they_stand() {
        let base = Url::parse("http://a.example/x/y?q").unwrap();
        let to = |reference: &str| base.join(reference).map(|url| url.to_string());
        assert_eq!(to("z").as_deref(), Some("http://a.example/x/z"));
        assert_eq!(to("/z").as_deref(), Some("http://a.example/z"));
        assert_eq!(to("?p").as_deref(), Some("http://a.example/x/y?p"));
        assert_eq!(to("//b.example/").as_deref(), Some("http://b.example/"));
        assert_eq!(to("https://c.example/").as_deref(), Some("https://c.example/"));
        assert_eq!(to("file:///etc/passwd"), None);
    }
}
