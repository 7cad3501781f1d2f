//! A container's output: the engine's stream of frames taken apart, and lines put together from it. What is kept of
//! them is the caller's business: any amount may stream through, in bounded memory.
//!
//! The decoder is our own. bollard's takes the engine's own error frames (type 3) for text, a terminal's text that
//! begins with a byte below 3 for a frame, waits for whole frames of any size, and shows a cut frame as text.

use std::fmt::Write as _;
use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::timeout_at;

use super::client::{Call, Docker, after, late};
use super::model::Container;
use crate::error::{Fault, Kind};

/// The longest line that is kept whole; of a longer one the beginning.
const LONGEST_LINE: usize = 64 << 10;
/// Into pieces of this size the engine cuts longer lines when it stores them.
const PIECE: usize = 16 << 10;
/// Longer than any time the engine writes before a line.
const LONGEST_STAMP: usize = 40;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A terminal, where both are one.
    Tty,
}

/// One line of output, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// Where it came from.
    pub(crate) stream: Stream,
    /// When the engine got it, RFC 3339; if asked for.
    pub(crate) timestamp: Option<String>,
    /// The text; what is not UTF-8 is replaced. If it was too long, it ends with a note that says so.
    pub(crate) text: String,
    /// How many bytes were too many.
    pub(crate) left_out: u64,
}

/// Which lines.
#[derive(Clone, Debug)]
pub(crate) struct LogQuery {
    /// Only so many of the last ones (of both streams together); `None` is all.
    pub(crate) tail: Option<u32>,
    /// Only from this unix second on.
    pub(crate) since: Option<i64>,
    /// Only up to this unix second.
    pub(crate) until: Option<i64>,
    /// With the time of each.
    pub(crate) timestamps: bool,
    /// Those of standard output; a terminal's count as these.
    pub(crate) stdout: bool,
    /// Those of standard error.
    pub(crate) stderr: bool,
    /// How long reading may take in all.
    pub(crate) limit: Duration,
}

/// How reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// Why there was no more.
    pub(crate) because: Because,
    /// How many bytes the engine sent.
    pub(crate) bytes: u64,
    /// What the engine said went wrong while it read: lines may be missing then.
    pub(crate) engine_error: Option<String>,
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// All was read.
    Complete,
    /// The caller had enough.
    Stopped,
    /// The time was over; the lines so far were delivered.
    OutOfTime,
}

impl Docker {
    /// Reads a container's log, oldest line first, until its present end. Each line goes to `each`, which may stop it.
    pub(crate) async fn logs(
        &self,
        container: &Container,
        query: &LogQuery,
        mut each: impl FnMut(LogLine) -> ControlFlow<()> + Send,
    ) -> Result<LogEnd, Fault> {
        // Engines forget the end of a line that they cut into pieces, except with these drivers (Docker 20.10: `local`,
        // which also serves for drivers that cannot be read back). The times then tell which pieces are one line.
        let driver = container.log_driver.as_deref();
        let split = !container.tty && !matches!(driver, Some("json-file" | "journald" | "k8s-file"));
        let timestamps = query.timestamps || split;
        let mut path = format!(
            "/containers/{}/logs?stdout={}&stderr={}&timestamps={timestamps}",
            container.id, query.stdout, query.stderr
        );
        for (name, value) in [("tail", query.tail.map(i64::from)), ("since", query.since), ("until", query.until)] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={value}");
            }
        }
        let deadline = after(query.limit);
        let mut reader = Reader::new(container.tty, timestamps, split);
        let mut each = |mut line: LogLine| {
            if !query.timestamps {
                line.timestamp = None;
            }
            each(line)
        };
        let mut end = LogEnd { because: Because::Complete, bytes: 0, engine_error: None };
        let Ok(answer) = timeout_at(deadline, self.open(Call::get(path))).await else {
            return Err(late(query.limit, false));
        };
        let mut answer = answer?;
        loop {
            let piece = match timeout_at(deadline, answer.next()).await {
                Ok(piece) => piece?,
                Err(_) if end.bytes == 0 => return Err(late(query.limit, false)),
                Err(_) => {
                    end.because = Because::OutOfTime;
                    break;
                }
            };
            let Some(piece) = piece else { break };
            end.bytes += piece.len() as u64;
            if reader.feed(&piece, &mut each)?.is_break() {
                end.because = Because::Stopped;
                break;
            }
        }
        if end.because != Because::Stopped && reader.finish(&mut each).is_break() {
            end.because = Because::Stopped;
        }
        end.engine_error = reader.engine_error();
        Ok(end)
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The engine's own words about what went wrong.
    Engine,
}

