//! The only reader of the environment. Programs declare their variables once ([`Var`]); reading collects every
//! problem, each with the variable's name and what to do, so that one start shows all of them.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::Secret;

/// One environment variable as the help, the README and the reader know it.
#[derive(Clone, Copy, Debug)]
pub struct Var {
    /// Its name, for example `CAPABILITY_LEVEL`.
    pub name: &'static str,
    /// What it is when not set, in words.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// Whether the value is a secret; then `NAME_FILE` may name a file that holds it.
    pub secret: bool,
}

/// Everything that was wrong with the configuration, one sentence each.
#[derive(Debug, thiserror::Error)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// A set of variables, from the process or given by a test, and the problems met while reading it.
#[derive(Debug, Default)]
pub struct Vars {
    values: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Vars {
    /// The variables of this process. One that is not UTF-8 counts as a problem only if somebody asks for it.
    pub fn from_process() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        let vars = std::env::vars_os();
        Self::from_pairs(vars.filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.into_string().unwrap_or_else(|_| "\u{FFFD}".to_owned())))
        }))
    }

    /// Given variables, as tests and `--env-file` have them.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self { values: pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect(), problems: Vec::new() }
    }

    /// Adds the lines of an env file (`NAME=value`, `#` comments, optional quotes and `export`). The process wins:
    /// a variable that is already set stays, as with `docker compose`.
    pub fn add_env_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problem(format!("--env-file {}: {error}. Name a file that can be read.", path.display()));
                return;
            }
        };
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            match line.split_once('=') {
                Some((name, value)) if is_name(name.trim()) => {
                    self.values.entry(name.trim().to_owned()).or_insert_with(|| unquote(value.trim()));
                }
                _ => self.problem(format!(
                    "--env-file {} line {}: not of the form NAME=value. Correct the line or put a # before it.",
                    path.display(),
                    number + 1
                )),
            }
        }
    }

    /// Notes a problem. [`Vars::finish`] reports them all.
    pub fn problem(&mut self, sentence: impl Into<String>) {
        self.problems.push(sentence.into());
    }

    /// All problems, if there were any.
    pub fn finish(self) -> Result<(), Problems> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    /// The text of a variable; an empty one counts as not set.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let value = self.values.get(name)?.trim();
        if value.contains('\u{FFFD}') {
            let sentence = format!("{name} is not valid UTF-8. Set it again.");
            self.problem(sentence);
            return None;
        }
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// Every variable that `keep` wants, as it is: what a child process is started with. One that is not UTF-8 is left out.
    pub fn pairs(&self, keep: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let kept = self.values.iter().filter(|(name, value)| keep(name) && !value.contains('\u{FFFD}'));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// A value of a type that explains in its error what it takes.
    pub fn parse<T: FromStr>(&mut self, name: &str, default: T) -> T
    where
        T::Err: fmt::Display,
    {
        self.parse_option(name).unwrap_or(default)
    }

    /// The same without a default.
    pub fn parse_option<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(name)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(format!("{name}: {error}."));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn number(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(format!(
                    "{name}: `{text}` is not a whole number from {} to {}.",
                    range.start(),
                    range.end()
                ));
                default
            }
        }
    }

    /// One of several words; the first is the default.
    pub fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|(_, value)| *value);
        if found.is_none() {
            let valid: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.problem(format!("{name}: `{text}` is not known; use {}.", valid.join(", ")));
        }
        found
    }

    /// A path as it is; whether it exists is for its user to find out.
    pub fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// `STATE_DIR`, which both programs share; else the platform's folder for such things, if there is a home.
    pub fn state_dir(&mut self) -> Option<PathBuf> {
        if let Some(given) = self.path("STATE_DIR") {
            if !given.is_absolute() {
                self.problem(format!("STATE_DIR: `{}` is not an absolute path.", given.display()));
            }
            return Some(given);
        }
        if cfg!(target_os = "macos") {
            return self.path("HOME").map(|home| home.join("Library/Application Support/homelab-mcp"));
        }
        self.path("XDG_STATE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| self.path("HOME").map(|home| home.join(".local/state")))
            .map(|base| base.join("homelab-mcp"))
    }

    /// A comma list, trimmed, without empty items.
    pub fn list(&mut self, name: &str) -> Vec<String> {
        self.text(name).map_or_else(Vec::new, |text| {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        })
    }

    /// A secret, from `NAME` or from the file that `NAME_FILE` names (its trailing line end removed); never both.
    pub fn secret(&mut self, name: &str) -> Option<Secret> {
        let file_name = format!("{name}_FILE");
        match (self.text(name), self.path(&file_name)) {
            (Some(_), Some(_)) => {
                self.problem(format!("{name} and {file_name} are both set. Keep one of them."));
                None
            }
            (Some(text), None) => Some(Secret::new(text)),
            (None, None) => None,
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) if text.trim_end_matches(['\r', '\n']).is_empty() => {
                    self.problem(format!("{file_name}: {} is empty.", path.display()));
                    None
                }
                Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
                Err(error) => {
                    self.problem(format!("{file_name}: cannot read {}: {error}.", path.display()));
                    None
                }
            },
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote)
            && let Some((inner, _)) = rest.split_once(quote)
        {
            return inner.to_owned();
        }
    }
    // As docker compose reads it: a comment needs a space before its #.
    value.split_once(" #").map_or(value, |(value, _)| value).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn empty_counts_as_not_set() {
        let mut vars = Vars::from_pairs([("A", ""), ("B", "  "), ("C", " c ")]);
        assert_eq!((vars.text("A"), vars.text("B"), vars.text("C")), (None, None, Some("c".into())));
        assert!(vars.finish().is_ok());
    }

    #[test]
    fn pairs_are_the_chosen_variables_as_they_are() {
        let vars = Vars::from_pairs([("A", " 1 "), ("B", "2"), ("C", "\u{FFFD}"), ("D", "")]);
        let kept = vars.pairs(|name| name != "B");
        assert_eq!(kept, [("A".to_owned(), " 1 ".to_owned()), ("D".to_owned(), String::new())]);
    }

    #[test]
    fn all_problems_are_reported_each_with_its_name() {
        let mut vars = Vars::from_pairs([("CAPABILITY_LEVEL", "level2"), ("CONFIRM", "maybe"), ("MAX_LINE", "-1")]);
        assert_eq!(vars.parse("CAPABILITY_LEVEL", Level::Monitor), Level::Monitor);
        assert_eq!(vars.word("CONFIRM", &[("never", 1), ("changes", 2)]), None);
        assert_eq!(vars.number("MAX_LINE", 10, 1..=20), 10);
        let problems = vars.finish().unwrap_err().0;
        assert_eq!(problems.len(), 3);
        assert!(problems[0].contains("CAPABILITY_LEVEL") && problems[0].contains("monitor, operate"), "{problems:?}");
        assert!(problems[1].contains("CONFIRM") && problems[1].contains("never, changes"), "{problems:?}");
        assert!(problems[2].contains("MAX_LINE") && problems[2].contains("1 to 20"), "{problems:?}");
    }

    #[test]
    fn a_secret_comes_from_one_place_only() {
        let file = std::env::temp_dir().join(format!("homelab-mcp-secret-{}", std::process::id()));
        std::fs::write(&file, "from file\n").unwrap();
        let path = file.to_str().unwrap();
        let mut vars = Vars::from_pairs([("A_FILE", path), ("B", "x"), ("B_FILE", path), ("C_FILE", "/nonexistent/x")]);
        assert_eq!(vars.secret("A").unwrap().expose(), "from file");
        assert!(vars.secret("B").is_none() && vars.secret("C").is_none() && vars.secret("D").is_none());
        let problems = vars.finish().unwrap_err().0;
        std::fs::remove_file(&file).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn an_env_file_is_read_as_compose_reads_it_and_the_process_wins() {
        let file = std::env::temp_dir().join(format!("homelab-mcp-env-{}", std::process::id()));
        std::fs::write(&file, "# c\nexport A=1\nB=\"two # 2\"\nC='3'\nD=4 # four\nPORT=9\nnot a line\n").unwrap();
        let mut vars = Vars::from_pairs([("PORT", "7")]);
        vars.add_env_file(&file);
        std::fs::remove_file(&file).unwrap();
        for (name, value) in [("A", "1"), ("B", "two # 2"), ("C", "3"), ("D", "4"), ("PORT", "7")] {
            assert_eq!(vars.text(name).as_deref(), Some(value), "{name}");
        }
        let problems = vars.finish().unwrap_err().0;
        assert!(problems.len() == 1 && problems[0].contains("line 7"), "{problems:?}");
    }
}
