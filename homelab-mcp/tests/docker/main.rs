//! Tests of the real binary against a real Docker Engine and compose plugin. `./test.sh --full` starts them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a step that fails ends its test, in a helper too")]

mod containers;
mod engine;
mod exec;
mod host;
mod inventory;
mod lab;
mod lifecycle;
mod logs;
mod redaction;
mod safety;
mod stacks;
mod stats;
mod stopping;
mod writing;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other test program uses the rest of it")]
mod support;
