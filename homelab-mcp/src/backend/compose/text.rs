//! A compose file as text: masked for reading, restored for writing, and compared.
//!
//! A secret becomes a keyed placeholder such as `[redacted:0f3a9c21b7]`; everything else, comments
//! and layout included, stays to the letter. Restoring puts the secrets of the present file back
//! and proves by parsing that each stands as a value where its placeholder stood. What looks like
//! a secret is decided by [`crate::redact`]; reading and writing files is left to the callers.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::LazyLock;

use hmac::{Hmac, KeyInit, Mac};
use regex::Regex;
use saphyr_parser::{Event, Parser, ScalarStyle};
use sha2::Sha256;
use similar::TextDiff;

use crate::redact::{
    MASK, closing, mask_text, merge, secret_key, secret_option, secret_pair, secret_spans, split_pair,
};

/// What the reply layer writes where it shortened a text; a text that holds it must not be written.
pub(crate) const CUT_MARK: &str = "[cut: ";

/// Masks and restores with placeholders that only the holder of the key can compute.
pub(crate) struct Masker {
    key: [u8; 32],
}

/// A text whose secrets are masked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Masked {
    /// The text as it may be shown.
    pub(crate) text: String,
    /// How many places were masked.
    pub(crate) masked: usize,
}

/// A text whose secrets are back in place.
#[derive(PartialEq, Eq)]
pub(crate) struct Restored {
    /// The text as it is to be written; it holds secrets.
    pub(crate) text: String,
    /// How many placeholders were replaced.
    pub(crate) restored: usize,
}

/// Why placeholders could not be replaced. The sentences are for the caller and hold no secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RestoreError {
    /// The text was shortened by the reply layer.
    #[error(
        "line {line} holds `{CUT_MARK}…`: the text was shortened when it was read. Read the file in full and send it complete."
    )]
    Cut {
        /// Counted from 1.
        line: usize,
    },
    /// A placeholder that no secret of the present file has.
    #[error(
        "line {line}: {placeholder} stands for no secret of the present file. Read the file again and copy the placeholder exactly as it was read, or write the new value itself."
    )]
    Unknown {
        /// Counted from 1.
        line: usize,
        /// As it stands in the text.
        placeholder: String,
    },
    /// Placeholders can only be replaced in a text that parses.
    #[error(
        "line {line}: the text is no valid YAML ({reason}). Correct it and send it again; keep the placeholders exactly as they were read."
    )]
    Invalid {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// The secret would not be a value there.
    #[error(
        "line {line}: the secret behind {placeholder} cannot stand there. Keep the placeholder exactly as it was read, with the same quotes and layout around it."
    )]
    Misplaced {
        /// Counted from 1.
        line: usize,
        /// As it stands in the text.
        placeholder: String,
    },
    /// The secret would be readable there.
    #[error(
        "line {line}: the secret behind {placeholder} would be shown to every reader there. Keep the placeholder under the key it was read at, or under another name that says it is a secret."
    )]
    Exposed {
        /// Counted from 1.
        line: usize,
        /// As it stands in the text.
        placeholder: String,
    },
}

/// A unified diff of two texts.
pub(crate) fn diff(old: &str, new: &str, name: &str) -> String {
    TextDiff::from_lines(old, new)
        .unified_diff()
        .context_radius(3)
        .header(&format!("a/{name}"), &format!("b/{name}"))
        .to_string()
}

impl Masker {
    /// A masker; two of the same key give the same placeholders.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Masks the secrets of a compose file, also of one that does not parse.
    pub(crate) fn mask(&self, yaml: &str) -> Masked {
        let secrets = secrets(yaml);
        let mut text = String::with_capacity(yaml.len());
        let mut done = 0;
        for secret in &secrets {
            text.push_str(&yaml[done..secret.range.start]);
            text.push_str(&self.placeholder(&yaml[secret.range.clone()]));
            done = secret.range.end;
        }
        text.push_str(&yaml[done..]);
        Masked { text, masked: secrets.len() }
    }

    /// Puts the secrets of the present file into the new text, wherever their placeholders are.
    ///
    /// A placeholder may move and its surroundings may change from a list to a mapping or from one
    /// kind of quotes to another, but it has to stay where its secret is masked again: otherwise
    /// moving it under a harmless key and reading the file would show the secret.
    ///
    /// # Errors
    /// If the text was cut, holds an unknown placeholder or no valid YAML, or if a secret would not
    /// be the same value there.
    pub(crate) fn restore(&self, new_text: &str, present: &str) -> Result<Restored, RestoreError> {
        if let Some(at) = new_text.find(CUT_MARK) {
            return Err(RestoreError::Cut { line: line_of(new_text, at) });
        }
        let unchanged = self.mask(present);
        if unchanged.text == new_text {
            return Ok(Restored { text: present.to_owned(), restored: unchanged.masked });
        }
        let known = self.known(present);
        let places = places(new_text, &known)?;
        if places.is_empty() {
            return Ok(Restored { text: new_text.to_owned(), restored: 0 });
        }
        let text = Restorer::new(new_text, &places).run()?;
        Ok(Restored { text, restored: places.len() })
    }

    /// Masks every value of an `.env` file, whatever its key is called.
    pub(crate) fn mask_env_file(&self, text: &str) -> Masked {
        let mut masked = Masked { text: String::with_capacity(text.len()), masked: 0 };
        let mut rest = text;
        while !rest.is_empty() {
            rest = env_line(rest, &mut masked);
        }
        masked
    }

    /// [`diff`] with the secrets of both masked.
    ///
    /// A changed secret is a changed placeholder, so its line is still shown as changed.
    pub(crate) fn diff(&self, old: &str, new: &str, name: &str) -> String {
        diff(&self.mask(old).text, &self.mask(new).text, name)
    }

    /// The secrets of a file by their placeholders. Secrets that are written alike have the same
    /// placeholder, and may still mean different values within different quotes.
    fn known(&self, text: &str) -> HashMap<String, Vec<Source>> {
        let mut known: HashMap<String, Vec<Source>> = HashMap::new();
        for Secret { range, value, form } in secrets(text) {
            let column = content_column(text, range.start);
            let raw = text[range].to_owned();
            known.entry(self.placeholder(&raw)).or_default().push(Source { raw, value, form, column });
        }
        known
    }

    fn placeholder(&self, raw: &str) -> String {
        // HMAC pads its key with zeros to the length of a block; done here, it cannot fail.
        let mut block = [0; 64];
        block[..self.key.len()].copy_from_slice(&self.key);
        let digest = Hmac::<Sha256>::new(&block.into()).chain_update(raw).finalize().into_bytes();
        let mut placeholder = "[redacted:".to_owned();
        for byte in &digest[..5] {
            // Writing to a string cannot fail.
            let _ = write!(placeholder, "{byte:02x}");
        }
        placeholder + "]"
    }
}

// --- Finding ---------------------------------------------------------------------------------

/// A secret in a text.
#[derive(Debug)]
struct Secret {
    range: Range<usize>,
    /// What the parser makes of it.
    value: String,
    form: Form,
}

/// How a secret is written, and so where its source can be pasted as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A plain scalar or a part of one.
    Plain {
        flow: bool,
        whole: bool,
    },
    /// Between single quotes.
    Single,
    /// Between double quotes.
    Double,
    /// Within a block scalar that is indented so far.
    Block {
        indent: usize,
    },
    /// A scalar together with its quotes.
    Quoted,
    /// A block scalar together with its header.
    BlockNode,
    Comment,
}

/// The secrets of a compose file in the order of the text, without overlaps.
fn secrets(text: &str) -> Vec<Secret> {
    let Ok(nodes) = parse(text) else {
        return secret_lines(text).into_iter().map(|range| unparsed(text, range)).collect();
    };
    let mut secrets = Finder::new(text, &nodes).run();
    for comment in comments(text, &nodes) {
        let found = line_secrets(&text[comment.clone()]);
        secrets.extend(found.into_iter().map(|span| {
            let range = comment.start + span.start..comment.start + span.end;
            Secret { value: text[range.clone()].to_owned(), range, form: Form::Comment }
        }));
    }
    secrets.sort_by_key(|secret| secret.range.start);
    secrets
}

