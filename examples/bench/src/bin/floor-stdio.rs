//! The floor: a stdio program that does as little as an MCP server can.
//!
//! `floor-stdio FILE` answers `tools/list` with the bytes of FILE (the `result` the real core gave),
//! `initialize`, `server/discover` and `ping` trivially and any other request with "Method not found". It looks only at the
//! top level of each line, keeps no state, gathers its output, writes it when its input runs dry and leaves
//! at the end of its input. What the core costs beyond this is the price of being a real server.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// Bytes read or gathered at once: what a Linux pipe holds.
const BUFFER: usize = 64 * 1024;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        return fail("usage: floor-stdio FILE (the canned result of tools/list)");
    };
    match std::fs::read(&path).and_then(|canned| serve(canned.trim_ascii())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Says why on stderr.
fn fail(why: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed too.
    let _ = writeln!(io::stderr(), "floor-stdio: {why}");
    ExitCode::FAILURE
}

/// Connects the answering to the real stdin and stdout, past std's line-buffered wrapper.
fn serve(canned: &[u8]) -> io::Result<()> {
    let input = BufReader::with_capacity(BUFFER, File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let output = BufWriter::with_capacity(BUFFER, File::from(io::stdout().as_fd().try_clone_to_owned()?));
    answer_all(input, output, canned)
}

/// Answers line after line until the input ends.
fn answer_all<R: io::Read>(mut input: BufReader<R>, mut output: impl Write, canned: &[u8]) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            output.flush()?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return output.flush();
        }
        let (id, method) = top_level(&line);
        // Without an id it is a notification: nothing to answer.
        let Some(id) = id else { continue };
        output.write_all(br#"{"jsonrpc":"2.0","id":"#)?;
        output.write_all(id)?;
        match method {
            Some(br#""tools/list""#) => {
                output.write_all(br#","result":"#)?;
                output.write_all(canned)?;
            }
            Some(br#""ping""#) => output.write_all(br#","result":{}"#)?,
            Some(br#""initialize""#) => output.write_all(
                br#","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"floor-stdio","version":"0"}}"#,
            )?,
            Some(br#""server/discover""#) => output.write_all(
                br#","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"floor-stdio","version":"0"}}"#,
            )?,
            _ => output.write_all(br#","error":{"code":-32601,"message":"Method not found"}"#)?,
        }
        output.write_all(b"}\n")?;
    }
}

/// The raw values of `id` and `method` at the top level of one message, wherever they stand in it.
fn top_level(line: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let (mut id, mut method) = (None, None);
    let mut depth = 0_usize;
    let mut at = 0;
    // The key whose value is being read, and where that value begins.
    let mut key: &[u8] = b"";
    let mut from = None;
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => {
                let end = string_end(line, at);
                if depth == 1 && from.is_none() {
                    key = line.get(at..end).unwrap_or_default();
                }
                at = end;
                continue;
            }
            b':' if depth == 1 => from = Some(at + 1),
            b',' | b'}' if depth == 1 => {
                let value = from.take().and_then(|from| line.get(from..at)).map(<[u8]>::trim_ascii);
                match key {
                    br#""id""# => id = value,
                    br#""method""# => method = value,
                    _ => {}
                }
                depth -= usize::from(byte == b'}');
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    (id, method)
}

/// The position after the closing quote of the string which opens at `at`.
fn string_end(line: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        match line.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return line.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    //! The scanner must not be fooled: a floor that answers wrongly is no floor.

    use super::*;

    fn found(line: &str) -> (Option<&[u8]>, Option<&[u8]>) {
        top_level(line.as_bytes())
    }

    #[test]
    fn finds_the_id_first_last_and_past_nested_ones() {
        let list: Option<&[u8]> = Some(br#""tools/list""#);
        assert_eq!(found(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#), (Some(&b"7"[..]), list));
        assert_eq!(
            found(r#"{"method":"tools/list","params":{"id":1,"a":[{"id":2}]}, "id" : "x\",y" }"#),
            (Some(&br#""x\",y""#[..]), list)
        );
        assert_eq!(found(r#"{"method":"tools/list","params":{"x":"\"id\":3}"}}"#), (None, list));
    }

    #[test]
    fn survives_what_is_not_json() {
        for line in ["", "}", "]]", "{", "\"", "{\"id\":\"\\", "{\"id\"", "null\n"] {
            assert_eq!(found(line), (None, None), "{line}");
        }
    }

    #[test]
    fn answers_requests_and_no_notifications() {
        let input = concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            "\n",
            r#"{"jsonrpc":"2.0","method":"tools/list","id":"a"}"#,
            "\n",
            r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
        );
        let mut output = Vec::new();
        let done = answer_all(BufReader::new(input.as_bytes()), &mut output, br#"{"tools":[]}"#);
        assert!(done.is_ok());
        assert_eq!(
            String::from_utf8_lossy(&output),
            concat!(
                r#"{"jsonrpc":"2.0","id":"a","result":{"tools":[]}}"#,
                "\n",
                r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
                "\n",
            )
        );
    }
}
