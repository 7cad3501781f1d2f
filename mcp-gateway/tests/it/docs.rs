//! The README's table of the gateway's variables is what the program declares (`UPDATE=1 cargo test` rewrites it).

use std::{fs, path::Path};

#[test]
fn the_table_of_variables_is_what_the_program_declares() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let mut table = "| variable | default | meaning |\n|---|---|---|\n".to_owned();
    for var in mcp_gateway::VARS {
        table += &format!("| `{}` | {} | {} |\n", var.name, var.default, var.about.replace('|', "\\|"));
    }
    let (open, close) = ("<!-- gateway variables -->\n", "<!-- /gateway variables -->");
    let (before, rest) = readme.split_once(open).expect("the README marks the table's begin");
    let (found, after) = rest.split_once(close).expect("the README marks the table's end");
    #[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
    let updating = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    if found != table && updating {
        fs::write(&path, format!("{before}{open}{table}{close}{after}")).unwrap();
        return;
    }
    assert!(found == table, "UPDATE=1 cargo test. It should be\n{table}");
}