/// Takes the engine's frames apart: 8 bytes of header (type, three zeros, length), then so many bytes. Holds at most one
/// header: what of a frame has come is handed on at once.
#[derive(Debug)]
pub(super) struct Frames {
    /// The header as far as it has come.
    header: [u8; 8],
    /// How much of it.
    have: usize,
    /// Whose bytes are coming.
    channel: Channel,
    /// How many of them are still to come.
    left: usize,
    /// Whether none of them has come.
    fresh: bool,
}

impl Frames {
    /// Before the first frame.
    pub(super) fn new() -> Self {
        Self { header: [0; 8], have: 0, channel: Channel::Stdout, left: 0, fresh: false }
    }

    /// Hands on what the bytes hold, with whether it is the beginning of a frame. Stops where `each` breaks off.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        each: &mut impl FnMut(Channel, bool, &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let take = bytes.len().min(8 - self.have);
                let (head, rest) = bytes.split_at(take);
                self.header[self.have..self.have + take].copy_from_slice(head);
                self.have += take;
                bytes = rest;
                if self.have == 8 {
                    self.have = 0;
                    self.fresh = true;
                    let [kind, zeros @ .., a, b, c, d] = self.header;
                    self.channel = match kind {
                        0 | 1 => Channel::Stdout,
                        2 => Channel::Stderr,
                        3 => Channel::Engine,
                        _ => return Err(no_frame()),
                    };
                    if zeros != [0; 3] {
                        return Err(no_frame());
                    }
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                }
                continue;
            }
            let take = bytes.len().min(self.left);
            let (part, rest) = bytes.split_at(take);
            self.left -= take;
            bytes = rest;
            if each(self.channel, mem::take(&mut self.fresh), part).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether it ended in the middle of a frame.
    pub(super) fn is_cut(&self) -> bool {
        self.have > 0 || self.left > 0
    }
}

/// The stream has lost its shape.
fn no_frame() -> Fault {
    Fault::new(Kind::Malformed, "the engine's output stream holds something that is not a frame")
}

/// From bytes of the network to lines.
struct Reader {
    /// Takes frames apart; a terminal's output has none.
    frames: Option<Frames>,
    /// The open line of standard output, or of the terminal.
    out: Line,
    /// The open line of standard error.
    err: Line,
    /// The engine's own words.
    engine: Vec<u8>,
}

impl Reader {
    /// For one answer.
    fn new(tty: bool, timestamps: bool, split: bool) -> Self {
        Self {
            frames: (!tty).then(Frames::new),
            out: Line::new(if tty { Stream::Tty } else { Stream::Stdout }, timestamps, split),
            err: Line::new(Stream::Stderr, timestamps, split),
            engine: Vec::new(),
        }
    }

    /// Hands on the lines that these bytes complete.
    fn feed(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(LogLine) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        let Self { frames, out, err, engine } = self;
        let Some(frames) = frames else { return Ok(out.feed(bytes, each)) };
        frames.feed(bytes, &mut |channel, fresh, part| {
            let line = match channel {
                Channel::Stdout => &mut *out,
                Channel::Stderr => &mut *err,
                Channel::Engine => {
                    let room = 4096_usize.saturating_sub(engine.len());
                    engine.extend_from_slice(&part[..part.len().min(room)]);
                    return ControlFlow::Continue(());
                }
            };
            if fresh {
                line.frame();
            }
            line.feed(part, each)
        })
    }

    /// Hands on the last lines, which have no end.
    fn finish(&mut self, each: &mut impl FnMut(LogLine) -> ControlFlow<()>) -> ControlFlow<()> {
        self.out.finish(each)?;
        self.err.finish(each)
    }

    /// What the engine said went wrong, or what its stream shows.
    fn engine_error(&self) -> Option<String> {
        if !self.engine.is_empty() {
            return Some(String::from_utf8_lossy(&self.engine).trim().to_owned());
        }
        let cut = self.frames.as_ref().is_some_and(Frames::is_cut);
        cut.then(|| "the engine's stream ended in the middle of a message".to_owned())
    }
}

/// The open line of one stream.
///
/// When times are asked for, the engine writes one at the beginning of each stored piece. A line longer than 16 KiB is
/// several pieces, so there are times in the middle of it, which belong to the engine and not to the text: with frames
/// each begins one; a terminal's are where a piece begins, and the same as the line's.
struct Line {
    /// Whose.
    stream: Stream,
    /// Whether there are times.
    timestamps: bool,
    /// Whether another time at the beginning of a frame begins a line, although the last one had no end.
    split: bool,
    /// The text as far as it is kept.
    kept: Vec<u8>,
    /// How long the text is.
    length: usize,
    /// Its time.
    stamp: Option<String>,
    /// Bytes that may be a time.
    maybe: Option<Vec<u8>>,
    /// Whether anything of it has come, be it only its time.
    open: bool,
}

