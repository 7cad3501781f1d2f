//! The tools of TrueNAS, by what they are about.

mod alerts;
mod datasets;
mod snapshots;
mod status;

use crate::tool::{Entry, changing, reading};

pub(crate) const TOOLS: &[Entry] = &[
    reading::<status::Status>(),
    reading::<alerts::Alerts>(),
    reading::<datasets::ListDatasets>(),
    reading::<datasets::DatasetInfo>(),
    reading::<snapshots::ListSnapshots>(),
    changing::<snapshots::CreateSnapshot>(),
];