/// A secret of a file that does not parse: its value is what a parser makes of it alone.
fn unparsed(text: &str, range: Range<usize>) -> Secret {
    let raw = &text[range.clone()];
    let alone = parse(raw).ok().and_then(|nodes| {
        let mut scalars = nodes.into_iter().filter_map(|node| node.scalar);
        scalars.next().filter(|scalar| scalar.range == (0..raw.len()))
    });
    match alone {
        Some(scalar) if scalar.is_quoted() => Secret { range, value: scalar.value, form: Form::Quoted },
        _ => Secret { value: raw.to_owned(), range, form: Form::Plain { flow: false, whole: true } },
    }
}

/// Walks a document and finds the scalars that are secrets or hold some.
struct Finder<'a> {
    text: &'a str,
    nodes: &'a [Node<'a>],
    frames: Vec<Frame>,
    /// Anchors whose aliases stand under a secret key.
    shared: HashSet<usize>,
}

/// A collection that is being walked.
enum Frame {
    /// The key whose value is next, if it has been read.
    Mapping(Option<String>),
    /// The key that the sequence belongs to, and the option that the last item was.
    Sequence(String, Option<String>),
}

impl<'a> Finder<'a> {
    fn new(text: &'a str, nodes: &'a [Node<'a>]) -> Self {
        let mut finder = Self { text, nodes, frames: Vec::new(), shared: HashSet::new() };
        for node in nodes {
            if let (Event::Alias(anchor), Some(Frame::Mapping(Some(key)))) = (&node.event, finder.frames.last())
                && secret_key(key)
            {
                finder.shared.insert(*anchor);
            }
            finder.step(node);
        }
        finder
    }

    fn run(mut self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        for node in self.nodes {
            if let Some(scalar) = &node.scalar {
                secrets.extend(self.scalar(scalar));
            }
            self.step(node);
        }
        secrets
    }

    /// Keeps account of where the next node stands.
    fn step(&mut self, node: &Node<'_>) {
        let value = match &node.event {
            Event::MappingStart(..) => return self.frames.push(Frame::Mapping(None)),
            Event::SequenceStart(..) => {
                let key = match self.frames.last() {
                    Some(Frame::Mapping(Some(key))) => key.clone(),
                    _ => String::new(),
                };
                return self.frames.push(Frame::Sequence(key, None));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                self.frames.pop();
                None
            }
            Event::Scalar(value, ..) => Some(value.as_ref()),
            Event::Alias(_) => None,
            _ => return,
        };
        match self.frames.last_mut() {
            Some(Frame::Mapping(key)) => {
                *key = if key.is_some() { None } else { Some(value.unwrap_or_default().to_owned()) };
            }
            Some(Frame::Sequence(_, option)) => *option = value.and_then(secret_option).map(str::to_owned),
            None => {}
        }
    }

    fn scalar(&self, scalar: &Scalar) -> Vec<Secret> {
        let (secret, item) = match self.frames.last() {
            Some(Frame::Mapping(Some(key))) => (self.names_secret(key, &scalar.value), false),
            Some(Frame::Sequence(key, option)) => {
                let argument = option.as_ref().is_some_and(|option| secret_pair(option, &scalar.value));
                // `secrets:` lists names, of which some look like keys.
                let listed = key != "secrets" && secret_pair(key, &scalar.value) && split_pair(&scalar.value).is_none();
                (argument && !scalar.value.starts_with('-') || listed, true)
            }
            _ => (false, false),
        };
        if secret || self.shared.contains(&scalar.anchor) && !scalar.value.is_empty() {
            return vec![scalar.whole()];
        }
        let view = View::new(self.text, scalar);
        let spans = match split_pair(&view.text) {
            Some((key, value)) if item && secret_pair(key, value) => {
                std::iter::once(view.text.len() - value.len()..view.text.len()).collect()
            }
            _ => secret_spans(&view.text),
        };
        let parts: Option<Vec<Secret>> = spans.into_iter().map(|span| view.part(scalar, span)).collect();
        parts.unwrap_or_else(|| vec![scalar.whole()])
    }

    /// Of the attributes that a compose file itself defines, only the names of hosts can look like
    /// the keys of secrets.
    fn names_secret(&self, key: &str, value: &str) -> bool {
        let parent = self.frames.iter().rev().nth(1);
        let names_hosts = matches!(parent, Some(Frame::Mapping(Some(parent))) if parent == "extra_hosts");
        !names_hosts && secret_pair(key, value)
    }
}

/// The text of a scalar with its escapes resolved, and where each of its bytes comes from.
struct View<'a> {
    source: &'a str,
    text: String,
    /// The byte of the source for each byte of the text, and one for its end.
    origin: Vec<usize>,
}

impl<'a> View<'a> {
    fn new(source: &'a str, scalar: &Scalar) -> Self {
        let inner = scalar.inner();
        let mut view = Self { source, text: String::new(), origin: Vec::new() };
        let mut at = inner.start;
        while let Some(c) = source.get(at..inner.end).and_then(|rest| rest.chars().next()) {
            let (length, resolved) = match (scalar.style, c) {
                (ScalarStyle::SingleQuoted, '\'') => (2, Some('\'')),
                (ScalarStyle::DoubleQuoted, '\\') => escape(&source[at..inner.end]),
                _ => (c.len_utf8(), Some(c)),
            };
            if let Some(c) = resolved {
                view.text.push(c);
                view.origin.resize(view.text.len(), at);
            }
            at = (at + length).min(inner.end);
        }
        view.origin.push(inner.end);
        view
    }

    /// The secret at a span of the view; none if it cannot be told from the lines it is folded into.
    fn part(&self, scalar: &Scalar, span: Range<usize>) -> Option<Secret> {
        let range = self.origin[span.start]..self.origin[span.end];
        let raw = &self.source[range.clone()];
        let value = match scalar.style {
            ScalarStyle::Literal => dedent(raw, scalar.indent),
            _ if raw.contains(['\n', '\r']) => return None,
            _ => self.text[span].to_owned(),
        };
        let whole = range == scalar.range;
        scalar.value.contains(&value).then_some(Secret { range, value, form: scalar.form(whole) })
    }
}

/// The length of an escape sequence and what it stands for; nothing for an escaped line break.
fn escape(text: &str) -> (usize, Option<char>) {
    let Some(code) = text.chars().nth(1) else {
        return (1, None);
    };
    let digits = match code {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    let resolved = match code {
        _ if digits > 0 => text.get(2..2 + digits).and_then(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?)),
        '0' => Some('\0'),
        'a' => Some('\x07'),
        'b' => Some('\x08'),
        't' | '\t' => Some('\t'),
        'n' => Some('\n'),
        'v' => Some('\x0b'),
        'f' => Some('\x0c'),
        'r' => Some('\r'),
        'e' => Some('\x1b'),
        'N' => Some('\u{85}'),
        '_' => Some('\u{a0}'),
        'L' => Some('\u{2028}'),
        'P' => Some('\u{2029}'),
        '\n' | '\r' => None,
        other => Some(other),
    };
    (1 + code.len_utf8() + digits, resolved)
}

fn dedent(raw: &str, indent: usize) -> String {
    let mut lines = raw.lines();
    let mut text = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        text.push('\n');
        let blank = line.len() - line.trim_start_matches(' ').len();
        text.push_str(&line[blank.min(indent)..]);
    }
    text
}

// --- Finding without a parser ----------------------------------------------------------------

/// `KEY: value`, `- KEY=value`, `# export KEY="value"`: the key and what stands behind it.
static LINE_PAIR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"^[\s\x{feff}#-]*(?:export\s+)?(?<quote>["']?)(?<key>[A-Za-z_][A-Za-z0-9_./-]*)["']?\s*(?:=|:(?:\s|$))\s*(?:[&!]\S+\s+)*(?<value>.*?)\s*$"#,
    )
    .ok()
});

