//! Where the Docker Engine listens: `DOCKER_HOST` read into a type. Knows the forms of the text, not how to connect.

use std::fmt;
use std::path::PathBuf;

/// An address of a Docker Engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A unix socket.
    #[cfg(unix)]
    Unix(PathBuf),
    /// A Windows named pipe, in the form `//./pipe/docker_engine`.
    #[cfg(windows)]
    Pipe(String),
    /// Plain HTTP. Whoever reaches the port is root on that host.
    Tcp {
        /// A name or an address, an IPv6 one without its brackets.
        host: String,
        /// The port if one was given; else 2375.
        port: Option<u16>,
    },
    /// HTTPS. The engine's certificate is always verified.
    Tls {
        /// A name or an address, an IPv6 one without its brackets.
        host: String,
        /// The port if one was given; else 2376.
        port: Option<u16>,
        /// The folder with `ca.pem` and, if the engine asks who we are, `cert.pem` and `key.pem`
        /// (`DOCKER_CERT_PATH`). Without it only the system's certificate authorities are trusted.
        certs: Option<PathBuf>,
    },
}

impl Default for Endpoint {
    /// Where an engine listens that nobody has configured.
    fn default() -> Self {
        #[cfg(unix)]
        return Self::Unix(PathBuf::from("/var/run/docker.sock"));
        #[cfg(windows)]
        return Self::Pipe("//./pipe/docker_engine".to_owned());
    }
}

impl Endpoint {
    /// Reads the form of `DOCKER_HOST`, or a path as in `DOCKER_SOCKET`. The error is a clause without a full stop.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        #[cfg(unix)]
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!(
                "`{text}` has no scheme: write for example unix:///var/run/docker.sock or tcp://host:2375"
            ));
        };
        match scheme.to_ascii_lowercase().as_str() {
            #[cfg(unix)]
            "unix" if rest.is_empty() => Ok(Self::default()),
            #[cfg(unix)]
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            #[cfg(unix)]
            "unix" => Err(format!("`{text}` is not an absolute path: write unix:///{rest} (three slashes)")),
            #[cfg(not(unix))]
            "unix" => Err(format!("`{text}`: there are no unix sockets on this system: use npipe:// or tcp://")),
            #[cfg(windows)]
            "npipe" if rest.is_empty() => Ok(Self::default()),
            #[cfg(windows)]
            "npipe" => Ok(Self::Pipe(rest.replace('\\', "/"))),
            #[cfg(not(windows))]
            "npipe" => Err(format!("`{text}`: named pipes exist only on Windows: use unix:// or tcp://")),
            "tcp" | "http" => host_and_port(text, rest).map(|(host, port)| Self::Tcp { host, port }),
            "https" => host_and_port(text, rest).map(|(host, port)| Self::Tls { host, port, certs: None }),
            "ssh" => Err(format!(
                "`{text}`: ssh:// is not supported: forward the socket (ssh -N -L /run/docker-remote.sock:/var/run/docker.sock \
                 HOST) and use unix:///run/docker-remote.sock"
            )),
            "fd" => {
                Err(format!("`{text}`: fd:// is for the engine itself, not for its clients: use unix:// or tcp://"))
            }
            _ => Err(format!("`{text}`: the scheme {scheme}:// is not known: use unix://, tcp:// or https://")),
        }
    }

    /// The same address over TLS: what `DOCKER_TLS_VERIFY` asks for. Sockets of this machine stay as they are.
    pub(crate) fn with_tls(self, cert_dir: Option<PathBuf>) -> Self {
        match self {
            Self::Tcp { host, port } => Self::Tls { host, port, certs: cert_dir },
            Self::Tls { host, port, certs } => Self::Tls { host, port, certs: cert_dir.or(certs) },
            local => local,
        }
    }

    /// Host and port, for an endpoint that has them.
    pub(crate) fn remote(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } => Some((host, port.unwrap_or(2375))),
            Self::Tls { host, port, .. } => Some((host, port.unwrap_or(2376))),
            _ => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            #[cfg(windows)]
            Self::Pipe(path) => write!(f, "npipe://{path}"),
            Self::Tcp { host, port } => write!(f, "tcp://{}:{}", bracketed(host), port.unwrap_or(2375)),
            Self::Tls { host, port, .. } => write!(f, "https://{}:{}", bracketed(host), port.unwrap_or(2376)),
        }
    }
}

/// An IPv6 address gets its brackets.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Splits what follows the scheme. Only characters of names and addresses pass: the host goes into a URL.
fn host_and_port(text: &str, rest: &str) -> Result<(String, Option<u16>), String> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!("`{text}`: a path after the port is not supported"));
    }
    if authority.contains('@') {
        // Not repeated: it may hold a password.
        return Err("a user name in the address of a Docker Engine is not supported".to_owned());
    }
    let (host, port) = if let Some(bracket) = authority.strip_prefix('[') {
        let Some((host, port)) = bracket.split_once(']') else {
            return Err(format!("`{text}`: the bracket of the IPv6 address is not closed"));
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("`{text}`: {host} is not an IPv6 address"));
        }
        match port {
            "" => (host, None),
            _ => (host, Some(port.strip_prefix(':').ok_or_else(|| format!("`{text}`: after `]` comes `:PORT`"))?)),
        }
    } else if authority.matches(':').count() > 1 {
        return Err(format!("`{text}`: an IPv6 address needs brackets: tcp://[::1]:2375"));
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(format!("`{text}`: there is no valid host name"));
    }
    let port = match port {
        None => None,
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("`{text}`: `{digits}` is not a port")),
        },
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn addresses_are_read_and_written_back() {
        for (text, back) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("/run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("tcp://nas", "tcp://nas:2375"),
            ("TCP://nas:2000/", "tcp://nas:2000"),
            ("http://10.0.0.5:2375", "tcp://10.0.0.5:2375"),
            ("tcp://[fd00::5]:2375", "tcp://[fd00::5]:2375"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("https://nas", "https://nas:2376"),
        ] {
            assert_eq!(Endpoint::parse(text).map(|e| e.to_string()), Ok(back.to_owned()), "{text}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_cannot_be_used_is_explained() {
        for (text, part) in [
            ("ssh://root@nas", "ssh:// is not supported"),
            ("npipe:////./pipe/docker_engine", "only on Windows"),
            ("fd://", "for the engine itself"),
            ("unix://run/docker.sock", "three slashes"),
            ("nas:2375", "no scheme"),
            ("tcp://:2375", "no valid host"),
            ("tcp://nas:0", "not a port"),
            ("tcp://nas:70000", "not a port"),
            ("tcp://nas:2375/v1.41", "path"),
            ("tcp://fd00::5:2375", "brackets"),
            ("tcp://[fd00::5:2375", "not closed"),
            ("tcp://[nas]:2375", "not an IPv6"),
            ("tcp://na s:2375", "no valid host"),
            ("gopher://nas", "not known"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(!Endpoint::parse("tcp://me:hunter2@nas").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn tls_takes_the_port_of_tls() {
        let tls = |text: &str| Endpoint::parse(text).unwrap().with_tls(Some(PathBuf::from("/certs"))).to_string();
        assert_eq!(tls("tcp://nas"), "https://nas:2376");
        assert_eq!(tls("tcp://nas:2375"), "https://nas:2375");
        assert_eq!(tls("https://[::1]"), "https://[::1]:2376");
    }
}
