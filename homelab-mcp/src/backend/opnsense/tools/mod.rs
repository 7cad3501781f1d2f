//! What a model sees of OPNsense.

mod restart;
mod status;

use crate::tool::{Entry, changing, reading};

pub(crate) const TOOLS: &[Entry] = &[reading::<status::Status>(), changing::<restart::Restart>()];

/// What `--check` looks for among the tools that are switched on.
pub(super) use restart::NAME as RESTART;
