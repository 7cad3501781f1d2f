//! A scripted MCP server over stdio for the gateway's tests: it does on request what a core must not do. Each tool is
//! one misdeed. `FAKE_CORE` in the environment makes it misbehave from the start.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};

const MODERN: &str = "io.modelcontextprotocol/protocolVersion";

/// What one process remembers.
#[derive(Default)]
struct Core {
    /// Answers held back until the next request.
    held: Vec<Value>,
    /// Ids of ours that were taken back.
    cancelled: Vec<Value>,
    /// Calls that wait for an answer of the client's, by the id of our question.
    asking: VecDeque<(Value, Value)>,
    questions: u64,
    greeting: Value,
    notifications: Vec<String>,
}

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "a stand-in has no configuration of its own")]
    let mode = std::env::var("FAKE_CORE").unwrap_or_default();
    if std::env::args().any(|argument| argument == "--list-tools") {
        // Where it plays homelab-mcp.
        let tools = [("echo", "monitor"), ("log", "operate"), ("die", "manage")];
        let tools = tools.map(|(name, level)| json!({"name": name, "level_name": level}));
        print(&json!({"level": 1, "tools": tools}).to_string());
        return ExitCode::SUCCESS;
    }
    match mode.as_str() {
        "exit" => {
            let _ = writeln!(io::stderr(), "no database, no service");
            return ExitCode::from(3);
        }
        "silent" => sleep(),
        "garbage" => print("Welcome to the core!\n{\"half\": \n"),
        _ => {}
    }
    let mut core = Core::default();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            let _ = writeln!(io::stderr(), "not JSON: {line}");
            continue;
        };
        if let Some(code) = core.take(&message, &mode) {
            return ExitCode::from(code);
        }
    }
    if mode == "stays" {
        sleep();
    }
    ExitCode::SUCCESS
}

/// Until a signal comes.
fn sleep() {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Everything that goes to stdout is whole when this returns.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn send(message: &Value) {
    print(&format!("{message}\n"));
}

fn result(id: &Value, result: Value) {
    send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
}

fn text(id: &Value, content: &Value) {
    result(id, json!({"content": [{"type": "text", "text": content.to_string()}]}));
}

fn error(id: &Value, code: i64, message: &str) {
    send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}));
}

impl Core {
    /// Takes a message; an exit code ends the process.
    fn take(&mut self, message: &Value, mode: &str) -> Option<u8> {
        let (id, params) = (&message["id"], &message["params"]);
        let modern = params["_meta"].get(MODERN).is_some();
        let Some(method) = message["method"].as_str() else {
            if let Some(at) = self.asking.iter().position(|(question, _)| question == id)
                && let Some((_, call)) = self.asking.remove(at)
            {
                text(&call, &json!({"said": message["result"], "error": message["error"]}));
            }
            return None;
        };
        if id.is_null() {
            if method == "notifications/cancelled" {
                self.cancelled.push(params["requestId"].clone());
            }
            self.notifications.push(method.to_owned());
            return None;
        }
        match method {
            _ if modern && mode == "legacy" => error(id, -32602, "Received request before initialization was complete"),
            "initialize" if mode == "modern" => error(id, -32601, "Method not found"),
            "initialize" => {
                self.greeting = params.clone();
                result(
                    id,
                    json!({
                        "protocolVersion": params["protocolVersion"],
                        "capabilities": {"tools": {}, "logging": {}},
                        "serverInfo": {"name": "fake", "version": "1"},
                    }),
                );
            }
            "server/discover" => result(
                id,
                json!({
                    "resultType": "complete",
                    "supportedVersions": ["2025-11-25", "2026-07-28"],
                    "capabilities": {"tools": {}, "logging": {}},
                }),
            ),
            "ping" => result(id, json!({})),
            "logging/setLevel" => result(id, json!({})),
            "subscriptions/listen" => {
                let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
                send(
                    &json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {"_meta": meta}}),
                );
                result(id, json!({"resultType": "complete", "_meta": meta}));
            }
            "tools/list" => result(id, json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})),
            "tools/call" => return self.call(id, params),
            _ => error(id, -32601, "Method not found"),
        }
        for held in std::mem::take(&mut self.held) {
            send(&held);
        }
        None
    }

    fn call(&mut self, id: &Value, params: &Value) -> Option<u8> {
        let arguments = &params["arguments"];
        let milliseconds = arguments["ms"].as_u64().unwrap_or(0);
        let held = std::mem::take(&mut self.held);
        match params["name"].as_str().unwrap_or_default() {
            "echo" => {
                let names: Vec<_> = environment();
                text(
                    id,
                    &json!({
                        "arguments": arguments,
                        "meta": params["_meta"],
                        "pid": std::process::id(),
                        "environment": names,
                        "greeting": self.greeting,
                        "notifications": self.notifications,
                    }),
                );
            }
            "cancelled" => text(id, &json!({"id": id, "cancelled": self.cancelled})),
            "die" => return Some(9),
            "half_and_die" => {
                print(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"con"));
                return Some(9);
            }
            "half" => print(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"con")),
            "garbage" => {
                print("Segmentation fault (not really)\n\n[1,2]\n{\"jsonrpc\":\"2.0\"}\n\u{0}\u{1}{\n");
                text(id, &json!("after the garbage"));
            }
            "flood" => {
                let mut err = io::stderr().lock();
                for number in 0..100_000 {
                    let _ = writeln!(err, "flood {number} {}", "x".repeat(100));
                }
                text(id, &json!("after the flood"));
            }
            // Answered after the next request.
            "later" => self.held.push(json!({"jsonrpc": "2.0", "id": id, "result": {"content": [], "tag": arguments}})),
            "twice" => {
                text(id, &json!("once"));
                text(id, &json!("twice"));
            }
            "unknown_id" => {
                text(&json!(987_654_321), &json!("whose is this?"));
                text(&json!("not even a number"), &json!("and this?"));
                text(id, &json!("yours"));
            }
            "never" => {}
            "big" => text(id, &json!("x".repeat(8 << 20))),
            "slow" => {
                let (id, arguments) = (id.clone(), arguments.clone());
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(milliseconds));
                    text(&id, &arguments);
                });
            }
            "progress" => {
                let token = &params["_meta"]["progressToken"];
                for progress in 1..=3 {
                    let params = json!({"progressToken": token, "progress": progress});
                    send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
                }
                text(id, &json!("done"));
            }
            "log" => {
                let params = json!({"level": "info", "data": arguments});
                send(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}));
                text(id, &json!("logged"));
            }
            "ask" => {
                let question = json!(self.questions);
                self.questions += 1;
                send(&json!({
                    "jsonrpc": "2.0", "id": question, "method": "elicitation/create",
                    "params": {"message": "Really?", "requestedSchema": {"type": "object", "properties": {}}},
                }));
                self.asking.push_back((question, id.clone()));
            }
            "error" => error(id, arguments["code"].as_i64().unwrap_or(-32603), "as you wished"),
            _ => error(id, -32602, "Unknown tool"),
        }
        for held in held {
            send(&held);
        }
        None
    }
}

fn environment() -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "what the gateway gave it is what the test wants to see")]
    let vars = std::env::vars();
    vars.map(|(name, value)| format!("{name}={value}")).collect()
}