impl Line {
    /// Before the first line.
    fn new(stream: Stream, timestamps: bool, split: bool) -> Self {
        let maybe = timestamps.then(Vec::new);
        Self { stream, timestamps, split, kept: Vec::new(), length: 0, stamp: None, maybe, open: false }
    }

    /// A frame begins.
    fn frame(&mut self) {
        self.undecided();
        if self.timestamps {
            self.maybe = Some(Vec::new());
        }
    }

    /// Takes bytes and hands on the lines they complete.
    fn feed(&mut self, mut bytes: &[u8], each: &mut impl FnMut(LogLine) -> ControlFlow<()>) -> ControlFlow<()> {
        while let Some(&first) = bytes.first() {
            self.open = true;
            if let Some(maybe) = &mut self.maybe {
                match first {
                    b' ' => {
                        bytes = &bytes[1..];
                        self.decide(each)?;
                    }
                    b'\n' => self.undecided(),
                    byte => {
                        bytes = &bytes[1..];
                        maybe.push(byte);
                        if maybe.len() > LONGEST_STAMP {
                            self.undecided();
                        }
                    }
                }
                continue;
            }
            // A terminal's text up to where the next piece begins; else all.
            let pieces = self.stream == Stream::Tty && self.stamp.is_some();
            let room = if pieces { PIECE - self.length % PIECE } else { bytes.len() };
            let window = &bytes[..bytes.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n');
            let text = &window[..end.unwrap_or(window.len())];
            self.text(text);
            bytes = &bytes[text.len()..];
            if end.is_some() {
                bytes = &bytes[1..];
                self.emit(each)?;
            } else if pieces && self.length.is_multiple_of(PIECE) {
                self.maybe = Some(Vec::new());
            }
        }
        ControlFlow::Continue(())
    }

    /// The last line, if it has no end.
    fn finish(&mut self, each: &mut impl FnMut(LogLine) -> ControlFlow<()>) -> ControlFlow<()> {
        self.undecided();
        if self.open { self.emit(each) } else { ControlFlow::Continue(()) }
    }

    /// A blank has come: were the bytes before it a time?
    fn decide(&mut self, each: &mut impl FnMut(LogLine) -> ControlFlow<()>) -> ControlFlow<()> {
        let bytes = self.maybe.take().unwrap_or_default();
        let same = self.stamp.as_ref().map(String::as_bytes) == Some(bytes.as_slice());
        if !is_stamp(&bytes) || (self.stream == Stream::Tty && self.stamp.is_some() && !same) {
            self.text(&bytes);
            self.text(b" ");
        } else if self.length == 0 && self.stamp.is_none() {
            self.stamp = Some(String::from_utf8_lossy(&bytes).into_owned());
        } else if self.split && self.stamp.is_some() && !same {
            self.emit(each)?;
            self.maybe = None;
            self.open = true;
            self.stamp = Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        ControlFlow::Continue(())
    }

    /// No blank comes any more: the bytes were text.
    fn undecided(&mut self) {
        if let Some(bytes) = self.maybe.take() {
            self.text(&bytes);
        }
    }

    /// Takes text, and keeps what there is room for.
    fn text(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        let room = LONGEST_LINE.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Hands on the line and begins the next.
    fn emit(&mut self, each: &mut impl FnMut(LogLine) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut kept = mem::take(&mut self.kept);
        if self.length > kept.len() {
            kept.truncate(whole(&kept));
        } else if self.stream == Stream::Tty && kept.last() == Some(&b'\r') {
            // A terminal ends its lines with both.
            kept.pop();
            self.length -= 1;
        }
        let left_out = (self.length - kept.len()) as u64;
        let mut text = lossy(kept);
        if left_out > 0 {
            let _ = write!(text, " [… {left_out} more bytes in this line]");
        }
        let line = LogLine { stream: self.stream, timestamp: self.stamp.take(), text, left_out };
        self.length = 0;
        self.open = false;
        self.maybe = self.timestamps.then(Vec::new);
        each(line)
    }
}

/// Whether it looks like `2026-11-22T18:44:09.951266658Z`. Podman writes an offset in place of the `Z`.
fn is_stamp(bytes: &[u8]) -> bool {
    bytes.len() >= 20
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            10 => *byte == b'T',
            13 | 16 => *byte == b':',
            0..19 => byte.is_ascii_digit(),
            _ => byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'+' | b'-' | b'Z'),
        })
}

