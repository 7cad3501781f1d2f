//! Stands in for a Docker Engine on a unix socket: answers what the test says, or nothing at all, and remembers what was
//! asked and who hung up.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::wire::until;

/// The id of the container that [`StandIn::engine`] has.
pub(crate) const WEB: &str = "4f3ab2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3";

/// What comes back for a request.
pub(crate) enum Reply {
    /// A status and a body.
    Json(u16, Value),
    /// These bytes, then the connection is closed.
    Raw(&'static str),
    /// Nothing, until the client hangs up.
    Silence,
    /// A status and a body, when the test says [`StandIn::release`].
    Held(u16, Value),
}

#[derive(Default)]
struct Seen {
    /// `GET /v1.48/containers/web/json`.
    requests: Vec<String>,
    open: usize,
    most_open: usize,
    /// The last request of each connection that the client closed, and when.
    left: Vec<(String, Instant)>,
    released: bool,
}

/// A listening stand-in. It ends with the test program.
pub(crate) struct StandIn {
    dir: tempfile::TempDir,
    seen: Arc<Mutex<Seen>>,
}

impl StandIn {
    /// One that answers as told; a request is `METHOD path`.
    pub(crate) fn new(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("docker.sock")).unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let (shared, answer) = (seen.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (shared.clone(), answer.clone());
                thread::spawn(move || serve(&stream, &seen, &*answer));
            }
        });
        Self { dir, seen }
    }

    /// One that accepts and never says a word.
    pub(crate) fn silent() -> Self {
        Self::new(|_| Reply::Silence)
    }

    /// A small engine with one running container, `web`; `special` may answer in its place.
    pub(crate) fn engine(special: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::new(move |request| special(request).unwrap_or_else(|| ordinary(request)))
    }

    /// For `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("docker.sock").display())
    }

    /// How many requests with this text came.
    pub(crate) fn asked(&self, text: &str) -> usize {
        self.seen.lock().unwrap().requests.iter().filter(|request| request.contains(text)).count()
    }

    /// Waits until so many requests with this text came.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str, count: usize) {
        until(&format!("{count} times {text:?} at the stand-in"), || self.asked(text) >= count);
    }

    /// When the client closed a connection whose last request had this text.
    pub(crate) fn left(&self, text: &str) -> Option<Instant> {
        self.seen.lock().unwrap().left.iter().find(|(request, _)| request.contains(text)).map(|(_, at)| *at)
    }

    /// How many connections were open at most.
    pub(crate) fn most_open(&self) -> usize {
        self.seen.lock().unwrap().most_open
    }

    /// Lets what is held go.
    pub(crate) fn release(&self) {
        self.seen.lock().unwrap().released = true;
    }
}

fn ordinary(request: &str) -> Reply {
    let path = request.split(' ').nth(1).unwrap();
    match path.split_once("/containers/").map_or(path, |(_, rest)| rest) {
        "/version" => Reply::Json(
            200,
            json!({"Version": "28.0.0", "ApiVersion": "1.48", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}),
        ),
        rest if rest.starts_with("json") => Reply::Json(200, json!([])),
        rest if rest == "web/json" || rest == format!("{WEB}/json") => Reply::Json(
            200,
            json!({
                "Id": WEB, "Name": "/web", "Image": "sha256:0", "RestartCount": 0,
                "Config": {"Image": "nginx:1.27", "Tty": false, "Labels": {}},
                "HostConfig": {"LogConfig": {"Type": "json-file"}},
                "State": {"Status": "running", "Running": true, "StartedAt": "2026-01-01T00:00:00Z", "Pid": 7},
            }),
        ),
        rest if rest.contains("/restart") || rest.contains("/stop") => Reply::Json(204, Value::Null),
        _ => Reply::Json(404, json!({"message": "No such container: nothing"})),
    }
}

fn serve(stream: &UnixStream, seen: &Mutex<Seen>, answer: &dyn Fn(&str) -> Reply) {
    {
        let mut seen = seen.lock().unwrap();
        seen.open += 1;
        seen.most_open = seen.most_open.max(seen.open);
    }
    let mut last = String::new();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        seen.lock().unwrap().requests.push(request.clone());
        let reply = answer(&request);
        last = request;
        match reply {
            Reply::Json(status, body) => write(stream, status, &body),
            Reply::Raw(bytes) => {
                let _ = (&mut &*stream).write_all(bytes.as_bytes());
                break;
            }
            Reply::Silence => {
                let _ = reader.read_to_end(&mut Vec::new());
            }
            Reply::Held(status, body) => {
                if wait_for_release(stream, seen) {
                    write(stream, status, &body);
                }
            }
        }
    }
    let mut seen = seen.lock().unwrap();
    seen.open -= 1;
    seen.left.push((last, Instant::now()));
}

/// `false` when the client hung up before.
fn wait_for_release(stream: &UnixStream, seen: &Mutex<Seen>) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let released = loop {
        if seen.lock().unwrap().released {
            break true;
        }
        // The client says nothing while it waits, so all that can be read is the end.
        if (&mut &*stream).read(&mut [0]).is_ok_and(|read| read == 0) {
            break false;
        }
    };
    stream.set_read_timeout(None).unwrap();
    released
}

fn read_request(reader: &mut BufReader<&UnixStream>) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|read| *read > 0)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some(first.rsplit_once(' ').unwrap().0.to_owned())
}

fn write(mut stream: &UnixStream, status: u16, body: &Value) {
    let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n");
    let text = if status == 204 {
        format!("{head}\r\n")
    } else {
        let body = body.to_string();
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    // The client may have hung up.
    let _ = stream.write_all(text.as_bytes());
}
