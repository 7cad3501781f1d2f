//! What is written agrees with what is built: the README's tables (rewritten with `UPDATE=1` in the environment), the
//! paths that README.md and ARCHITECTURE.md name, the examples, and the sentence each source file opens with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;
use serde_json::Value;

use crate::{
    levels::{all_tools, updating},
    support::run,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[track_caller]
fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every file of the repository, relative to its root.
fn files() -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let name = entry.file_name();
            if entry.path().is_dir() {
                if name != "target" && name != ".git" {
                    walk(&entry.path(), found);
                }
            } else {
                found.push(entry.path());
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &mut found);
    found.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect()
}

/// Holds what stands between a pair of markers against what it should be.
#[track_caller]
fn between_markers(marker: &str, expected: &str) {
    let readme = read("README.md");
    let (open, close) = (format!("<!-- {marker} -->\n"), format!("<!-- /{marker} -->"));
    let (before, rest) = readme.split_once(&open).unwrap_or_else(|| panic!("README.md has no {open}"));
    let (found, after) = rest.split_once(&close).unwrap_or_else(|| panic!("README.md has no {close}"));
    if updating() && found != expected {
        fs::write(root().join("README.md"), format!("{before}{open}{expected}{close}{after}")).unwrap();
        return;
    }
    assert!(found == expected, "README.md, {marker}: UPDATE=1 cargo test. It should be\n{expected}");
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn tool_table() -> String {
    let mut tools = all_tools();
    tools.sort_by_key(|tool| (tool["level"].as_u64(), tool["name"].as_str().unwrap().to_owned()));
    let mut table = "| tool | level | effect | what it does |\n|---|---|---|---|\n".to_owned();
    for tool in tools {
        let text = |member: &str| cell(tool[member].as_str().unwrap());
        let level = format!("{} {}", tool["level"], text("level_name"));
        table += &format!("| `{}` | {level} | {} | {} |\n", text("name"), text("effect"), text("title"));
    }
    table
}

fn variable_table() -> String {
    let help = run(&["--help"], &[], b"").stdout;
    let line = Regex::new(r"^  ([A-Z][A-Z0-9_]+) +(.*) \[(.*)\]$").unwrap();
    let mut table = "| variable | default | meaning |\n|---|---|---|\n".to_owned();
    for found in help.lines().filter_map(|text| line.captures(text)) {
        table += &format!("| `{}` | {} | {} |\n", &found[1], cell(&found[3]), cell(&found[2]));
    }
    assert_eq!(table.lines().count(), homelab_mcp::VARS.len() + 2, "{help}");
    table
}

#[test]
fn the_tables_of_the_readme_are_what_the_program_says() {
    // One test for both, since both may rewrite the file.
    between_markers("tools", &tool_table());
    between_markers("variables", &variable_table());
}

/// What a reader would take for a file or folder of the repository: a known ending, a final slash, or a first part that
/// is one of ours.
fn looks_like_a_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/*".contains(c);
    if !text.chars().all(plain) || text.starts_with(['/', '.', '-']) {
        return false;
    }
    let endings = [".rs", ".md", ".sh", ".py"];
    let ours = ["homelab-mcp/", "shared/", "mcp-gateway/", "examples/", "compose/", "tests/", "src/"];
    endings.iter().any(|ending| text.ends_with(ending))
        || text.ends_with('/')
        || ours.iter().any(|first| text.starts_with(first))
        || (text.ends_with(".toml") || text.ends_with(".json") || text.ends_with(".jsonl")) && text.contains('/')
        || ["Cargo.toml", "Cargo.lock", "clippy.toml", "deny.toml", "rustfmt.toml"].contains(&text)
}

fn exists(files: &[String], named: &str) -> bool {
    let named = named.trim_end_matches("/*");
    let folder = format!("{}/", named.trim_end_matches('/'));
    files.iter().any(|file| {
        let as_file = file == named || file.ends_with(&format!("/{named}"));
        let as_folder = file.starts_with(&folder) || file.contains(&format!("/{folder}"));
        (as_file && !named.ends_with('/')) || as_folder
    })
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let files = files();
    let code = Regex::new("`([^`\n]+)`").unwrap();
    let link = Regex::new(r"\]\(([^)#:]+)\)").unwrap();
    let block = Regex::new("(?s)```.*?```").unwrap();
    for (document, at_least) in [("ARCHITECTURE.md", 15), ("README.md", 0)] {
        let text = read(document);
        let prose = block.replace_all(&text, "");
        let named: Vec<_> = code.captures_iter(&prose).map(|found| found[1].to_owned()).collect();
        let paths: Vec<_> = named.iter().filter(|text| looks_like_a_path(text)).collect();
        assert!(paths.len() >= at_least, "{document} names {} paths: {paths:?}", paths.len());
        for path in paths {
            assert!(exists(&files, path), "{document} names `{path}`, which does not exist");
        }
        for target in link.captures_iter(&prose) {
            assert!(root().join(&target[1]).exists(), "{document} links to {}, which does not exist", &target[1]);
        }
    }
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let mut seen = 0;
    for file in files().iter().filter(|file| file.ends_with(".rs")) {
        let text = read(file);
        assert!(text.starts_with("//! ") && text.len() > 40, "{file} opens with {:?}", text.lines().next());
        seen += 1;
    }
    assert!(seen > 40, "{seen} files");
}

#[test]
fn every_test_name_is_a_sentence() {
    let name = Regex::new(r"#\[test\]\n(?:\s*#\[[^\n]*\n)*\s*fn (\w+)").unwrap();
    for file in files().iter().filter(|file| file.starts_with("homelab-mcp/tests/") && file.ends_with(".rs")) {
        for found in name.captures_iter(&read(file)) {
            assert!(found[1].split('_').count() >= 4 && !found[1].starts_with("test_"), "{file}: {}", &found[1]);
        }
    }
}

#[test]
fn the_examples_are_what_they_say() {
    let lines = read("examples/first-look.jsonl");
    let ran = run(&[], &[("DOCKER_HOST", "unix:///nothing/here.sock")], lines.as_bytes());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let answers = ran.messages();
    assert_eq!(answers.len(), lines.lines().count());
    assert!(answers.iter().all(|answer| answer.get("result").is_some()), "{}", ran.stdout);
    for file in files().iter().filter(|file| file.starts_with("examples/")) {
        if file.ends_with(".json") {
            serde_json::from_str::<Value>(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        if file.ends_with(".sh") {
            let path = root().join(file);
            let checked = std::process::Command::new("bash").arg("-n").arg(&path).status().unwrap();
            assert!(checked.success(), "{file}");
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
            assert!(mode & 0o111 != 0, "{file} cannot be run");
        }
    }
}

#[test]
fn the_changelog_has_a_place_for_what_comes_next() {
    assert!(read("CHANGELOG.md").contains("Unreleased"));
}