/// A command line option and its value within brackets.
static OPTION_ITEM: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"["']?(?<option>--?[A-Za-z][A-Za-z0-9._-]*)["']?[ \t]*,[ \t]*"#).ok());

/// The value behind a secret key on a line, with its quotes.
fn line_value(line: &str) -> Option<(&str, Range<usize>)> {
    let found = LINE_PAIR.as_ref()?.captures(line)?;
    let (quote, key, value) = (found.name("quote")?.as_str(), found.name("key")?.as_str(), found.name("value")?);
    let mut end = value.end();
    if !quote.is_empty() && value.as_str().ends_with(quote) && !value.as_str().starts_with(quote) {
        end -= 1; // "KEY=value": the quote belongs to both
    }
    if let Some(mark @ ('"' | '\'')) = value.as_str().chars().next()
        && let Some(length) = closing(value.as_str(), mark)
        && value.as_str()[length..]
            .trim_start_matches([' ', '\t', ',', '}', ']'])
            .trim_start()
            .chars()
            .next()
            .is_none_or(|c| c == '#')
    {
        end = value.start() + length;
    }
    Some((key, value.start()..end))
}

/// The secrets of a comment or of a line that nothing is known about.
fn line_secrets(line: &str) -> Vec<Range<usize>> {
    let mut spans = secret_spans(line);
    spans.extend(line_value(line).filter(|(key, span)| secret_pair(key, &line[span.clone()])).map(|(_, span)| span));
    merge(spans)
}

/// The secrets of a text that does not parse. It masks rather more than a parser would: what
/// continues a masked line is masked too.
fn secret_lines(text: &str) -> Vec<Range<usize>> {
    let mut spans = secret_spans(text);
    let mut open: Option<(usize, bool)> = None; // indentation of a masked value, and whether it is a block
    let mut option: Option<&str> = None; // the item of the line before
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        let indent = content.len() - content.trim_start().len();
        let item = content[indent..].strip_prefix("- ").map(str::trim_start);
        let argument = item.zip(option).filter(|(item, _)| !item.starts_with('-'));
        let pair = match argument {
            Some((item, option)) => Some((option, content.len() - item.len()..content.len())),
            None => line_value(content),
        };
        let inside = open.is_some_and(|(depth, block)| indent > depth && (block || pair.is_none() && item.is_none()));
        if content.is_empty() {
            // An empty line ends nothing.
        } else if inside {
            spans.push(start + indent..start + content.len());
        } else {
            open = None;
            option = item.and_then(|item| secret_option(item.trim_matches(['"', '\''])));
            if let Some((key, value)) = pair {
                let secret = &content[value.clone()];
                let block = secret.starts_with(['|', '>']) && (secret_key(key) || argument.is_some());
                if block || secret_pair(key, secret) {
                    open = Some((indent, block));
                    spans.push(start + value.start..start + value.end);
                }
            }
        }
        start += line.len();
    }
    for found in OPTION_ITEM.iter().flat_map(|option| option.captures_iter(text)) {
        let (Some(item), Some(option)) = (found.get(0), found.name("option")) else {
            continue;
        };
        let line = text[item.end()..].lines().next().unwrap_or_default();
        let quote = line.chars().next().filter(|c| matches!(c, '"' | '\''));
        let length = quote.and_then(|quote| closing(line, quote));
        let value = length.or_else(|| line.find([',', ']'])).map_or(line, |length| &line[..length]).trim_end();
        let secret = secret_option(option.as_str()).is_some_and(|option| secret_pair(option, value));
        if secret && !value.starts_with('-') {
            spans.push(item.end()..item.end() + value.len());
        }
    }
    merge(spans)
}

// --- Parsing ---------------------------------------------------------------------------------

/// An event of the parser; for a scalar, with its exact place in the text.
struct Node<'a> {
    event: Event<'a>,
    scalar: Option<Scalar>,
}

struct Scalar {
    /// The bytes from quote to quote, or from the header of a block to its last line; without tags
    /// and anchors.
    range: Range<usize>,
    /// The bytes of a block scalar without its header.
    content: Range<usize>,
    value: String,
    style: ScalarStyle,
    anchor: usize,
    /// Of the lines of a block scalar.
    indent: usize,
    /// Within `{…}` or `[…]`.
    flow: bool,
}

impl Scalar {
    fn is_quoted(&self) -> bool {
        matches!(self.style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted)
    }

    fn is_block(&self) -> bool {
        matches!(self.style, ScalarStyle::Literal | ScalarStyle::Folded)
    }

    /// The bytes without quotes or header.
    fn inner(&self) -> Range<usize> {
        if self.is_quoted() { self.range.start + 1..self.range.end - 1 } else { self.content.clone() }
    }

    fn whole(&self) -> Secret {
        let form = if self.is_quoted() {
            Form::Quoted
        } else if self.is_block() {
            Form::BlockNode
        } else {
            self.form(true)
        };
        Secret { range: self.range.clone(), value: self.value.clone(), form }
    }

    /// The form of a part of the scalar.
    fn form(&self, whole: bool) -> Form {
        match self.style {
            ScalarStyle::Plain => Form::Plain { flow: self.flow, whole },
            ScalarStyle::SingleQuoted => Form::Single,
            ScalarStyle::DoubleQuoted => Form::Double,
            ScalarStyle::Literal | ScalarStyle::Folded => Form::Block { indent: self.indent },
        }
    }
}

/// Why a text does not parse.
struct Invalid<'a> {
    line: usize,
    reason: String,
    /// What came before.
    nodes: Vec<Node<'a>>,
}

/// Parses a text; the parser counts characters, here everything is in bytes.
fn parse(text: &str) -> Result<Vec<Node<'_>>, Invalid<'_>> {
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut flows: Vec<bool> = Vec::new();
    let mut done = 0; // where the last token ended
    for item in Parser::new_from_str(text) {
        let (event, span) = match item {
            Ok(item) => item,
            Err(error) => {
                return Err(Invalid { line: error.marker().line(), reason: error.info().to_owned(), nodes });
            }
        };
        let (start, end) = (byte(span.start.index()), byte(span.end.index()).max(byte(span.start.index())));
        let mut scalar = None;
        match &event {
            Event::Scalar(value, style, anchor, _) => {
                let Some((range, content)) = scalar_range(text, *style, start..end, done) else {
                    let reason = "a quoted string could not be located".to_owned();
                    return Err(Invalid { line: span.start.line(), reason, nodes });
                };
                done = range.end;
                scalar = Some(Scalar {
                    range,
                    content,
                    value: value.to_string(),
                    style: *style,
                    anchor: *anchor,
                    indent: span.start.col(),
                    flow: flows.last() == Some(&true),
                });
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                flows.push(end > start && text[skip_properties(text, start)..].starts_with(['{', '[']));
                done = done.max(end);
            }
            Event::MappingEnd | Event::SequenceEnd => {
                flows.pop();
                done = done.max(end);
            }
            // Where nothing marks the start of a document, the span is that of its first token.
            Event::DocumentStart(false) => {}
            _ => done = done.max(end),
        }
        nodes.push(Node { event, scalar });
    }
    Ok(nodes)
}

/// The exact range of a scalar and of its content. The parser's span takes in tags and anchors, for
/// quoted scalars also what follows on the line, and begins a block scalar after its header.
fn scalar_range(
    text: &str,
    style: ScalarStyle,
    span: Range<usize>,
    done: usize,
) -> Option<(Range<usize>, Range<usize>)> {
    match style {
        ScalarStyle::Plain => {
            let start = skip_properties(text, span.start).min(span.end);
            Some((start..span.end, start..span.end))
        }
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
            let start = skip_properties(text, span.start);
            let quote = if style == ScalarStyle::SingleQuoted { '\'' } else { '"' };
            let quoted = text[start..].starts_with(quote).then_some(&text[start..])?;
            let end = start + closing(quoted, quote)?;
            Some((start..end, start..end))
        }
        ScalarStyle::Literal | ScalarStyle::Folded => {
            let header = block_header(text, done.min(span.start), span.end);
            let end = span.start + text[span.clone()].trim_end().len();
            Some((header..end.max(header), span.start..end))
        }
    }
}

