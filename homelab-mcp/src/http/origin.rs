//! Where an appliance listens, as an operator writes it: `host`, `host:port`, an IPv6 address, or the https URL that a
//! browser shows. What must not travel in clear is never sent over `http://`, so that is refused here.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use rustls::pki_types::ServerName;

/// One address of an appliance: always https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// A name or an address; IPv6 without brackets.
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// The port where none was given.
    pub(crate) fn or_port(mut self, default: u16) -> Self {
        self.port.get_or_insert(default);
        self
    }

    /// What the certificate must be for.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }

    /// For the resolver.
    pub(crate) fn host_port(&self) -> (&str, u16) {
        (&self.host, self.port.unwrap_or(443))
    }
}

/// `host:port`, an IPv6 host in brackets; fit for a URL.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.host_port();
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` {why}; use host, host:port or https://host:port");
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("ws://") {
            return Err(wrong("would send its key in clear"));
        }
        let rest = if lower.starts_with("https://") { &text["https://".len()..] } else { text };
        // The slash that a browser's address bar ends with.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains("://") {
            return Err(wrong("has a scheme that is not https"));
        }
        if rest.contains('@') {
            return Err(wrong("holds a user name or password, which have variables of their own"));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("has a path, which is not needed"));
        }
        // An address without brackets has several colons; a host and its port have one.
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| wrong("has a [ without its ]"))?;
                if host.parse::<Ipv6Addr>().is_err() {
                    return Err(wrong("has brackets around what is no IPv6 address"));
                }
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(|| wrong("is no address"))?)
            }
            None if rest.parse::<Ipv6Addr>().is_ok() => (rest, ""),
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        let port = match port {
            "" => None,
            port => Some(
                port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(|| wrong("has a port that is none"))?,
            ),
        };
        let origin = Self { host: host.to_owned(), port };
        if origin.server_name().is_none() {
            return Err(wrong("is no host name or address"));
        }
        Ok(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_people_write() {
        for (text, shown) in [
            ("nas", "nas:8006"),
            ("nas.lan:444", "nas.lan:444"),
            ("192.168.1.5", "192.168.1.5:8006"),
            ("https://nas.lan", "nas.lan:8006"),
            ("HTTPS://Nas.lan:443/", "Nas.lan:443"),
            ("fd00::5", "[fd00::5]:8006"),
            ("[fd00::5]", "[fd00::5]:8006"),
            ("[fd00::5]:443", "[fd00::5]:443"),
            ("https://[fd00::5]:443/", "[fd00::5]:443"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().or_port(8006).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        for (text, why) in [
            ("http://nas", "in clear"),
            ("ws://nas", "in clear"),
            ("ftp://nas", "scheme"),
            ("root:pw@nas", "password"),
            ("nas/api", "path"),
            ("nas:0", "port"),
            ("nas:99999", "port"),
            ("nas:x", "port"),
            ("[fd00::5", "without its ]"),
            ("[nas]", "IPv6"),
            ("[fd00::5]443", "address"),
            ("", "host name"),
            ("na s", "host name"),
            ("nas\r\nX: y", "port"),
            ("fe80::1%eth0", ""),
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            assert!(error.contains(why) && error.contains("https://host:port"), "{text}: {error}");
        }
    }
}