/// How many of the bytes are left when a code point that is cut at the end is left away.
pub(super) fn whole(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let needs = match bytes[at] {
            0x80..0xC0 => continue,
            0xC2..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0..0xF5 => 4,
            _ => 1,
        };
        return if needs > back { at } else { bytes.len() };
    }
    bytes.len()
}

/// Bytes as text, without loss where they are UTF-8.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(text);
        bytes
    }

    /// Reads the pieces as they are given.
    fn read_split<'a>(
        tty: bool,
        timestamps: bool,
        split: bool,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<LogLine>, Option<String>) {
        let mut lines = Vec::new();
        let mut reader = Reader::new(tty, timestamps, split);
        let mut each = |line| {
            lines.push(line);
            ControlFlow::Continue(())
        };
        for piece in pieces {
            assert!(reader.feed(piece, &mut each).unwrap().is_continue());
        }
        assert!(reader.finish(&mut each).is_continue());
        (lines, reader.engine_error())
    }

    /// The same, where lines end as they should.
    fn read<'a>(
        tty: bool,
        timestamps: bool,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<LogLine>, Option<String>) {
        read_split(tty, timestamps, false, pieces)
    }

    /// Whole, cut in two at every byte, in three at many, and byte by byte: always the same.
    fn at_every_cut(tty: bool, timestamps: bool, bytes: &[u8]) -> Vec<LogLine> {
        let whole = read(tty, timestamps, [bytes]);
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(read(tty, timestamps, [a, b]), whole, "cut at {cut}");
            let (b, c) = b.split_at(b.len() / 2);
            assert_eq!(read(tty, timestamps, [a, b, c]), whole, "cut at {cut} and after");
        }
        assert_eq!(read(tty, timestamps, bytes.chunks(1)), whole);
        whole.0
    }

    fn short(lines: &[LogLine]) -> Vec<(Stream, &str)> {
        lines.iter().map(|line| (line.stream, line.text.as_str())).collect()
    }

    #[test]
    fn frames_are_taken_apart_at_every_cut() {
        use Stream::{Stderr, Stdout};
        let bytes = [
            frame(1, b"one\ntwo\npart"),
            frame(2, "e1 ä€😀\n".as_bytes()),
            frame(1, b""),
            frame(1, b" of three\n\n"),
            frame(2, b"bad \xff\xfe byte\r\n"),
            frame(1, "split 😀".as_bytes()[..7].as_ref()),
            frame(1, &"split 😀".as_bytes()[7..]),
            frame(2, b"no end"),
        ]
        .concat();
        let lines = at_every_cut(false, false, &bytes);
        assert_eq!(
            short(&lines),
            [
                (Stdout, "one"),
                (Stdout, "two"),
                (Stderr, "e1 ä€😀"),
                (Stdout, "part of three"),
                (Stdout, ""),
                (Stderr, "bad \u{fffd}\u{fffd} byte\r"),
                (Stdout, "split 😀"),
                (Stderr, "no end"),
            ]
        );
    }

    #[test]
    fn times_are_taken_off_also_within_a_line() {
        let t1 = "2026-11-22T18:44:09.951266658Z";
        let t2 = "2026-11-22T18:44:10.000000000Z";
        let bytes = [
            frame(1, format!("{t1} aaa").as_bytes()),
            frame(2, format!("{t2} err\n").as_bytes()),
            frame(1, format!("{t1} bbb\n").as_bytes()),
            frame(1, format!("{t2} \n").as_bytes()),
            frame(1, b"no time here\n"),
            frame(1, format!("{t2} {t1} in the text\n").as_bytes()),
        ]
        .concat();
        let lines = at_every_cut(false, true, &bytes);
        let seen: Vec<_> = lines.iter().map(|line| (line.timestamp.as_deref(), line.text.as_str())).collect();
        let in_the_text = format!("{t1} in the text");
        assert_eq!(
            seen,
            [
                (Some(t2), "err"),
                (Some(t1), "aaabbb"),
                (Some(t2), ""),
                (None, "no time here"),
                (Some(t2), in_the_text.as_str()),
            ]
        );
    }

    #[test]
    fn times_end_lines_whose_end_was_forgotten() {
        let (a, b) = ("2026-11-22T19:06:50.517303400Z", "2026-11-22T19:06:50.517404781Z");
        let bytes = [
            frame(1, format!("{a} xxx").as_bytes()),
            frame(1, format!("{a} xx").as_bytes()),
            frame(1, format!("{b} yyy").as_bytes()),
            frame(2, format!("{a} err").as_bytes()),
            frame(1, format!("{b} ").as_bytes()),
            frame(1, format!("{a} \n").as_bytes()),
            frame(1, format!("{b} {a} end\n").as_bytes()),
        ]
        .concat();
        let whole = read_split(false, true, true, [&bytes[..]]);
        for cut in 0..=bytes.len() {
            let (start, rest) = bytes.split_at(cut);
            assert_eq!(read_split(false, true, true, [start, rest]), whole, "cut at {cut}");
        }
        let seen: Vec<_> = whole.0.iter().map(|line| (line.timestamp.as_deref(), line.text.as_str())).collect();
        let last = format!("{a} end");
        assert_eq!(
            seen,
            [(Some(a), "xxxxx"), (Some(b), "yyy"), (Some(a), ""), (Some(b), last.as_str()), (Some(a), "err")]
        );
    }

    #[test]
    fn a_terminal_has_no_frames() {
        let bytes = "\u{1}\0\0\0\0\0\0\u{3}abc\r\nprogress 1\rprogress 2\r\n\r\nlast ä".as_bytes();
        let lines = at_every_cut(true, false, bytes);
        assert_eq!(
            short(&lines),
            [
                (Stream::Tty, "\u{1}\0\0\0\0\0\0\u{3}abc"),
                (Stream::Tty, "progress 1\rprogress 2"),
                (Stream::Tty, ""),
                (Stream::Tty, "last ä"),
            ]
        );
    }

    #[test]
    fn a_terminals_long_line_loses_the_times_of_its_pieces() {
        let t = "2026-11-22T18:44:09.951266658Z";
        let a = "a".repeat(PIECE);
        let bytes = format!("{t} {a}{t} {a}{t} end\r\n{t} next\r\n{t} {a}{}x y\r\n", &t[..20]);
        let expected = [format!("{a}{a}end"), "next".to_owned(), format!("{a}{}x y", &t[..20])];
        for size in [1, 7, 1000, PIECE, PIECE + 31, bytes.len()] {
            let (lines, error) = read(true, true, bytes.as_bytes().chunks(size));
            assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), expected, "pieces of {size}");
            assert!(lines.iter().all(|line| line.timestamp.as_deref() == Some(t)));
            assert_eq!(error, None);
        }
    }

    #[test]
    fn a_line_without_end_stays_small() {
        let mut reader = Reader::new(false, false, false);
        let mut lines = Vec::new();
        let mut each = |line: LogLine| {
            lines.push(line);
            ControlFlow::Continue(())
        };
        // One frame of 20 MB of a two-byte letter, with an odd beginning so that the limit cuts one.
        let size = 20_000_001_u32;
        let head = [&[1, 0, 0, 0][..], &size.to_be_bytes(), b"x"].concat();
        let _ = reader.feed(&head, &mut each).unwrap();
        let piece = "ä".repeat(50_000);
        for _ in 0..200 {
            let _ = reader.feed(piece.as_bytes(), &mut each).unwrap();
            assert!(reader.out.kept.capacity() <= 2 * LONGEST_LINE);
        }
        let _ = reader.finish(&mut each);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].left_out, 20_000_001 - (LONGEST_LINE as u64 - 1));
        assert!(lines[0].text.starts_with("xää") && lines[0].text.ends_with("ä [… 19934466 more bytes in this line]"));
    }

    #[test]
    fn what_the_engine_says_is_not_a_line() {
        let bytes = [frame(1, b"line\n"), frame(3, b"Error grabbing logs: invalid character 'x'\n")].concat();
        let (lines, error) = read(false, false, [&bytes[..]]);
        assert_eq!(short(&lines), [(Stream::Stdout, "line")]);
        assert_eq!(error.as_deref(), Some("Error grabbing logs: invalid character 'x'"));
        let (_, error) = read(false, false, [&frame(1, b"line\n")[..10]]);
        assert!(error.unwrap().contains("middle of a message"));
    }

    #[test]
    fn what_is_not_a_frame_is_said() {
        let mut reader = Reader::new(false, false, false);
        let fault = reader.feed(b"plain text", &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(fault.kind, Kind::Malformed);
    }

    #[test]
    fn a_cut_code_point_is_left_away() {
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"ab", 2),
            ("aä".as_bytes(), 3),
            (&"aä".as_bytes()[..2], 1),
            (&"a😀".as_bytes()[..4], 1),
            (&"a😀".as_bytes()[..3], 1),
            ("a😀".as_bytes(), 5),
            (b"a\xff", 2),
            (b"\x80\x80\x80\x80", 4),
        ] {
            assert_eq!(whole(bytes), expected, "{bytes:?}");
        }
    }
}