/// Behind the tags and anchors, comments and line breaks before a scalar.
fn skip_properties(text: &str, mut at: usize) -> usize {
    const BLANK: [char; 5] = [' ', '\t', '\n', '\r', '\u{feff}']; // others may be part of a name
    loop {
        let rest = &text[at..];
        let ends_name = |c: char| BLANK.contains(&c) || ",[]{}".contains(c);
        at += match rest.chars().next() {
            Some(c) if BLANK.contains(&c) => c.len_utf8(),
            Some('!') if rest.starts_with("!<") => rest.find('>').map_or(rest.len(), |end| end + 1),
            Some('!' | '&') => rest.find(ends_name).unwrap_or(rest.len()),
            Some('#') => rest.find('\n').unwrap_or(rest.len()),
            _ => return at,
        };
    }
}

/// Where the `|` or `>` of a block scalar stands: after the last token only indicators, properties
/// and comments come before it.
fn block_header(text: &str, mut at: usize, end: usize) -> usize {
    while at < end {
        at = skip_properties(text, at);
        match text[at..].chars().next() {
            Some('|' | '>') | None => break,
            Some(c) => at += c.len_utf8(),
        }
    }
    at.min(end)
}

/// The comments of a text, from the `#` to the end of the line.
fn comments(text: &str, nodes: &[Node<'_>]) -> Vec<Range<usize>> {
    let mut comments = Vec::new();
    let mut at = 0;
    let ends = nodes.iter().filter_map(|node| node.scalar.as_ref()).map(|scalar| scalar.range.clone());
    for scalar in ends.chain(std::iter::once(text.len()..text.len())) {
        while let Some(mark) = text.get(at..scalar.start).and_then(|gap| gap.find('#')).map(|found| at + found) {
            let end = text[mark..].find(['\n', '\r']).map_or(text.len(), |length| mark + length);
            if text[..mark].chars().next_back().is_none_or(|c| c.is_whitespace() || c == '\u{feff}') {
                comments.push(mark..end);
                at = end;
            } else {
                at = mark + 1;
            }
        }
        at = at.max(scalar.end);
    }
    comments
}

// --- Restoring -------------------------------------------------------------------------------

/// A secret of the present file, to be written somewhere.
struct Source {
    raw: String,
    value: String,
    form: Form,
    /// Of the content of the line it stands on.
    column: usize,
}

/// A placeholder in the new text and the secrets it can stand for.
struct Place<'a> {
    range: Range<usize>,
    sources: &'a [Source],
}

/// Finds the placeholders of a text.
fn places<'a>(text: &str, known: &'a HashMap<String, Vec<Source>>) -> Result<Vec<Place<'a>>, RestoreError> {
    static MARK: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?i)\[redacted(?::?[0-9a-z.…]{0,40}\]?)").ok());
    let found = MARK.iter().flat_map(|mark| mark.find_iter(text));
    found
        .map(|mark| match known.get(mark.as_str()) {
            Some(sources) => Ok(Place { range: mark.range(), sources }),
            None => {
                Err(RestoreError::Unknown { line: line_of(text, mark.start()), placeholder: mark.as_str().to_owned() })
            }
        })
        .collect()
}

/// Writes the secrets into a text.
///
/// A placeholder is itself no neutral YAML: alone it is a list, within one a syntax error. So each is
/// first replaced by a word; the text with the words shows in which scalars they stand and, with
/// the values for the words, what the finished text has to parse to.
struct Restorer<'a> {
    text: &'a str,
    places: &'a [Place<'a>],
    worded: String,
    /// What all words begin with, and nothing else in the text does.
    prefix: String,
    output: String,
    /// The secrets in the output: where each is and which place it fills.
    written: Vec<(Range<usize>, usize)>,
    /// The value that was chosen for each place.
    values: Vec<&'a str>,
}

impl<'a> Restorer<'a> {
    fn new(text: &'a str, places: &'a [Place<'a>]) -> Self {
        let mut prefix = "placeholder".to_owned();
        while text.contains(&prefix) {
            prefix.push('q');
        }
        let mut worded = String::with_capacity(text.len());
        let mut done = 0;
        for (index, place) in places.iter().enumerate() {
            worded.push_str(&text[done..place.range.start]);
            let _ = write!(worded, "{prefix}{index}z");
            done = place.range.end;
        }
        worded.push_str(&text[done..]);
        let values = vec![""; places.len()];
        Self { text, places, worded, prefix, output: String::new(), written: Vec::new(), values }
    }

    fn run(mut self) -> Result<String, RestoreError> {
        let worded = std::mem::take(&mut self.worded);
        let nodes = parse(&worded).map_err(|Invalid { line, reason, .. }| RestoreError::Invalid { line, reason })?;
        let mut done = 0;
        let scalars = nodes.iter().filter_map(|node| node.scalar.as_ref());
        let comments = comments(&worded, &nodes);
        for scalar in scalars {
            if !worded[scalar.range.clone()].contains(&self.prefix) {
                continue;
            }
            self.outside(&worded, done..scalar.range.start, &comments)?;
            self.scalar(&worded, scalar);
            done = scalar.range.end;
        }
        self.outside(&worded, done..worded.len(), &comments)?;
        self.verify(&nodes)?;
        Ok(self.output)
    }

    /// The words in a text: their ranges and places.
    fn words(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        let found = text.match_indices(&self.prefix).filter_map(|(start, _)| {
            let number = start + self.prefix.len();
            let end = number + text[number..].find('z')?;
            Some((start..end + 1, text[number..end].parse().ok()?))
        });
        found.collect()
    }

    /// Copies what stands between two scalars, where secrets can only stand in comments.
    fn outside(&mut self, worded: &str, gap: Range<usize>, comments: &[Range<usize>]) -> Result<(), RestoreError> {
        let text = &worded[gap.clone()];
        let mut done = 0;
        for (word, index) in self.words(text) {
            let at = gap.start + word.start;
            let source = self.choose(index, Form::Comment);
            if source.value.contains(['\n', '\r']) || !comments.iter().any(|comment| comment.contains(&at)) {
                return Err(self.misplaced(index));
            }
            self.output.push_str(&text[done..word.start]);
            self.write(&source.value, index);
            done = word.end;
        }
        self.output.push_str(&text[done..]);
        Ok(())
    }

    /// Writes a scalar with secrets in it.
    fn scalar(&mut self, worded: &str, scalar: &Scalar) {
        let raw = &worded[scalar.range.clone()];
        let words = self.words(raw);
        let whole = words.len() == 1
            && self.words(&scalar.value).first().is_some_and(|(word, _)| *word == (0..scalar.value.len()));
        let context = scalar.form(whole);
        if let (true, [(_, index)]) = (whole, words.as_slice())
            && self.node(worded, scalar, *index)
        {
            return;
        }
        let chosen: Vec<&Source> = words.iter().map(|(_, index)| self.choose(*index, context)).collect();
        let pasted: Option<Vec<String>> = chosen.iter().map(|source| paste(source, context)).collect();
        let Some(pasted) = pasted else {
            return self.quoted(scalar);
        };
        let mut done = 0;
        for ((word, index), secret) in words.into_iter().zip(pasted) {
            self.output.push_str(&raw[done..word.start]);
            self.write(&secret, index);
            done = word.end;
        }
        self.output.push_str(&raw[done..]);
    }

    /// Writes a secret that brings its own quotes or its header in the place of a whole scalar.
    fn node(&mut self, worded: &str, scalar: &Scalar, index: usize) -> bool {
        let fits = |source: &&Source| match source.form {
            Form::Quoted => true,
            Form::BlockNode => !scalar.flow,
            _ => false,
        };
        let column = content_column(worded, scalar.range.start);
        let sources = self.places[index].sources.iter().filter(fits);
        let Some(source) = sources.min_by_key(|source| source.column.abs_diff(column)) else {
            return false;
        };
        self.values[index] = &source.value;
        let start = self.output.len();
        if source.form == Form::BlockNode {
            self.output.push_str(&reindent(&source.raw, source.column, column));
            self.written.push((start..self.output.len(), index));
        } else {
            self.output.push_str(&source.raw);
            self.written.push((start + 1..self.output.len() - 1, index));
        }
        true
    }

    /// Writes a scalar in double quotes, which can hold everything.
    fn quoted(&mut self, scalar: &Scalar) {
        let mut done = 0;
        self.output.push('"');
        for (word, index) in self.words(&scalar.value) {
            self.output.push_str(&double_quoted(&scalar.value[done..word.start]));
            let source = self.choose(index, Form::Double);
            self.write(&double_quoted(&source.value), index);
            done = word.end;
        }
        self.output.push_str(&double_quoted(&scalar.value[done..]));
        self.output.push('"');
    }

    /// The secret for a place: rather one that is written the same way.
    fn choose(&mut self, index: usize, context: Form) -> &'a Source {
        let sources = self.places[index].sources;
        let source = sources.iter().find(|source| verbatim(source.form, context)).unwrap_or(&sources[0]);
        self.values[index] = &source.value;
        source
    }

