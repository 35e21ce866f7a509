//! Which addresses may be asked: public ones, and private ones that the operator allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::url::Url;
use crate::config::Config;
use crate::net::Network;

/// Networks that are not the public internet.
const DENIED: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "2001:db8::/32",
    "2001::/23",
    "100::/64",
];

/// Names of what clouds tell their machines.
const METADATA_NAMES: &[&str] = &[
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
];

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an address is not asked. Says nothing about what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// It is not allowed.
    Denied,
    /// Its name is not known.
    Unknown,
}

/// The rules.
#[derive(Debug, Clone)]
pub struct Policy {
    denied: Vec<Network>,
    allowed: Vec<Network>,
    ports: Vec<u16>,
}

/// A URL with the addresses that were checked.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL.
    pub url: Url,
    /// Where it may be asked for, and nowhere else.
    pub addresses: Vec<SocketAddr>,
}

impl Policy {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            denied: DENIED.iter().filter_map(|network| network.parse().ok()).collect(),
            allowed: config.fetch_allowed.clone(),
            ports: config.fetch_ports.clone(),
        }
    }

    /// Whether an address may be asked.
    pub fn allows(&self, address: IpAddr) -> bool {
        if self.allowed.iter().any(|network| network.contains(address)) {
            return true;
        }
        if let IpAddr::V6(v6) = address
            && let Some(v4) = embedded(v6)
        {
            return self.allows(IpAddr::V4(v4));
        }
        !self.denied.iter().any(|network| network.contains(address))
    }

    /// What can be said without asking a name server.
    ///
    /// # Errors
    /// If the URL is surely not allowed.
    pub fn check_form(&self, url: &Url) -> Result<(), Blocked> {
        // Whoever allows a network of their own allows its ports as well, one by one.
        let has_port = self.ports.contains(&url.port);
        let is_metadata = METADATA_NAMES.contains(&url.host.as_str());
        let is_denied = match url.host.parse::<IpAddr>() {
            Ok(address) => !self.allows(address),
            Err(_) => url.host == "localhost" && !self.allows(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        if !has_port || is_metadata || is_denied { Err(Blocked::Denied) } else { Ok(()) }
    }

    /// Resolves a host, once, and checks every address it has.
    ///
    /// # Errors
    /// If any of them is not allowed, or there are none.
    pub async fn resolve(&self, url: Url) -> Result<Target, Blocked> {
        self.resolve_by(url, async |host, port| {
            let found =
                tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port)));
            Some(found.await.ok()?.ok()?.collect())
        })
        .await
    }

    /// The same with another way to find addresses.
    async fn resolve_by(
        &self,
        url: Url,
        find: impl AsyncFnOnce(String, u16) -> Option<Vec<SocketAddr>>,
    ) -> Result<Target, Blocked> {
        self.check_form(&url)?;
        let addresses = find(url.host.clone(), url.port).await.ok_or(Blocked::Unknown)?;
        if addresses.is_empty() {
            return Err(Blocked::Unknown);
        }
        if !addresses.iter().all(|address| self.allows(address.ip())) {
            return Err(Blocked::Denied);
        }
        Ok(Target { url, addresses })
    }
}

/// The IPv4 address that an IPv6 address stands for.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match segments {
        // ::ffff:a.b.c.d and the older ::a.b.c.d
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        // Translation: 64:ff9b::/96 and 64:ff9b:1::/48
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 1, _, _, _, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    fn policy(allowed: &str) -> Policy {
        let mut given = Given::new();
        given.insert("ECHO_FETCH_ALLOW_CIDRS".into(), allowed.into());
        Policy::new(&Config::from_given(&given).unwrap())
    }

    #[test]
    fn private_addresses_are_denied_however_they_are_wrapped() {
        let policy = policy("");
        for denied in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "2001:db8::1",
        ] {
            assert!(!policy.allows(denied.parse().unwrap()), "{denied}");
        }
        for allowed in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert!(policy.allows(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_allowed() {
        let policy = policy("10.0.0.0/8");
        assert!(policy.allows("10.1.2.3".parse().unwrap()));
        assert!(policy.allows("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!policy.allows("127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn odd_spellings_of_the_loopback_address_are_denied() {
        let policy = policy("");
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://0x7f.1/",
            "http://0x7f000001/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
            "http://0/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://169.254.169.254/latest/",
            "http://metadata.google.internal/",
        ] {
            let blocked = match Url::parse(url) {
                Some(url) => policy.resolve(url).await.err(),
                None => Some(Blocked::Denied),
            };
            assert!(blocked.is_some(), "{url}");
        }
    }

    /// A name server that changes its mind is asked once; what it says next reaches nobody, because a
    /// [`Target`] is connected to by the addresses it has.
    #[tokio::test]
    async fn a_name_that_is_bound_anew_leads_nowhere_else() {
        let policy = policy("");
        let url = || Url::parse("https://rebound.example/a.wav").unwrap();
        let answers = std::cell::Cell::new(0);
        let target = policy
            .resolve_by(url(), async |host, port| {
                answers.set(answers.get() + 1);
                let address = if answers.get() == 1 { "93.184.215.14" } else { "127.0.0.1" };
                assert_eq!(host, "rebound.example");
                Some(vec![SocketAddr::new(address.parse().unwrap(), port)])
            })
            .await
            .unwrap();
        assert_eq!(answers.get(), 1);
        assert_eq!(target.addresses, ["93.184.215.14:443".parse().unwrap()]);
        // One private address among public ones is enough to be refused.
        for private in ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"] {
            let both = async |_: String, port| {
                let addresses = ["93.184.215.14", private].map(|ip| ip.parse().unwrap());
                Some(addresses.map(|ip| SocketAddr::new(ip, port)).to_vec())
            };
            assert_eq!(policy.resolve_by(url(), both).await.unwrap_err(), Blocked::Denied);
        }
        let nobody = policy.resolve_by(url(), async |_, _| None).await;
        assert_eq!(nobody.unwrap_err(), Blocked::Unknown);
    }

    #[test]
    fn ports_are_those_of_the_list() {
        let policy = policy("");
        assert!(policy.check_form(&Url::parse("http://a.example:8443/").unwrap()).is_ok());
        assert!(policy.check_form(&Url::parse("http://a.example:22/").unwrap()).is_err());
    }
}
