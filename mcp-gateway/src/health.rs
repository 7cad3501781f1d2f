//! `--health`: asks the gateway that runs with this configuration whether it serves, as a container's health check does.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// For each of connecting, writing and reading.
const PATIENCE: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const WELL: &[u8] = b"HTTP/1.1 200 ";

/// Whether `GET /health` on this listener answers 200; else a sentence on what it does instead.
pub(crate) fn ask(listener: SocketAddr) -> Result<(), String> {
    if listener.port() == 0 {
        return Err("PORT is 0, so the port of the running gateway is not known. Set PORT.".to_owned());
    }
    let address = reachable(listener);
    match status_line(address) {
        Ok(line) if line == WELL => Ok(()),
        Ok(line) => {
            Err(format!("http://{address}/health does not answer 200 but {:?}", String::from_utf8_lossy(&line)))
        }
        Err(error) => Err(format!("http://{address}/health does not answer: {error}")),
    }
}

/// As much of the answer as tells its status.
fn status_line(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut line = Vec::new();
    stream.take(WELL.len() as u64).read_to_end(&mut line)?;
    Ok(line)
}

/// One listens on "any address", but one connects to a particular one.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Asks a listener on every address that gives one connection this answer.
    fn asked(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; REQUEST.len()];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            request
        });
        let asked = ask(address);
        assert_eq!(served.join().unwrap(), REQUEST);
        asked
    }

    #[test]
    fn only_200_is_well() {
        assert_eq!(asked(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(()));
        for answer in
            [&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], b"HTTP/1.1 2000 \r\n\r\n", b"SSH-2.0-x\r\n", b""]
        {
            assert!(asked(answer).unwrap_err().contains("/health"), "{answer:?}");
        }
    }

    #[test]
    fn nobody_there_is_not_well() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ask(free).unwrap_err().contains("refused"));
        assert!(ask(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap_err().contains("PORT"));
    }
}