    fn write(&mut self, secret: &str, index: usize) {
        let start = self.output.len();
        self.output.push_str(secret);
        self.written.push((start..self.output.len(), index));
    }

    /// The proof: the output parses to the text with the words, each word replaced by its value,
    /// and a reader would find every secret masked again.
    fn verify(&self, nodes: &[Node<'_>]) -> Result<(), RestoreError> {
        let output = parse(&self.output).unwrap_or_else(|invalid| invalid.nodes);
        let mut last = 0;
        for (position, node) in nodes.iter().enumerate() {
            if let Some((_, index)) = node.scalar.as_ref().and_then(|scalar| self.words(&scalar.value).pop()) {
                last = index;
            }
            if !output.get(position).is_some_and(|other| self.same(&node.event, &other.event)) {
                return Err(self.misplaced(last));
            }
        }
        if output.len() != nodes.len() {
            return Err(self.misplaced(last));
        }
        let masked = secrets(&self.output);
        for (range, index) in &self.written {
            if !masked.iter().any(|secret| secret.range.start <= range.start && range.end <= secret.range.end) {
                let (line, placeholder) = self.origin(*index);
                return Err(RestoreError::Exposed { line, placeholder });
            }
        }
        Ok(())
    }

    fn same(&self, worded: &Event<'_>, output: &Event<'_>) -> bool {
        match (worded, output) {
            (Event::Scalar(value, _, anchor, tag), Event::Scalar(other, _, other_anchor, other_tag)) => {
                let mut expected = String::with_capacity(other.len());
                let mut done = 0;
                for (word, index) in self.words(value) {
                    expected.push_str(&value[done..word.start]);
                    expected.push_str(self.values[index]);
                    done = word.end;
                }
                expected.push_str(&value[done..]);
                expected == *other && anchor == other_anchor && tag == other_tag
            }
            _ => worded == output,
        }
    }

    fn misplaced(&self, index: usize) -> RestoreError {
        let (line, placeholder) = self.origin(index);
        RestoreError::Misplaced { line, placeholder }
    }

    fn origin(&self, index: usize) -> (usize, String) {
        let range = self.places[index].range.clone();
        (line_of(self.text, range.start), self.text[range].to_owned())
    }
}

/// Whether the source of a secret means the same in a context as where it was.
fn verbatim(was: Form, context: Form) -> bool {
    match (was, context) {
        // What is plain within brackets is so outside, and what is a number alone is one again.
        (Form::Plain { flow, whole }, Form::Plain { flow: into_flow, whole: alone }) => {
            (flow || !into_flow) && (whole || !alone)
        }
        _ => was == context,
    }
}

/// The source of a secret if it can be pasted, else its value as the context writes it; none if
/// the context cannot.
fn paste(source: &Source, context: Form) -> Option<String> {
    let value = &source.value;
    match context {
        _ if verbatim(source.form, context) => Some(source.raw.clone()),
        Form::Plain { whole, .. } => (is_word(value) && (!whole || is_string(value))).then(|| value.clone()),
        Form::Single => (!value.contains(['\n', '\r'])).then(|| value.replace('\'', "''")),
        Form::Double => Some(double_quoted(value)),
        Form::Block { indent } => {
            Some(value.trim_end_matches('\n').replace('\n', &format!("\n{}", " ".repeat(indent))))
        }
        Form::Quoted | Form::BlockNode | Form::Comment => None,
    }
}

/// Whether a plain scalar can hold the value anywhere.
fn is_word(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./+=@$%".contains(&b))
}

/// Whether a plain scalar of this value is a string for every version of YAML.
fn is_string(value: &str) -> bool {
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    value.starts_with(|c: char| c.is_ascii_alphabetic()) && !words.iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn double_quoted(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Moves the lines of a block scalar from one column to another.
fn reindent(raw: &str, from: usize, to: usize) -> String {
    let mut moved = String::with_capacity(raw.len());
    for (number, line) in raw.split_inclusive('\n').enumerate() {
        let text = line.trim_start_matches(' ');
        if number == 0 || text.trim().is_empty() {
            moved.push_str(line);
        } else {
            let indent = (line.len() - text.len() + to).saturating_sub(from);
            moved.extend(std::iter::repeat_n(' ', indent));
            moved.push_str(text);
        }
    }
    moved
}

/// The column where the content of a line begins, behind its indentation and the dashes of a list.
fn content_column(text: &str, at: usize) -> usize {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..at].bytes().take_while(|b| b" -?".contains(b)).count()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

// --- Files of environment variables ----------------------------------------------------------

/// `KEY=`, `export KEY =`, `# KEY: `: everything before a value.
static ENV_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[ \t\x{feff}]*(?:#[# \t]*)?(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_.-]*[ \t]*(?:=|:[ \t])[ \t]*").ok()
});

/// Masks the first line of an `.env` file, or the lines that its quoted value spans, and returns
/// the rest.
fn env_line<'a>(text: &'a str, masked: &mut Masked) -> &'a str {
    let line = text.split_inclusive('\n').next().unwrap_or(text);
    let content = line.trim_start_matches('\u{feff}').trim();
    let comment = content.starts_with('#');
    let key = ENV_KEY.as_ref().and_then(|key| key.find(line.trim_end()));
    let (start, quote, end) = match key {
        Some(key) => {
            let (quote, length) = env_value(&text[key.end()..], comment);
            let spaced = key.as_str().ends_with([' ', '\t']);
            let only_comment = spaced && text[key.end()..].starts_with('#');
            (key.end(), quote, key.end() + if only_comment { 0 } else { length })
        }
        None if comment || content.is_empty() => (0, "", 0),
        // Whatever it is, it may continue a value.
        None => (line.len() - line.trim_start().len(), "", line.trim_end().len()),
    };
    masked.text.push_str(&text[..start]);
    if end > start + 2 * quote.len() {
        masked.text.extend([quote, MASK, quote]);
        masked.masked += 1;
    } else {
        masked.text.push_str(&text[start..end]);
    }
    let tail = text[end..].split_inclusive('\n').next().unwrap_or_default();
    masked.text.push_str(&mask_text(tail));
    masked.masked += secret_spans(tail).len();
    &text[end + tail.len()..]
}

/// The quote of a value, if it is closed and nothing but a comment follows, and the value's length.
fn env_value(text: &str, comment: bool) -> (&str, usize) {
    let line = text.lines().next().unwrap_or_default();
    let mark = text.chars().next().filter(|c| !comment && "\"'`".contains(*c));
    if let Some(length) = mark.and_then(|mark| env_closing(text, mark)) {
        let after = text[length..].lines().next().unwrap_or_default();
        if after.trim().is_empty() || after.starts_with([' ', '\t']) && after.trim_start().starts_with('#') {
            return (&text[..1], length);
        }
    }
    let value = if mark.is_some() { line } else { line.find(" #").map_or(line, |end| &line[..end]) };
    ("", value.trim_end().len())
}

