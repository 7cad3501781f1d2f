//! The machine this runs on, or with HOST_ROOT the machine whose root is mounted there. sysinfo is the client; what it
//! cannot see from inside a container is read below HOST_ROOT.

mod model;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod sensors;
mod tools;

pub(crate) use tools::{TOOLS, check};