/// The length of a quoted value; a backslash escapes in double quotes only.
fn env_closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && quote == '"' && !escaped;
        closes.then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker() -> Masker {
        Masker::new([7; 32])
    }

    /// Every secret planted in the fixtures contains this.
    const PLANT: &str = "hunter";

    /// Compose files as people write them; the comment of each says what is special.
    const FILES: &[&str] = &[
        // Dockge's own example: two spaces, everything plain
        "services:\n  db:\n    image: mariadb:11\n    restart: unless-stopped\n    ports:\n      - 3306:3306\n    environment:\n      MYSQL_ROOT_PASSWORD: hunter2\n      MYSQL_USER: bob\nnetworks: {}\n",
        // lists, versions, comments at the end of lines
        "version: \"3.8\" # old\nservices:\n  app:\n    environment:\n      - TZ=Europe/Berlin\n      - DB_PASSWORD=hunter2 # note\n      - \"API_KEY=hunter \\\"3\\\"\" # quoted\n      - 'SMTP_PASS=it''s hunter4'\n      - EMPTY_PASSWORD=\n      - PASS_THROUGH\n",
        // lists that are not indented, quotes of both kinds
        "services:\n  a:\n    environment:\n    - ADMIN_TOKEN=$$argon2id$$v=19$$m=65540,t=3,p=4$$hunterhunter$$hunterHash\n    - X=y\n    labels:\n    - \"traefik.enable=true\"\n    - \"traefik.http.middlewares.auth.basicauth.users=admin:$$2y$$05$$hunterHHa6uXQZWr7oboPiC2bT\"\n    - \"traefik.http.routers.secret-app.rule=Host(`a.example.com`)\"\n",
        // label maps, healthchecks, commands
        "services:\n  a:\n    command: --user bob --password=hunter2 --port 80\n    entrypoint: [\"run\", \"--token\", \"hunter3\", \"--verbose\"]\n    healthcheck:\n      test: [\"CMD\", \"mysqladmin\", \"ping\", \"--password=hunter4\"]\n    labels:\n      homepage.widget.key: hunter5\n      homepage.widget.url: http://x:80\n",
        // commands as block sequences
        "services:\n  tunnel:\n    command:\n      - tunnel\n      - --token\n      - hunter2\n      - --loglevel\n      - info\n      - --secret=\"hunter 3\"\n",
        // folded and literal commands
        "services:\n  a:\n    command: >\n      --foo\n      --password=hunter2\n      --bar\n    entrypoint: |-\n      sh -c \"PASSWORD=hunter3 run\"\n\n\n  b:\n    image: x\n",
        // anchors, aliases and merges
        "x-env: &env\n  DB_PASSWORD: &pw hunter2\n  TZ: UTC\nx-shared: &shared hunter5\nservices:\n  a:\n    environment:\n      <<: *env\n      OTHER_PASSWORD: *pw\n      THIRD_PASSWORD: *shared\n      A_TOKEN: !!str hunter3\n      B_TOKEN: &t !custom \"hunter4\"\n",
        // block scalars under secret keys, with headers of all kinds
        "services:\n  a:\n    environment:\n      SSH_KEY: |\n        hunter line 1\n          hunter line 2\n\n        hunter line 3\n      B_SECRET: >-  # folded\n        hunter\n        folded\n\n      C_SECRET: &x |+2\n          hunter keep\n\n\n      D: end\n",
        // configs with files in them
        "configs:\n  app:\n    content: |\n      [db]\n      host = db\n      password = hunter2\n      smtp:\n        password: hunter and more\n      url: postgres://bob:hunter3@db/x\n  key:\n    content: |\n      -----BEGIN PRIVATE KEY-----\n      hunterMIIEvQIBADANBgkqhkiG9w0\n      hunterBBBB==\n      -----END PRIVATE KEY-----\nsecrets:\n  db_password:\n    file: ./db_password.txt\n  token:\n    environment: APP_TOKEN\n",
        // flow style
        "services: {a: {image: x, environment: {DB_PASSWORD: hunter2, \"API_KEY\": \"hunter3\", N: 1}, command: [a, --password, hunter4]}}\nx: [ {TOKEN: hunter-5} , \"SECRET=hunter6\" ]\n",
        // CRLF, a byte order mark, no newline at the end
        "\u{feff}services:\r\n  a:\r\n    environment:\r\n      # DB_PASSWORD=hunterold\r\n      DB_PASSWORD: \"hunter2\"   \r\n      B_SECRET: |\r\n        hunter\r\n        hunter\r\n      C: d\r\n      - ",
        "\u{feff}services:\r\n  a:\r\n    environment:\r\n      # DB_PASSWORD=hunterold\r\n      DB_PASSWORD: \"hunter2\"   \r\n      B_SECRET: |\r\n        hunter\r\n        hunter\r\n      C_TOKEN: 'hunter'",
        // not ASCII: spans are counted in characters
        "# Grüße 🐳\nservices:\n  ä:\n    environment:\n      GRUSS: \"Grüße 🐳\" # ü\n      PASSWORT_DB: x\n      DB_PASSWORD: hünter🐳hunter # ü\n      - x\n",
        "# Grüße 🐳\nservices:\n  ä:\n    environment:\n      GRUSS: \"Grüße 🐳\" # ü\n      DB_PASSWORD: hünter🐳hunter # ü\n      C_TOKEN: \"\\u00fc🐳\\thunter\"\n      D_URL: \"https://ü:hunter@x/🐳\"\n",
        // comments of all kinds
        "#DB_PASSWORD=hunter1\n# DB_PASSWORD: hunter2 # and more\nservices: # PASSWORD=hunter3\n  a:\n    # - API_KEY=hunter4\n    #   \"TOKEN\": \"hunter5\"\n    image: x#y # postgres://u:hunter6@db\n# last PASSWORD=hunter7",
        // several documents, directives, explicit keys
        "%YAML 1.2\n---\nservices:\n  a:\n    environment:\n      ? DB_PASSWORD\n      : hunter2\n...\n---\nx-password: hunter3\n",
        // strings over several lines
        "services:\n  a:\n    command: run\n      --password=hunter1\n      --x\n    environment:\n      A_PASSWORD: \"hunter2\n        hunter3\"\n      B: 'url: postgres://u:hunter4@db\n        PASSWORD=hunter5'\n      - C\n",
        "services:\n  a:\n    command: run\n      --password=hunter1\n      --x\n    environment:\n      A_PASSWORD: \"hunter2 \\\n        hunter3\"\n      B: 'url: postgres://u:hunter4@db\n        PASSWORD=hunter5'\n      C_PASSWORD: hunter\n        again\n",
        // Traefik, Cloudflare, build arguments, long forms
        "services:\n  traefik:\n    build:\n      context: .\n      args:\n        NPM_TOKEN: hunter1\n      secrets:\n        - npm_token\n    environment:\n      - CF_DNS_API_TOKEN=hunter2\n      - CF_API_EMAIL=me@example.com\n    secrets:\n      - db_password\n      - source: app_secret\n        target: /run/secrets/app\n    extra_hosts:\n      auth: 10.0.0.2\n",
        // tabs where YAML allows them, trailing blanks, windows paths
        "services:\n  a:\n    environment:\n      DB_PASSWORD:\thunter2\t# x\n      E_PASSWORD: 'hunter3'\t \n      F: \"C:\\\\dir\"   \n\n\n",
        // values with everything that is special
        "environment:\n  A_PASSWORD: \"hunter: #1 '\\\"\\\\ \\n end\"\n  B_PASSWORD: 'hunter: #1 \"\\ end'\n  C_PASSWORD: hunter:#1\"'\\end\n  D_PASSWORD: \"[hunter]\"\n  E_PASSWORD: \"{{hunter}}\"\n  F_PASSWORD: ${X:-hunter}\n  G_PASSWORD: ${X:?say}\n  H_PIN: 0123\n",
        // Gluetun, WireGuard, Home Assistant, MQTT
        "services:\n  gluetun:\n    environment:\n      - WIREGUARD_PRIVATE_KEY=wOEI9rqqbDwnN8/Bpp22sVz48T71vJ4fYmFWujhunter=\n      - WIREGUARD_ADDRESSES=10.64.222.21/32\n      - OPENVPN_PASSWORD=hunter2\n    devices: [/dev/net/tun:/dev/net/tun]\n  ha:\n    environment: {MQTT_URL: 'mqtt://ha:hunter3@mqtt:1883'}\n",
        // an anchor with a vertical tab in its name
        "x: &\u{b}¡ 'a'\nDB_PASSWORD: &\u{b}¡\t'hunter'\n",
        // the document is a block scalar
        ">\nTOKEN: hunter2\n",
        // broken: the line that does not parse comes last
        "services:\n  a:\n    environment:\n      DB_PASSWORD: hunter2\n      - API_TOKEN='hunter3'\n      - \"X_SECRET=hunter4\"\n    command: [a, --password, hunter5\n    entrypoint:\n      - --token\n      - hunter6\n    B_SECRET: |\n      hunter: 7\n      hunter 8\n    C_PASSWORD: \"hunter\n      hunter again\n    d: }\n",
    ];

    #[test]
    fn masked_files_hold_no_secret_and_are_restored_to_the_letter() {
        for file in FILES {
            let masked = masker().mask(file);
            assert!(!masked.text.contains(PLANT), "{}", masked.text);
            assert!(masked.masked > 0);
            let restored = masker().restore(&masked.text, file).unwrap();
            assert_eq!((restored.text.as_str(), restored.restored), (*file, masked.masked));
        }
    }

    /// The same without the way out for files that come back unchanged.
    #[test]
    fn edited_files_are_restored_to_the_letter() {
        for file in FILES.iter().filter(|file| parse(file).is_ok()) {
            let edited = |text: &str| format!("{text}\n# edited\n");
            let masked = masker().mask(file);
            match masker().restore(&edited(&masked.text), file) {
                Ok(restored) => assert_eq!(restored.text, edited(file)),
                Err(error) => panic!("{error}\n{}", masked.text),
            }
        }
        assert!(FILES.iter().filter(|file| parse(file).is_err()).count() <= 5);
    }

    #[test]
    fn the_rest_of_a_file_stays() {
        let file = FILES[2];
        let masked = masker().mask(file);
        for kept in [
            "- X=y",
            "ADMIN_TOKEN=[redacted:",
            "Host(`a.example.com`)",
            "users=admin:[redacted:",
            "]\"\n    - \"traefik.http.routers",
        ] {
            assert!(masked.text.contains(kept), "{kept}\n{}", masked.text);
        }
        assert_eq!(masked.masked, 2);
        for file in [
            "services:\n  a:\n    secrets:\n      - db_password\n      - source: app_secret\n    extra_hosts:\n      auth: 10.0.0.2\n",
            "secrets:\n  db_password:\n    file: ./x\n  token:\n    external: true\nvolumes:\n  secret:\nnetworks:\n  auth: {}\n",
            "services:\n  keycloak:\n    environment:\n      DB_PASSWORD: ${DB_PASSWORD:?set it}\n      X_PASSWORD_FILE: /run/secrets/x\n      EMPTY_TOKEN: \"\"\n      A_PASSWORD:\n      AUTH_ENABLED: true\n",
            "",
            "\n",
        ] {
            assert_eq!(masker().mask(file), Masked { text: file.to_owned(), masked: 0 });
        }
    }

    #[test]
    fn the_smallest_part_is_masked() {
        let shape = |yaml: &str| {
            let digest = Regex::new(r"\[redacted:[0-9a-f]{10}\]").unwrap();
            digest.replace_all(&masker().mask(yaml).text, "#").into_owned()
        };
        for (yaml, masked) in [
            ("a:\n  - K_TOKEN=abc\n", "a:\n  - K_TOKEN=#\n"),
            ("a:\n  - \"K_TOKEN=abc\"\n", "a:\n  - \"K_TOKEN=#\"\n"),
            ("K_TOKEN: \"abc\" # c\n", "K_TOKEN: # # c\n"),
            ("K_TOKEN: !!str &x 'abc'\n", "K_TOKEN: !!str &x #\n"),
            ("K_TOKEN: |\n  abc\n  def\n\nb: c\n", "K_TOKEN: #\n\nb: c\n"),
            ("url: postgres://u:p%40@h/x\n", "url: postgres://u:#@h/x\n"),
            ("c: >\n  --password=abc\n  --x\n", "c: >\n  --password=#\n  --x\n"),
            ("c: [--password, abc, --x]\n", "c: [--password, #, --x]\n"),
            ("# K_TOKEN=abc\nb: c\n", "# K_TOKEN=#\nb: c\n"),
        ] {
            assert_eq!(shape(yaml), masked);
        }
    }

    #[test]
    fn placeholders_are_keyed_and_stable() {
        let text = masker().mask("A_TOKEN: abc\nB_TOKEN: abc\nC_TOKEN: abd\nenv: [D_TOKEN=abc]\n").text;
        let found: Vec<&str> = text.match_indices("[redacted:").map(|(at, _)| &text[at..at + 21]).collect();
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0], found[3]);
        assert_ne!(found[0], found[2]);
        assert!(found[0].ends_with(']'));
        assert_ne!(Masker::new([8; 32]).mask("A_TOKEN: abc\n"), masker().mask("A_TOKEN: abc\n"));
    }

    /// Replaces `{n}` by the n-th placeholder of a file and restores.
    fn rewrite(present: &str, new: &str) -> Result<String, RestoreError> {
        let masked = masker().mask(present).text;
        let mut new = new.to_owned();
        for (number, (at, _)) in masked.match_indices("[redacted:").enumerate() {
            new = new.replace(&format!("<{number}>"), &masked[at..at + 21]);
        }
        masker().restore(&new, present).map(|restored| restored.text)
    }

    #[test]
    fn placeholders_may_move() {
        for (present, new, expected) in [
            // to another key, from a mapping to a list and back
            ("A_TOKEN: abc\n", "x: y\nB_TOKEN: <0>\n", "x: y\nB_TOKEN: abc\n"),
            ("A_TOKEN: abc\n", "e: [B_TOKEN=<0>]\n", "e: [B_TOKEN=abc]\n"),
            ("A_TOKEN: abc\n", "e:\n  - B_TOKEN=<0>\n", "e:\n  - B_TOKEN=abc\n"),
            ("e:\n  - B_TOKEN=abc\n", "A_TOKEN: <0>\n", "A_TOKEN: abc\n"),
            ("e:\n  - B_PIN=0123\n", "A_PIN: <0>\n", "A_PIN: \"0123\"\n"),
            ("e:\n  - \"B_TOKEN=a: \\\"#\"\n", "A_TOKEN: <0>\n", "A_TOKEN: \"a: \\\"#\"\n"),
            ("A_TOKEN: 'it''s: #1'\n", "e:\n  - B_TOKEN=<0>\n", "e:\n  - \"B_TOKEN=it's: #1\"\n"),
            // into quotes and out of them
            ("A_TOKEN: a\"b\\c\n", "A_TOKEN: \"<0>\"\n", "A_TOKEN: \"a\\\"b\\\\c\"\n"),
            ("A_TOKEN: it's\n", "A_TOKEN: '<0>'\n", "A_TOKEN: 'it''s'\n"),
            ("A_TOKEN: \"abc\"\n", "A_TOKEN: \"<0>\"\n", "A_TOKEN: \"abc\"\n"),
            ("A_TOKEN: 'a''c'\n", "A_TOKEN: \"<0>\"\n", "A_TOKEN: 'a''c'\n"),
            ("A_TOKEN: 'a''c'\n", "e: [\"B_TOKEN=<0>\"]\n", "e: [\"B_TOKEN=a'c\"]\n"),
            // brackets end what is plain
            ("A_TOKEN: a,b\n", "{A_TOKEN: <0>, B: c}\n", "{A_TOKEN: \"a,b\", B: c}\n"),
            // block scalars with their indentation
            (
                "A_TOKEN: |\n  a\n    b\n\n  c\nz: 1\n",
                "x:\n  y:\n    A_TOKEN: <0>\n",
                "x:\n  y:\n    A_TOKEN: |\n      a\n        b\n\n      c\n",
            ),
            ("x:\n  y:\n    A_TOKEN: |\n      a\n      b\n", "A_TOKEN: <0>\n", "A_TOKEN: |\n  a\n  b\n"),
            ("A_TOKEN: |\n  a\n  b\n", "{A_TOKEN: <0>}\n", "{A_TOKEN: \"a\\nb\\n\"}\n"),
            // within longer texts
            (
                "u: postgres://b:abc@h\n",
                "u: \"postgres://b:<0>@other\"\nv: postgres://b:<0>@h\n",
                "u: \"postgres://b:abc@other\"\nv: postgres://b:abc@h\n",
            ),
            ("e:\n  - A_TOKEN=abc\n", "c: |\n  run\n  --token=<0>\n", "c: |\n  run\n  --token=abc\n"),
            // comments
            ("# A_TOKEN=abc\nx: y\n", "x: y\n# A_TOKEN=<0>\n", "x: y\n# A_TOKEN=abc\n"),
            ("# A_TOKEN=abc\nx: y\n", "A_TOKEN: <0>\n", "A_TOKEN: abc\n"),
            ("A_TOKEN: \"abc\"\n", "# A_TOKEN=<0>\n", "# A_TOKEN=abc\n"),
            // a file that did not parse
            ("x: }\nA_TOKEN: \"a b\"\n", "A_TOKEN: <0>\n", "A_TOKEN: \"a b\"\n"),
        ] {
            assert_eq!(rewrite(present, new).as_deref(), Ok(expected), "{present}{new}");
        }
        let pem = "k: |\n  -----BEGIN PRIVATE KEY-----\n  abc\n  def\n  -----END PRIVATE KEY-----\n";
        let moved =
            rewrite(pem, "x:\n  k: |\n    -----BEGIN PRIVATE KEY-----\n    <0>\n    -----END PRIVATE KEY-----\n")
                .unwrap();
        assert!(moved.contains("\n    abc\n    def\n    ---"), "{moved}");
    }

    #[test]
    fn what_cannot_be_restored() {
        let present = "A_TOKEN: abc\nB_TOKEN: |\n  a\n  b\n";
        let restore = |new: &str| rewrite(present, new).unwrap_err();
        assert_eq!(restore("x: y\n[cut: 12 more characters …]\n"), RestoreError::Cut { line: 2 });
        for (mark, line) in [
            ("[redacted]", 2),
            ("[redacted:0000000000]", 2),
            ("[redacted:zz]", 2),
            ("[redacted:00", 2),
            ("[REDACTED]", 2),
        ] {
            let found = restore(&format!("x: y\nA_TOKEN: {mark}\n"));
            assert_eq!(found, RestoreError::Unknown { line, placeholder: mark.to_owned() });
        }
        assert!(matches!(masker().restore("A_TOKEN: [redacted]\n", ""), Err(RestoreError::Unknown { line: 1, .. })));
        assert!(matches!(restore("x: y\nA_TOKEN: <0>\nz: }\n"), RestoreError::Invalid { line: 3, .. }));
        // under a harmless key the next reader would see it
        for new in [
            "x: y\nGREETING: <0>\n",
            "x: y\ncontainer_name: a-<0>\n",
            "x: y\n# <0>\n",
            "x: y\n<0>: z\n",
            "x: y\nGREETING: \"<0>\"\n",
            "x: y\nGREETING: <1>\n",
        ] {
            assert!(matches!(restore(new), RestoreError::Exposed { line: 2, .. }), "{new}");
        }
        // several lines have no place in a comment or in an anchor
        for new in ["x: y\n# B_TOKEN=<1>\n", "x: y\nA_TOKEN: &<0> z\n"] {
            assert!(matches!(restore(new), RestoreError::Misplaced { line: 2, .. }), "{new}");
        }
        for new in ["[cut: 1]", "x: [redacted]", "GREETING: <0>", "# B_TOKEN=<1>", "A_TOKEN: <0>\nz: }"] {
            let sentence = restore(new).to_string();
            assert!(
                sentence.starts_with("line ") && sentence.ends_with('.') && !sentence.contains("abc"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn texts_without_placeholders_need_not_parse() {
        let restored = masker().restore("a: }\n", "A_TOKEN: abc\n").unwrap();
        assert_eq!((restored.text.as_str(), restored.restored), ("a: }\n", 0));
        assert_eq!(masker().restore("", "").unwrap().text, "");
    }

    #[test]
    fn env_files() {
        let masked = masker().mask_env_file(concat!(
            "\u{feff}# hello\n\nDB_HOST=db\nexport TZ=UTC\r\nA=\nB=\"\"\nC=\"x y\" # why\nD='x'\n  E = x y # c\n",
            "F=\"one\ntwo \\\" three\"\nG=h#x\n# OLD=x\n#OLD2=\"x\"\nH: x\nI=\"open\nrest\nJ= # nothing\nK=`x`\nL='a'b\nM=x",
        ));
        assert_eq!(
            masked.text,
            concat!(
                "\u{feff}# hello\n\nDB_HOST=[redacted]\nexport TZ=[redacted]\r\nA=\nB=\"\"\nC=\"[redacted]\" # why\nD='[redacted]'\n  E = [redacted] # c\n",
                "F=\"[redacted]\"\nG=[redacted]\n# OLD=[redacted]\n#OLD2=[redacted]\nH: [redacted]\nI=[redacted]\n[redacted]\nJ= # nothing\nK=`[redacted]`\nL=[redacted]\nM=[redacted]",
            )
        );
        assert_eq!(masked.masked, 15);
    }

    #[test]
    fn differences_are_masked_and_shown() {
        let old = "a: 1\nb: 2\nc: 3\nd: 4\nA_TOKEN: hunter1\nB_TOKEN: hunter2\n";
        let new = "a: 1\nb: 2\nc: 3\nd: 4\nA_TOKEN: hunter2\nB_TOKEN: hunter1\n";
        let diff = masker().diff(old, new, "compose.yaml");
        assert!(!diff.contains(PLANT), "{diff}");
        assert!(diff.starts_with("--- a/compose.yaml\n+++ b/compose.yaml\n@@ "), "{diff}");
        assert!(diff.contains("-A_TOKEN: [redacted:") && diff.contains("+A_TOKEN: [redacted:"), "{diff}");
        assert!(!diff.contains("a: 1") && diff.contains(" b: 2"), "{diff}");
        assert_eq!(masker().diff(old, old, "x"), "");
    }

    /// The parser's marks are counted in characters, take in what surrounds a scalar, and have to
    /// be made exact: parsing the exact slice gives the scalar's value again.
    #[test]
    fn ranges_are_exact() {
        for file in FILES {
            for scalar in parse(file).into_iter().flatten().filter_map(|node| node.scalar) {
                if scalar.is_quoted() || scalar.style == ScalarStyle::Plain && !scalar.value.is_empty() {
                    let alone = &file[scalar.range.clone()];
                    let value =
                        parse(alone).into_iter().flatten().find_map(|node| node.scalar).map(|scalar| scalar.value);
                    assert_eq!(value, Some(scalar.value), "{alone}");
                } else if scalar.is_block() {
                    assert!(file[scalar.range.clone()].starts_with(['|', '>']));
                }
            }
        }
    }
}
